"""Graphs: what has been traced or prepared for TensorFlow recently -> used again, not made again.

The one cache of `tf.function`s, of networks prepared to run (`backprop.Passes`) and of constants
that go with a size of picture. To trace a graph takes a second: the stages of a run, its tiles, and
the pictures of a batch share theirs.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.network import device

MOST_GRAPHS = 24  # each new size of picture needs four to seven
# Values of a picture, or of all that a graph is called with. Beyond, memory counts for more than
# the second that a trace takes next to the steps of such pictures.
LARGE_PICTURE = 16_000_000

_store = LRUCache(MOST_GRAPHS)
_lock = threading.RLock()  # to make one thing may need another: `objective.passes_of`


def get(owner: object, name: Hashable, shapes: Sequence[Hashable], make: Callable[[], Any]) -> Any:
    """What `make` returns; made once for each owner, name and shapes, until it is one of the least
    recently used.

    owner: the network or class that the graph belongs to. It is compared by identity, since a
        network's tensors have no equality, and held as long as the graph is: no other object can
        have its identity meanwhile.
    name: which of the owner's graphs, and everything else that it depends on: compared by equality.
    shapes: of the tensors that it is called with; empty for one that takes any.

    Thread-safe: a second thread waits while the first makes something. What is returned is shared,
    so nobody may change it.
    """
    with _lock:
        key = (id(owner), device.kind(), name, *shapes)
        _, made = _store.get(key, lambda: (owner, make()), lambda _: 1)
    return made
