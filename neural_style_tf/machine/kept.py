"""Kept: what was made of late, for the next pictures of a batch, within so much memory.

Pictures, features and graphs that several pictures of a gallery share are made once. A single run
keeps but its graphs: its memory is the picture's.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Kept:
    """Values by key, those of late; all others are made again when they are asked for."""

    def __init__(self, room: int):
        self.room = room  # bytes, or whatever sizes are told in
        self.taken = 0  # of it
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

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
            self.taken += size
        while self.taken > self.room:
            _, (_, size) = self._values.popitem(last=False)
            self.taken -= size
        return value


pictures = Kept(0)  # as inputs.py reads them
targets = Kept(0)  # as objective.py measures them
_graphs = Kept(20)  # whatever the room for all else: stages and tiles share them, too


def graph(key: Hashable, make: Callable[[], Any]) -> Any:
    """A graph, or what holds one, for pictures of a size. To trace one takes a second, but none may
    be held for good: each new size of picture needs some."""
    return _graphs.get(key, make, lambda _: 1)
