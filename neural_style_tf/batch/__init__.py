"""Many pictures: jobs -> processes or a cluster -> a gallery."""
