"""Processes that do jobs: in order, again where one died, and ended when the iterator is closed."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from shared import PATIENCE, ROOT, wait_for

from neural_style_tf.batch import processes, scheduling
from neural_style_tf.errors import UserError

SILENT_SECONDS = 5  # as none is that works, even on a machine that has much else to do


def doubler(factor=2):
    def work(job, report):
        report(job)
        return factor * job

    return work


def fragile(folder):
    """Dies of its first try at each odd job, and of every try at job 13."""

    def work(job, report):
        tried = os.path.join(folder, str(job))
        if job == 13 or (job % 2 and not os.path.exists(tried)):
            open(tried, "a").close()
            os._exit(9)
        return job

    return work


def sleeper():
    return lambda job, report: report(os.getpid()) or time.sleep(600)


def late(folder):
    """Has no time for a job when it is asked first."""

    def work(job, report):
        asked = os.path.join(folder, str(job))
        first = not os.path.exists(asked)
        open(asked, "a").close()
        return "busy" if first else job

    return work


def broken():
    os._exit(3)


def test_every_job_is_done_and_reported():
    events = list(processes.run(range(7), 2, doubler, (3,)))
    assert {event.job: event.value for event in events if event.kind == "done"} == {
        job: 3 * job for job in range(7)
    }
    assert [event.job for event in events if event.kind == "begun"] == list(range(7))
    assert sorted(event.value for event in events if event.kind == "progress") == list(range(7))
    assert {event.worker for event in events} <= {0, 1}
    assert list(processes.run([], 2, doubler)) == []


def test_a_job_whose_process_dies_is_tried_again_twice_at_most(tmp_path):
    events = list(processes.run([1, 2, 13, 3, 4], 2, fragile, (str(tmp_path),)))
    ends = {event.job: event.kind for event in events if event.kind in ("done", "died")}
    assert ends == {0: "done", 1: "done", 2: "died", 3: "done", 4: "done"}
    begun = [event.job for event in events if event.kind == "begun"]
    assert [begun.count(job) for job in range(5)] == [2, 1, 3, 2, 1]


def hanging(folder):
    """Sleeps forever at the first try of each odd job, and at every try of job 13."""

    def work(job, report):
        tried = os.path.join(folder, str(job))
        if job == 13 or (job % 2 and not os.path.exists(tried)):
            open(tried, "a").close()
            report(os.getpid())
            time.sleep(600)
        return job

    return work


@pytest.mark.slow
def test_a_job_whose_process_hangs_is_tried_again_twice_at_most(tmp_path):
    ended = []
    jobs = [1, 2, 13, 3]
    options = {"on_end": ended.append, "timeout": SILENT_SECONDS}
    events = list(processes.run(jobs, 2, hanging, (str(tmp_path),), **options))
    ends = {event.job: event.kind for event in events if event.kind in ("done", "hung", "died")}
    assert ends == {0: "done", 1: "done", 2: "hung", 3: "done"}
    begun = [event.job for event in events if event.kind == "begun"]
    assert [begun.count(job) for job in range(4)] == [2, 1, 3, 2]
    hung = {event.value for event in events if event.kind == "progress"}
    assert len(hung) == 5 and hung < set(ended)
    for process in hung:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


TELLS = 60


def lively():
    """Takes much longer than it is ever silent."""

    def work(job, report):
        for _ in range(TELLS):
            time.sleep(0.1)
            report(job)
        return job

    return work


def test_a_job_that_reports_progress_does_not_hang():
    events = list(processes.run([7], 1, lively, timeout=SILENT_SECONDS))
    assert [event.kind for event in events] == ["begun", *["progress"] * TELLS, "done"]


def test_processes_that_were_stopped_with_us_do_not_hang(monkeypatch):
    """As Ctrl-Z stops all of them; here only who asks was away."""
    monkeypatch.setattr(scheduling, "STOPPED_SECONDS", 1.0)
    events = processes.run([7], 1, lively, timeout=SILENT_SECONDS)
    kinds = [next(events).kind, next(events).kind]
    time.sleep(SILENT_SECONDS + 0.5)
    monkeypatch.setattr(processes._Processes, "receive", once(processes._Processes.receive))
    assert [*kinds, *(event.kind for event in events)] == ["begun", *["progress"] * TELLS, "done"]


def once(receive):
    """Nothing is received the first time, as if the processes had been stopped, too."""
    calls = []

    def receive_later(workers):
        calls.append(1)
        return receive(workers) if len(calls) > 1 else iter(())

    return receive_later


def stuck():
    time.sleep(600)


def test_a_process_that_hangs_before_its_first_job_is_reported(monkeypatch):
    monkeypatch.setattr(processes, "START_SECONDS", 0.2)
    with pytest.raises(UserError, match="worker processes cannot start"):
        list(processes.run([1], 1, stuck, timeout=0.1))


def test_there_are_no_more_processes_than_can_be_waited_for(monkeypatch):
    monkeypatch.setattr(processes, "MAX_PROCESSES", 2)
    events = list(processes.run(range(9), 5, doubler))
    assert {event.worker for event in events} <= {0, 1}
    assert sum(event.kind == "done" for event in events) == 9


def test_a_job_that_has_to_wait_is_asked_for_again(tmp_path):
    events = processes.run(
        [1, 2, 3], 1, late, (str(tmp_path),), is_busy=lambda value: value == "busy"
    )
    assert [event.value for event in events if event.kind == "done"] == [1, 2, 3]


def own_process():
    return lambda job, report: (job, os.getpid())


def test_a_process_that_has_done_jobs_of_many_kinds_is_replaced(monkeypatch):
    monkeypatch.setattr(processes, "MAX_KINDS", 2)
    events = list(processes.run(range(7), 1, own_process, kinds=[1, 1, 2, 2, 3, 4, 5]))
    done = [event.value for event in events if event.kind == "done"]
    assert [job for job, _ in done] == list(range(7))
    first, second, third = (done[job][1] for job in (0, 4, 6))
    assert [process for _, process in done] == [first] * 4 + [second] * 2 + [third]
    assert len({first, second, third}) == 3 and len(events) == 14


def test_a_process_goes_on_with_jobs_of_one_kind(tmp_path):
    jobs = [10, 20, 11, 21, 12, 13, 22, 23]
    kinds = [job // 10 for job in jobs]
    events = processes.run(jobs, 2, together, (str(tmp_path),), kinds=kinds)
    done = [(event.worker, jobs[event.job]) for event in events if event.kind == "done"]
    first, second = ([job for worker, job in done if worker == place] for place in (0, 1))
    assert sorted([first[:2], second[:2]]) == [[10, 11], [20, 21]]
    assert sorted(first + second) == sorted(jobs)


def together(folder):
    """Does its first job when both processes have one, and its second likewise."""
    number = 0

    def work(job, report):
        nonlocal number
        number += 1
        if number <= 2:
            open(os.path.join(folder, f"{os.getpid()}-{number}"), "a").close()
            wait_for(lambda: len(os.listdir(folder)) >= 2 * number)
        return job

    return work


def test_a_process_that_cannot_start_is_reported():
    with pytest.raises(UserError, match="worker processes cannot start"):
        list(processes.run([1], 1, broken))


def unable():
    raise UserError("the GPU cannot be opened: end other programs")


def test_why_no_process_can_start_is_said_in_one_line(capfd):
    with pytest.raises(UserError, match=r"^the GPU cannot be opened: end other programs$"):
        list(processes.run([1], 1, unable))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 imports from that folder")
def test_a_process_imports_nothing_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "multiprocessing.py").write_text("raise Exception")
    monkeypatch.chdir(tmp_path)
    *_, last = processes.run([4], 1, doubler)
    assert (last.kind, last.value) == ("done", 8)


ASKS = """
from neural_style_tf.batch import processes
from neural_style_tf.errors import UserError

