"""Viewers: 500 clients at once, then malformed requests, at the page of a run that paints.

The run is in a process of its own, with few file descriptors. It has to paint on, at no more than
`MOST_SHARE` of its time for the page; nothing is to be seen without the token; nothing is answered
by a failure of the server; and in the end no descriptor and little memory is left in use.
"""

import asyncio
import contextlib
import functools
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from launcher import ROOT

WANTED = 10_000
CLIENTS = 500
CROWD_SECONDS = 15.0
ALONE_SECONDS = 5.0  # before them, to compare with
AT_A_TIME = 24  # malformed requests at the same time
MOST_SHARE = 0.03
MOST_GROWTH = 100 << 20  # bytes
THREADS = "preview", "asyncio"  # how the names of the page's threads begin
DESCRIPTORS = 256  # of the run
ANSWER_SECONDS = 30.0
PART_SECONDS = 3.0  # without an answer: the request may not be whole, and is ended
TOKEN = b"@token@"  # stands for the real one, which differs from run to run
SECRET = re.compile(rb"\xff\xd8\xff|text/event-stream|<canvas|Traceback")  # pictures, news, page


class Request(NamedTuple):
    data: bytes
    statuses: tuple[int, ...]  # that it may have; 0 for no answer at all


class Run:
    """The process that paints."""

    def __init__(self, folder: Path):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soak.viewers", str(folder)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        address = self._process.stdout.readline()
        match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", address)
        self.port, self.token = int(match[1]), match[2].encode()

    def figures(self) -> dict[str, Any]:
        """What it measures: see `paint`. Raises `ValueError` once it has ended."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def painting(folder: Path) -> Iterator[Run]:
    run = Run(folder)
    try:
        yield run
    finally:
        run.end()


def soak(soak: Any) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 19)  # so that the clients wait, not the run
    with painting(soak.folder) as run:
        start = run.figures()
        time.sleep(ALONE_SECONDS)
        before = run.figures()
        check_share(soak, "nobody", start, before)
        if soak.wants_more():
            served = asyncio.run(crowd(run, random.Random(soak.random.random())))
            soak.note(f"the crowd: viewers who behave were served {served} times")
            if not served:
                soak.fail("shut out", "nobody who behaves was served")
            soak.count(CLIENTS)
            after = run.figures()
            check_share(soak, "the crowd", before, after)
            check_left(soak, "the crowd", before, settled(run, before))
        if soak.wants_more():
            malformed(soak, run, before)
        if run.figures()["stops"]:
            soak.fail("stopped", "a request without the token has stopped the run")


def malformed(soak: Any, run: Run, before: dict[str, Any]) -> None:
    """Sends malformed requests until there were enough. before: the figures without any client."""
    start = run.figures()
    while soak.wants_more():
        requests = [request(soak.random) for _ in range(200)]
        for each, message in zip(requests, asyncio.run(send_all(run, requests)), strict=True):
            if message:
                soak.fail(message.partition(":")[0], message, each.data)
        soak.count(len(requests))
    check_share(soak, "malformed requests", start, run.figures())
    check_left(soak, "malformed requests", before, settled(run, before))


def replay(path: Path) -> str | None:
    with tempfile.TemporaryDirectory() as folder, painting(Path(folder)) as run:
        data = path.read_bytes()
        return asyncio.run(send_all(run, [Request(data, (0, *range(200, 500)))]))[0]


def check_share(soak: Any, what: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Of the run's time, what the page took: by its calls, and of the processors by its threads.
    In time on a processor, since whatever else the machine does makes all else longer."""
    seconds = after["seconds"] - before["seconds"]
    calls, waits, threads = (
        (after[name] - before[name]) / seconds
        for name in ("call_seconds", "wall_seconds", "thread_seconds")
    )
    share = calls + threads / len(os.sched_getaffinity(0))
    soak.note(
        f"{what}: the page took {share:.2%} of the run's time: its calls {calls:.2%} ({waits:.2%} "
        f"with what they waited for), its threads {threads:.2%} of one processor"
    )
    if share > MOST_SHARE and soak.is_timed:
        soak.fail("slow", f"{what}: the page took {share:.2%} of the run's time")
    if after["steps"] == before["steps"]:
        soak.fail("stands", f"{what}: the run has painted no step")
    if after["unopened"]:
        soak.fail("descriptors", f"{what}: the run could not open a file {after['unopened']} times")


