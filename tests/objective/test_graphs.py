"""The one cache of graphs."""

import threading
import weakref

import pytest

from neural_style_tf.machine.recent import LRUCache
from neural_style_tf.objective import graphs


class Owner:
    """Equal to every other, as two readings of a network file would be."""

    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(graphs, "_store", LRUCache(3))


def test_a_graph_is_made_once_for_each_owner_name_and_shapes():
    owner, made = Owner(), []

    def get(owner, name, *shapes):
        graphs.get(owner, name, shapes, lambda: made.append((name, *shapes)))

    for _ in range(2):
        get(owner, "step", (34, 45))
        get(owner, "step", (45, 34))
        get(owner, "losses", (34, 45))
    assert made == [("step", (34, 45)), ("step", (45, 34)), ("losses", (34, 45))]
    get(Owner(), "losses", (34, 45))
    assert len(made) == 4  # owners are compared by identity


def test_owners_are_held_as_long_as_their_graphs():
    owner = Owner()
    reference = weakref.ref(owner)
    graphs.get(owner, "step", (), object)
    del owner
    assert reference() is not None
    for name in range(3):  # newer ones, which take its place
        graphs.get(Owner, name, (), object)
    assert reference() is None


def test_making_one_graph_may_need_another():
    def make():
        return graphs.get(Owner, "inner", (), lambda: "inner") + " and outer"

    assert graphs.get(Owner, "outer", (), make) == "inner and outer"


def test_two_threads_share_what_the_first_makes():
    is_making, may_end, results = threading.Event(), threading.Event(), []

    def make():
        is_making.set()
        assert may_end.wait(30)
        return object()

    def run():
        results.append(graphs.get(Owner, "step", (), make))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    assert is_making.wait(30)
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join(30)
    assert len(results) == 2 and results[0] is results[1]
