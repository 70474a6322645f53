"""Recent: a cache that drops what was unused for longest."""

from neural_style_tf.machine.recent import LRUCache


def test_a_cache_stays_within_its_size():
    made = []

    def get(key):
        return cache.get(key, lambda: made.append(key) or key * 10, len)

    cache = LRUCache(45)
    assert [get(key) for key in "aabac"] == ["a" * 10, "a" * 10, "b" * 10, "a" * 10, "c" * 10]
    assert made == ["a", "b", "c"]
    assert [get(key) for key in "deb"] == ["d" * 10, "e" * 10, "b" * 10]  # b was dropped, unused
    assert made == ["a", "b", "c", "d", "e", "b"]
    assert cache.size == 40
    cache = LRUCache(0)
    assert get("f") == get("f") and made[-2:] == ["f", "f"]
