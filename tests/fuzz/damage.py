"""What may have happened to bytes and to JSON on the way; and a fence around a parser that is given such."""

import copy
import json
import re
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st

from svertka.errors import SvertkaError

ODD = (
    None, True, False, -1, 0, 1, 3, 7, 2**31 - 1, 2**31, 2**32, 2**63, -(2**63), 10**30, 0.5, -1.5, 1e308, float("nan"),
    float("inf"), "", "a", "x" * 500, "3x3", "\0", "\ud800", "../../etc/passwd", "same", [], [0], [1, 2], [-1, -1],
    [[1]], [10**9, 10**9], ["a", "a"], {}, {"a": 1}, [[[[]]]],
)  # fmt: skip
SECONDS, WAITED = 30, 600  # of computing; of the clock, which also runs while the process is paused


@dataclass
class Whole:
    """What a fixture made. hypothesis shows a failing test's arguments, and warns of long ones, which is an error."""

    content: Any = field(repr=False)


def paths(value, path=()):
    """The places in JSON."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from paths(part, (*path, key))
    if isinstance(value, list):
        for index, part in enumerate(value[:20]):
            yield from paths(part, (*path, index))


def odd(draw):
    """One of ODD, to be changed at will."""
    return copy.deepcopy(draw(st.sampled_from(ODD)))


@st.composite
def changed(draw, value, times=2):
    """JSON with up to so many entries that are missing, new, or of an odd value."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, times))):
        path = draw(st.sampled_from(list(paths(value))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return odd(draw)
            continue
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        how = draw(st.integers(0, 5))
        if how == 0:
            del holder[path[-1]]
        elif how == 1 and isinstance(holder, dict):
            holder[draw(st.sampled_from(("", "new", "size", "name")))] = odd(draw)
        elif how == 2 and isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[-1:]))
        else:
            holder[path[-1]] = odd(draw)
    return value


def written(value):
    """As JSON, whatever is in it."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, data):
    """Bytes with some that are others, missing, doubled, cut off; or other bytes at all."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.binary(max_size=200))
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(found), 400))) if draw(st.booleans()) else draw(st.integers(0, len(found)))
        how = draw(st.integers(0, 4))
        if how == 0:
            del found[place:]
        elif how == 1:
            del found[place : place + draw(st.integers(1, 8))]
        elif how == 2:
            found[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif how == 3 and place < len(found):
            found[place] ^= 1 << draw(st.integers(0, 7))
        else:
            found[place : place + 4] = draw(st.sampled_from((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")))
    return bytes(found)


def memory(name):
    """A number of this process' status in bytes: VmRSS is its memory now, VmHWM the most since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def timed():
    """AssertionError after so much computing or waiting."""

    def late(number, _):
        raise AssertionError("it hangs" if number == signal.SIGALRM else f"it computed for more than {SECONDS} s")

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def fenced(*allowed, most=256 << 20):
    """A parser may give a result or raise a SvertkaError of one line, in time and within `most` bytes; nothing else.

    allowed: further exceptions, which torch's own layers raise in the same place.
    """
    forget_peak()
    before = memory("VmRSS")
    try:
        with timed():
            yield
    except SvertkaError as error:
        text = str(error)
        assert text and "\n" not in text and len(text) < 3000, text
    except allowed:
        pass
    grown = memory("VmHWM") - before
    assert grown < most, f"it took {grown >> 20} MiB"
