"""Values: random ones of every kind that a file or a command line may hold."""

import random
from typing import Any

NUMBERS = [
    *(0, 1, -1, 2, 3, 0.5, -0.0, 1e-320, 1e308, -1e308, 255, 256, 2**31, 2**31 - 1, -(2**31)),
    *(2**63, 2**64, 10**30, -(10**30), 10**400, float("nan"), float("inf"), float("-inf")),
]
STRINGS = [
    *("", " ", "-", "--", "a", "é", "фото.jpg", "a\nb", "a\r\nb", "a\0b", "\x1b[31mred", "\u2028"),
    *("\ud800", "\udcff.png", "😀" * 20, "x" * 300, "null", "true", "nan", "0x10", "1_000", "٣"),
    *("%s%n%d", "{content}", "{0.__class__}", "$HOME", "`id`", "'", '"', "it's", "#", "@recipe"),
    *("auto", "off", "lbfgs", "adam", "luma", "relu1_1", "relu9_9", "relu1_1=2", "conv1_1=nan"),
]
PATHS = [
    *("/etc/passwd", "/etc/hostname", "../outside.png", "../../x", "/dev/zero", "/dev/stdin", "."),
    *("..", "/", "./photo.png", "photo.png", "victim.png", "victim.txt", "\\\\host\\share\\x.png"),
    *("C:\\x.png", "file:///etc/passwd", "http://127.0.0.1/x", "/proc/self/mem", "~/x", "x/y.png"),
    *("/tmp/soak-wrote-here.png", "../soak-wrote-here.png", "CON", "nul.png", "network.mat"),
]


def text(generator: random.Random) -> str:
    """A string, rarely a very long one."""
    kind = generator.random()
    if kind < 0.45:
        return generator.choice(STRINGS)
    if kind < 0.8:
        return generator.choice(PATHS)
    if kind < 0.82:
        return generator.choice("x9é\n,[") * 200_000
    letters = "abcxyz012_-=./\\ \t\n'\"é\ud83d{}%@#"
    return "".join(generator.choices(letters, k=generator.randrange(40)))


def value(generator: random.Random, depth: int = 0) -> Any:
    """Anything that JSON can hold, and numbers that it cannot."""
    kind = generator.random()
    if kind < 0.1:
        return None
    if kind < 0.2:
        return generator.random() < 0.5
    if kind < 0.45:
        return generator.choice(NUMBERS)
    if kind < 0.75 or depth > 2:
        return text(generator)
    inner = [value(generator, depth + 1) for _ in range(generator.randrange(4))]
    if kind < 0.9:
        return inner
    return {text(generator): item for item in inner}


def noisy(generator: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them changed, removed, repeated, moved or cut off."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 3, 8, 30))):
        place = generator.randrange(len(changed) + 1)
        end = min(len(changed), place + generator.choice((1, 1, 2, 4, 16, 200)))
        kind = generator.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[place:end] = generator.randbytes(end - place)
        elif kind == 2:
            del changed[place:end]
        elif kind == 3:
            changed[place:place] = changed[place:end] * generator.choice((1, 2, 50))
        elif kind == 4:
            changed[place:end] = bytes([generator.choice((0, 255, 127, 10))]) * (end - place)
        elif generator.random() < 0.2:
            del changed[place:]
    return bytes(changed)