def start():
    import needed
    return lambda job, report: needed.PROCESS

if __name__ == "__main__":
    try:
        events = list(processes.run(range(4), 2, start, preload="needed"))
        print(*{event.value for event in events if event.kind == "done"})
    except UserError as error:
        print(error)
"""


def asks(folder, needed):
    """A program whose workers need a module of these lines."""
    (folder / "needed.py").write_text("import os, time\nPROCESS = os.getpid()\n" + needed)
    (folder / "asks.py").write_text(ASKS)
    return subprocess.Popen(
        [sys.executable, folder / "asks.py"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


forks = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


@forks
@pytest.mark.parametrize("needed, output", [("", r"\d+"), ("os._exit(3)", ".* cannot start: .*")])
def test_what_all_need_is_imported_once(needed, output, tmp_path):
    out, err = asks(tmp_path, needed).communicate(timeout=PATIENCE)
    assert re.fullmatch(output, out.strip()) and not err


@pytest.mark.posix
@forks
def test_ctrl_c_while_it_is_imported_is_for_who_asks(tmp_path):
    needed = "open('begun', 'w').close()\nwhile not os.path.exists('on'): time.sleep(0.01)\n"
    process = asks(tmp_path, needed + "open('done', 'w').close()")
    wait_for((tmp_path / "begun").exists)
    os.killpg(process.pid, signal.SIGINT)
    (tmp_path / "on").touch()
    wait_for((tmp_path / "done").exists)
    _, err = process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in err and "needed.py" not in err


def test_whoever_closes_the_iterator_leaves_no_process():
    ended = []
    events = processes.run([1, 2], 2, sleeper, on_end=ended.append)
    numbers = [event.value for event in (next(events) for _ in range(4)) if event.value]
    assert len(numbers) == 2
    events.close()
    assert sorted(ended) == sorted(numbers)
    for process in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