def settled(run: Run, before: dict[str, Any]) -> dict[str, Any]:
    """The figures once all connections have ended, or after a while."""
    end = time.monotonic() + 30
    while (figures := run.figures())["descriptors"] > before["descriptors"]:
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    return figures


def check_left(soak: Any, what: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    growth = after["bytes"] - before["bytes"]
    extra = after["descriptors"] - before["descriptors"]
    soak.note(f"{what}: {extra} descriptors and {growth / 1e6:.0f} MB more than before")
    if extra > 0:
        soak.fail("descriptors", f"{what}: {extra} descriptors are left in use")
    if growth > MOST_GROWTH:
        soak.fail("memory", f"{what}: {growth / 1e6:.0f} MB are left in use")


# The crowd


async def crowd(run: Run, chance: random.Random) -> int:
    """All kinds of clients at once. Returns how often a well-behaved client was served."""
    served = []
    end = time.monotonic() + CROWD_SECONDS
    kinds = functools.partial(watch, served), read_slowly, never_read, drop, say_nothing
    clients = [visit(run, kinds[number % len(kinds)], end, chance) for number in range(CLIENTS)]
    await asyncio.gather(*clients)
    return len(served)


async def visit(run: Run, behave: Callable, end: float, chance: random.Random) -> None:
    """One client, which connects again and again. It does not matter how its connections end."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            async with asyncio_timeout(end):
                opening = asyncio.open_connection("127.0.0.1", run.port, limit=4096)
                reader, writer = await opening
                try:
                    await behave(reader, writer, run, chance)
                finally:
                    writer.transport.abort()
        await asyncio.sleep(0.3)


@contextlib.asynccontextmanager
async def asyncio_timeout(end: float) -> AsyncIterator[None]:
    """`asyncio.timeout_at`, which Python 3.10 has not; end: by the monotonic clock."""
    timer = asyncio.get_running_loop().call_later(
        max(0, end - time.monotonic()), asyncio.current_task().cancel
    )
    try:
        yield
    except asyncio.CancelledError:
        raise asyncio.TimeoutError from None
    finally:
        timer.cancel()


def get(path: str, run: Run) -> bytes:
    return b"GET /%s?token=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (path.encode(), run.token)


async def watch(
    served: list[int], reader: Any, writer: Any, run: Run, chance: random.Random
) -> None:
    """As a browser does: the page, the news, pictures."""
    writer.write(get(chance.choice(["", "photo", "picture", "events"]), run))
    if (await reader.read(65536)).startswith(b"HTTP/1.1 200 "):
        served.append(1)
    while await reader.read(65536):
        pass


async def read_slowly(reader: Any, writer: Any, run: Run, chance: random.Random) -> None:
    writer.write(get(chance.choice(["events", "picture"]), run))
    while await reader.read(100):
        await asyncio.sleep(0.5)


async def never_read(_: Any, writer: Any, run: Run, chance: random.Random) -> None:
    writer.transport.pause_reading()
    writer.write(get(chance.choice(["events", "picture"]), run))
    await asyncio.sleep(CROWD_SECONDS)


async def drop(_: Any, writer: Any, run: Run, chance: random.Random) -> None:
    whole = get("picture", run)
    writer.write(whole[: chance.randrange(len(whole) + 1)])
    await asyncio.sleep(chance.random() / 10)


async def say_nothing(*_: Any) -> None:
    await asyncio.sleep(CROWD_SECONDS)


# Malformed requests


async def send_all(run: Run, requests: list[Request]) -> list[str | None]:
    """What is wrong with each answer, or None."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def judged(request: Request) -> str | None:
        async with gate:
            try:
                return judge(
                    request, await asyncio.wait_for(answer(run, request.data), ANSWER_SECONDS)
                )
            except asyncio.TimeoutError:
                return f"hangs: no answer within {ANSWER_SECONDS:g} seconds"

    return await asyncio.gather(*map(judged, requests))


async def answer(run: Run, data: bytes) -> bytes:
    """All that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
    received = b""
    try:
        with contextlib.suppress(OSError):
            writer.write(data.replace(TOKEN, run.token))
            try:
                received = await asyncio.wait_for(reader.read(65536), PART_SECONDS)
            except asyncio.TimeoutError:
                writer.write_eof()
            while b"text/event-stream" not in received and (piece := await reader.read(65536)):
                received += piece
    finally:
        writer.transport.abort()
    return received


def judge(request: Request, answer: bytes) -> str | None:
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    number = int(status[1]) if status else 0
    if number not in request.statuses:
        return f"status {number}: for {request.data[:200]!r}"
    if number != 200 and SECRET.search(answer):
        return f"leak: {answer[:300]!r} for {request.data[:200]!r}"
    if answer.count(b"HTTP/1.1 ") > 1:
        return f"several answers: for {request.data[:200]!r}"
    return None


PATHS = ["/", "/picture", "/photo", "/checkpoint/0", "/events", "/stop", "/save", "/close", "/x"]
HOST = b"Host: localhost\r\n"


def request(chance: random.Random) -> Request:
    """A malformed request of any kind, or one that is not allowed."""
    return chance.choice(KINDS)(chance)


def some_bytes(chance: random.Random, most: int = 200) -> bytes:
    return chance.randbytes(chance.randrange(most))


def word(chance: random.Random, letters: bytes, most: int = 30) -> bytes:
    return bytes(chance.choices(letters, k=chance.randint(1, most)))


def path(chance: random.Random) -> bytes:
    return chance.choice(PATHS).encode()


def wrong_method(chance: random.Random) -> Request:
    known = [b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"CONNECT", b"PATCH", b"PRI"]
    method = chance.choice([*known, word(chance, b"ABCgz-_!#$%'\0 \t", 2000)])
    version = chance.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"http/1.1", b""])
    return Request(b"%s %s %s\r\n%s\r\n" % (method, path(chance), version, HOST), (0, 400, 403))


def many_headers(chance: random.Random) -> Request:
    count, size = chance.choice([(5000, 10), (3, 30_000), (1, 1_000_000), (100, 1000)])
    lines = b"".join(b"A%d: %s\r\n" % (number, b"x" * size) for number in range(count))
    return Request(b"GET %s HTTP/1.1\r\n%s%s\r\n" % (path(chance), HOST, lines), (0, 400, 403))


def foreign_host(chance: random.Random) -> Request:
    hosts = [b"evil.example", b"localhost.evil.example", b"evil.example:80", b"", b"127.0.0.1.evil"]
    host = chance.choice([*hosts, word(chance, b"abc.:[]%@/\\ \xc3\xa9")])
    method = chance.choice([b"GET", b"POST", b"HEAD"])
    data = b"%s %s?token=%s HTTP/1.1\r\nHost: %s\r\nX-Token: %s\r\n\r\n"
    return Request(data % (method, path(chance), TOKEN, host, TOKEN), (0, 400))


def foreign_origin(chance: random.Random) -> Request:
    origins = [b"null", b"http://evil.example", b"http://localhost:1", b"", b"localhost"]
    origin = chance.choice([*origins, b"http://" + word(chance, b"abc.:/@%")])
    method = chance.choice([b"GET", b"POST", b"HEAD"])
    data = b"%s %s?token=%s HTTP/1.1\r\n%sOrigin: %s\r\nX-Token: %s\r\n\r\n"
    if origin == b"localhost":
        origin = b"http://localhost.example"
    return Request(data % (method, path(chance), TOKEN, HOST, origin, TOKEN), (403,))


def wrong_token(chance: random.Random) -> Request:
    tokens = [b"", TOKEN + b"x", b"x" + TOKEN, TOKEN[1:], TOKEN * 2, b"%00" + TOKEN, b"\xff" * 22]
    token = chance.choice([*tokens, word(chance, b"abcXYZ019-_%&=+", 5000)])
    method = chance.choice([b"GET", b"POST", b"HEAD"])
    in_header = b"X-Token: %s\r\n" % token if chance.random() < 0.5 else b""
    data = b"%s %s?token=%s HTTP/1.1\r\n%s%s\r\n"
    return Request(data % (method, path(chance), token, HOST, in_header), (0, 400, 403))


def button_by_address(chance: random.Random) -> Request:
    """The token in the address allows to look, not to press a button."""
    button = chance.choice([b"/stop", b"/save", b"/close"])
    data = b"POST %s?token=%s HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n"
    return Request(data % (button, TOKEN, HOST), (403,))


def traversal(chance: random.Random) -> Request:
    up = chance.choice([b"/..", b"/%2e%2e", b"/..%2f", b"/.%2e", b"/..\\", b"/%252e%252e", b"//"])
    start = chance.choice([b"", b"/checkpoint", b"/picture", b"/checkpoint/0"])
    end = chance.choice([b"/etc/passwd", b"/proc/self/environ", b"/preview.py", b"%00", b""])
    target = start + up * chance.randint(1, 20) + end
    data = b"GET %s?token=%s HTTP/1.1\r\n%s\r\n" % (target, TOKEN, HOST)
    return Request(data, (307, 400, 404))


def unicode(chance: random.Random) -> Request:
    text = "".join(chr(chance.choice([0xE9, 0x661, 0x202E, 0x1F600, 0xFFFD])) for _ in range(20))
    raw = text.encode()
    target = chance.choice([raw, b"".join(b"%%%02X" % byte for byte in raw), b"checkpoint/" + raw])
    data = b"GET /%s?token=%s HTTP/1.1\r\n%sA: %s\r\n\r\n" % (target, TOKEN, HOST, raw)
    return Request(data, (400, 404))


def huge_number(chance: random.Random) -> Request:
    digits = chance.choice([b"9" * 10, b"9" * 4300, b"9" * 5000, b"9" * 15_000, b"-1", b"1e9"])
    digits = chance.choice([digits, b"%D9%A1", b"0x10", b"1_0", b"+1", b"1.5", b" 1", b"%201"])
    if chance.random() < 0.7:
        data = b"GET /checkpoint/%s?token=%s HTTP/1.1\r\n%s\r\n" % (digits, TOKEN, HOST)
        return Request(data, (400, 404))
    data = b"POST /stop HTTP/1.1\r\n%sContent-Length: %s\r\n\r\nx" % (HOST, digits)
    return Request(data, (0, 400, 403))


def chunks(chance: random.Random) -> Request:
    size = chance.choice([b"ffffffffffffffffff", b"-1", b"zz", b"5;a=" + b"b" * 9000, b"0", b"3"])
    more = chance.choice([b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: gzip\r\n"])
    data = b"POST /stop HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n%s\r\n%s\r\n%s"
    return Request(data % (HOST, more, size, some_bytes(chance)), (0, 400, 403, 501))


def smuggled(chance: random.Random) -> Request:
    lines = [b"Content-Length : 30", b"Content-Length: 30\r\nContent-Length: 0", b"A: b\r\n c: d"]
    lines += [b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked", b"A: b\nHost: x"]
    line = chance.choice(lines)
    inner = b"POST /stop HTTP/1.1\r\n%sX-Token: guessed\r\n\r\n" % HOST
    data = b"POST /save HTTP/1.1\r\n%s%s\r\n\r\n%s" % (HOST, line, inner)
    return Request(data, (0, 400, 403, 501))


def pipelined(chance: random.Random) -> Request:
    first = b"GET %s HTTP/1.1\r\n%s\r\n" % (chance.choice([b"/", b"/photo"]), HOST)
    second = b"GET /photo?token=%s HTTP/1.1\r\n%s\r\n" % (TOKEN, HOST)
    return Request(first + second * chance.randint(1, 50), (403,))


def mutated(chance: random.Random) -> Request:
    """A valid request with some bytes changed: it may still be valid."""
    data = bytearray(b"GET %s?token=%s HTTP/1.1\r\n%s\r\n" % (path(chance), TOKEN, HOST))
    end = data.index(TOKEN)
    for _ in range(chance.randint(1, 4)):
        place = chance.choice([*range(end), *range(end + len(TOKEN), len(data))])
        data[place] = chance.randrange(256)
    return Request(bytes(data), (0, 200, 400, 403, 404, 405))


def noise(chance: random.Random) -> Request:
    return Request(some_bytes(chance, 70_000), (0, 400))


KINDS = [
    *(wrong_method, many_headers, foreign_host, foreign_origin, wrong_token, button_by_address),
    *(traversal, unicode, huge_number, chunks, smuggled, pipelined, mutated, noise),
]


# The run, in a process of its own


def paint(folder: Path) -> None:
    """Paints until it is killed. Prints the page's address, then for each line of its input the
    figures: steps, seconds, seconds in calls of the page, of these on a processor, and of its
    threads on one, files that could not be opened, requests to stop, descriptors and bytes
    in use."""
    import reference

    from neural_style_tf.machine import tensorflow_setup

    tensorflow_setup.start(False)
    import numpy as np

    from neural_style_tf.painting import stages
    from neural_style_tf.painting.stylize import stylize
    from neural_style_tf.runs.preview import Preview, listener
    from neural_style_tf.settings import Settings

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    listener.SECONDS_WITHOUT_PROGRESS = 5.0  # a soak waits less
    network = reference.save_mat(folder / "tiny.mat", reference.tiny_weights())
    photo, painting = np.random.default_rng(0).uniform(0, 255, (2, 256, 320, 3)).astype("f4")
    options = {"iterations": 10**6, "scales": "off", "precision": "float32"}
    figures = {"steps": 0, "call_seconds": 0.0, "wall_seconds": 0.0, "unopened": 0, "stops": 0}
    preview = Preview("127.0.0.1", 0, "out.png")

    def stop() -> None:
        figures["stops"] += 1

    def see(step: Any) -> None:
        began = time.perf_counter(), time.thread_time()
        preview.see(step)
        figures["wall_seconds"] += time.perf_counter() - began[0]
        figures["call_seconds"] += time.thread_time() - began[1]
        figures["steps"] += 1
        try:
            open(os.devnull).close()
        except OSError:
            figures["unopened"] += 1
        if figures["steps"] == 5:
            threading.Thread(target=report, args=(figures, preview), daemon=True).start()

    preview.begin(photo, stages.plan(256, 320, Settings(**options)), stop, lambda image: image)
    list(stylize(network, photo, [painting], on_step=see, optimizer="adam", **options))


def report(figures: dict[str, Any], preview: Any) -> None:
    print(preview.address, flush=True)
    for _ in sys.stdin:
        # its server's, and those that encode pictures
        threads = [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]
        clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threads]
        figures["thread_seconds"] = sum(map(time.clock_gettime, clocks))
        used = {"descriptors": len(os.listdir("/proc/self/fd")), "seconds": time.monotonic()}
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(json.dumps(figures | used | {"bytes": pages * resource.getpagesize()}), flush=True)
    os._exit(0)  # the process that asks has ended


if __name__ == "__main__":
    paint(Path(sys.argv[1]))
