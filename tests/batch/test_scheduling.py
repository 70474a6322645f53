"""Scheduling, against workers that are simulated: no processes, no time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_style_tf.batch import scheduling
from neural_style_tf.batch.scheduling import TRIES, LastReports, Report, Schedule

TIMEOUT = 10
FAILURES = "died", "hung"
# What becomes of an attempt, drawn for each: "late" reports after the attempt has ended.
FATES = "done", "progress", "died", "hung", "busy", "returned", "late"


class Simulated:
    """Workers whose attempts end as the fates say, in any order; without a fate, all are done."""

    def __init__(self, count, capacity=1, fates=()):
        self.names = [f"worker {number}" for number in range(count)]
        self.fates, self.most = iter(fates), capacity
        self.attempts, self.log, self.reports, self.replaced = {}, [], [], []
        self.is_stopped = False

    def start(self):
        pass

    def ready(self):
        return self.names

    def capacity(self, waiting):
        return self.most

    def send(self, attempt, kind):
        assert sum(other.worker == attempt.worker for other in self.attempts.values()) < self.most
        self.attempts[attempt.number] = attempt
        self.log.append((attempt, kind))

    def receive(self):
        fate, turn = next(self.fates, ("done", 0))
        numbers = list(self.attempts)
        number = numbers[turn % len(numbers)]
        yield Report(number, "begun")
        if fate == "progress":
            yield Report(number, "progress", (1, 2))
            return
        self.attempts.pop(number)
        yield Report(number, "done" if fate == "late" else fate, "value")
        if fate == "late":
            yield from (Report(number, kind) for kind in ("progress", "died", "busy", "done"))

    def replace(self, worker, ends):
        self.replaced.append(worker)
        for end in ends:
            del self.attempts[end.attempt]

    def stop(self):
        self.is_stopped = True


fates = st.lists(st.tuples(st.sampled_from(FATES), st.integers(0, 9)), max_size=60)
kinds = st.lists(st.integers(0, 4), max_size=20)


@given(kinds, st.integers(1, 4), st.integers(1, 3), fates)
def test_every_job_ends_exactly_once_after_no_more_tries_than_it_may_have(
    kinds, count, capacity, fates
):
    workers = Simulated(count, capacity, fates)
    events = list(scheduling.run(kinds, workers))
    ends = {event.job: event.kind for event in events if event.kind in ("done", *FAILURES)}
    assert sorted(ends) == list(range(len(kinds)))
    assert len(ends) == sum(event.kind in ("done", *FAILURES) for event in events)
    assert {event.worker for event in events} <= set(range(count))
    for job, kind in ends.items():
        tries = [attempt.tries for attempt, _ in workers.log if attempt.job == job]
        assert tries == sorted(tries) and set(tries) == set(range(1, max(tries) + 1))
        assert max(tries) == TRIES if kind in FAILURES else max(tries) <= TRIES
    assert workers.is_stopped


@given(kinds, st.integers(1, 4))
def test_a_worker_goes_on_with_its_kind_and_leaves_others_theirs(kinds, count):
    workers = Simulated(count)
    list(scheduling.run(kinds, workers))
    waiting, last = list(range(len(kinds))), {}
    for attempt, kind in workers.log:
        own, others = last.get(attempt.worker), {last[name] for name in last} - {None}
        waiting_kinds = {kinds[job] for job in waiting}
        if own in waiting_kinds:
            assert kind == own
        elif waiting_kinds - others:
            assert kind not in others
        assert attempt.job == min(job for job in waiting if kinds[job] == kind)
        waiting.remove(attempt.job)
        last[attempt.worker] = kind
    assert waiting == []


@given(st.integers(1, 5), st.integers(1, 6))
def test_with_a_worker_per_kind_none_does_two_kinds(count, length):
    workers = Simulated(count)
    list(scheduling.run([kind for _ in range(length) for kind in range(count)], workers))
    assert len({(attempt.worker, kind) for attempt, kind in workers.log}) == count


def test_jobs_of_one_kind_are_done_in_order():
    events = list(scheduling.run([None] * 5, Simulated(2, capacity=2)))
    assert [event.job for event in events if event.kind == "done"] == list(range(5))


def test_a_job_that_has_to_wait_comes_last_and_leaves_its_worker_free_for_other_kinds():
    workers = Simulated(1, fates=[("busy", 0)])
    list(scheduling.run([1, 2, 1], workers))
    assert [attempt.job for attempt, _ in workers.log] == [0, 1, 2, 0]
    assert [attempt.tries for attempt, _ in workers.log] == [1] * 4


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def begun(schedule, *workers):
    """Attempts at the first jobs, begun by these workers."""
    attempts = [schedule.assign(worker) for worker in workers]
    for attempt in attempts:
        schedule.take(Report(attempt.number, "begun"))
    return attempts


def pass_seconds(schedule, clock, seconds):
    """Lets time pass, in which the schedule looks at the workers every second. Returns those that
    hang."""
    hanging = {}
    for _ in range(seconds):
        clock.seconds += 1
        hanging |= schedule.hanging()
    return hanging


def test_a_worker_that_is_silent_for_too_long_hangs_and_its_other_jobs_lose_no_try(clock):
    schedule = Schedule([None] * 3, TIMEOUT, clock)
    silent, lively = begun(schedule, "silent", "lively")
    queued = schedule.assign("silent")
    assert pass_seconds(schedule, clock, TIMEOUT) == {}
    schedule.take(Report(lively.number, "progress"))
    ends = [Report(silent.number, "hung"), Report(queued.number, "returned")]
    assert pass_seconds(schedule, clock, 1) == {"silent": ends}
    assert [schedule.take(end) for end in ends] == [None, None]
    assert schedule.loads() == {"lively": 1} and schedule.hanging() == {}
    again = [schedule.assign("lively") for _ in range(2)]
    assert {(attempt.job, attempt.tries) for attempt in again} == {(0, 2), (2, 1)}


def test_a_job_that_has_not_begun_does_not_hang(clock):
    schedule = Schedule([None], TIMEOUT, clock)
    schedule.assign("worker")
    assert pass_seconds(schedule, clock, 10 * TIMEOUT) == {}


def test_a_job_that_another_worker_has_taken_over_hangs_there(clock):
    schedule = Schedule([None], TIMEOUT, clock)
    attempt = schedule.assign("first")
    schedule.take(Report(attempt.number, "begun", None, "second"))
    assert list(pass_seconds(schedule, clock, TIMEOUT + 1)) == ["second"]


def test_the_time_in_which_all_were_stopped_does_not_count(clock):
    reports = LastReports(clock)
    reports.note("worker")
    clock.seconds = 1000.0
    assert reports.silent(TIMEOUT) == set()
    for clock.seconds in range(1001, 1001 + TIMEOUT):
        assert reports.silent(TIMEOUT) == set()
    clock.seconds += 1.5
    assert reports.silent(TIMEOUT) == {"worker"}
    reports.forget("worker")
    assert reports.silent(TIMEOUT) == set()


def test_workers_that_hang_are_replaced(clock, monkeypatch):
    """The first worker begins its job and reports nothing more."""
    workers = Simulated(2)
    receive = workers.receive

    def silent_at_first():
        clock.seconds += 1
        if workers.replaced:
            return receive()
        return iter([Report(0, "begun")] if clock.seconds == 1 else [])

    workers.receive = silent_at_first
    monkeypatch.setattr(scheduling, "Schedule", lambda *arguments: Schedule(*arguments, clock))
    events = list(scheduling.run([None] * 2, workers, TIMEOUT))
    assert workers.replaced == ["worker 0"]
    assert sorted(event.job for event in events if event.kind == "done") == [0, 1]
    assert [(attempt.job, attempt.tries) for attempt, _ in workers.log] == [(0, 1), (1, 1), (0, 2)]


def test_the_kind_of_a_worker_that_has_gone_is_free():
    schedule = Schedule([1, 2, 1])
    for worker in ("first", "second"):
        schedule.take(Report(schedule.assign(worker).number, "done"))
    schedule.forget_all_but(["second"])
    assert schedule.assign("second").job == 2


def test_whoever_closes_the_iterator_stops_the_workers():
    workers = Simulated(1)
    events = scheduling.run([None] * 3, workers)
    next(events)
    events.close()
    assert workers.is_stopped
