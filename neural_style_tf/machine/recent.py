"""Recent: what was made recently, kept for the next pictures within a limit on its size.

Pictures and features that several pictures of a batch share are made once. A single run keeps
none, so that its memory is the picture's. Not safe to use from several threads at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class LRUCache:
    """Values by key. When they take more than `max_size`, those unused for longest are dropped."""

    def __init__(self, max_size: int):
        """max_size: in bytes, or in whatever unit `size_of` counts. It may be changed later."""
        self.max_size = max_size
        self.size = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any], size_of: Callable[[Any], int]) -> Any:
        """The value of a key, made if it is missing. size_of: the size of a new value; one larger
        than `max_size` is returned and not kept. Callers share the value and must not change it."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value = make()
        size = size_of(value)
        if size <= self.max_size:
            self._values[key] = value, size
            self.size += size
        while self.size > self.max_size:
            _, (_, size) = self._values.popitem(last=False)
            self.size -= size
        return value

    def clear(self) -> None:
        self._values.clear()
        self.size = 0


pictures = LRUCache(0)  # bytes, of pictures as inputs.py reads them
targets = LRUCache(0)  # bytes, of targets as objective.py measures them
