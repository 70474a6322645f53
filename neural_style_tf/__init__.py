"""Neural style: repaints a photo in the style of paintings (Gatys, Ecker and Bethge 2015, 2016)."""
