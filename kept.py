"""Kept: what was made of late, for the next pictures of a batch, within so much memory.

Pictures and features that several pictures of a gallery share are made once. A single run keeps
none of these: its memory is the picture's.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Kept:
    """Values by key, those of late; all others are made again when they are asked for."""

    def __init__(self, room: int):
        self.room = room  # bytes, or whatever sizes are told in
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._taken = 0

    def get(self, key: Hashable, make: Callable[[], Any], size_of: Callable[[Any], int]) -> Any:
        """The value, made if it is not there; size_of: the room that it takes. It is shared: who
        gets it changes nothing about it."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value = make()
        size = size_of(value)
        if size <= self.room:
            self._values[key] = value, size
            self._taken += size
        while self._taken > self.room:
            _, (_, size) = self._values.popitem(last=False)
            self._taken -= size
        return value


pictures = Kept(0)  # as inputs.py reads them
targets = Kept(0)  # as objective.py measures them
