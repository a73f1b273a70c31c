"""Damaged inputs for every reader: each answers, or raises its own error class, and nothing else.

`python -m tests.fuzz [--count N] [--seed S] [READER …]` (`make fuzz`: a million for each) prints
how many were read, how many refused, and the first that was neither. The suite tries a few hundred
of each (tests/test_fuzz.py). The readers, and what real inputs of them look like, are in
tests/fuzz_readers.py; here inputs get bytes, words and lines changed, lost, doubled and moved, and,
where they are JSON, values of another kind.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WORDS = (
    *(b"", b"0", b"-1", b"99999999999999999999", b"null", b"true", b"[]", b"{}", b'"', b"\\"),
    *(b"\0", b"\xff", b"(", b")", b"[", b"]", b"{", b"}", b",", b":", b";", b"/* ", b"\n"),
    *(b"    ", b"1e999", b"NaN", b"0x", b"uuid", b'["set",[]]', b'["map",[[1,2]]]', b"&a", b"*a"),
    *(b"!!python/name:x", b"!!timestamp ", b"2027-02-30", b"<<: ", b"? ", b"- ", b"...", b"---\n"),
)
NESTED = tuple(word * 3000 for word in (b"[", b'{"a":', b"clone(", b"- ", b'["set",['))
"""Deeper than an interpreter's stack; tried rarely, as some readers take long to refuse it."""
_NESTED_IN = 5000
VALUES = (
    *("null", "true", "0", "-1", "1.5", "100000000000000000000", "Infinity", "[]", "{}", "[null]"),
    *('""', '"x"', '"0"', '"a/b"', '"10.0.0.0/33"', '"10.0.0.1/32"', '"::1"', r'"\u0000"'),
    *('"{}"', "[[]]", '{"": null}', '{"a": {"b": []}}', '["x", "x"]'),
)
"""What a value of a JSON input is put in the place of another."""


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Return `seed` with some of it changed: a byte, a span, a line, a word."""
    text = bytearray(seed)
    at = to = 0
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(text) + 1)
        to = min(len(text), at + rng.choice((1, 1, 4, 16, 200)))
        match rng.randrange(7):
            case 0:
                text[at:to] = b""
            case 1:
                text[at:at] = text[at:to]
            case 2:
                text[at:to] = rng.choice(WORDS)
            case 3:
                text[at:at] = rng.choice(WORDS)
            case 4:
                text[at : at + 1] = bytes([rng.randrange(256)])
            case 5:
                lines = bytes(text).split(b"\n")
                lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
                text = bytearray(b"\n".join(lines))
            case _:
                text = text[:at]
    if not rng.randrange(_NESTED_IN):
        text[at:to] = rng.choice(NESTED)
    return bytes(text)


def reshaped(seed: bytes, rng: random.Random) -> bytes:
    """Return JSON with some values changed to another kind, lost or doubled; or damaged text."""
    if not rng.randrange(3):
        return mutated(seed, rng)
    root = json.loads(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _reshape(root, rng)
    return json.dumps(root).encode()


def _reshape(root: Any, rng: random.Random) -> None:
    """Change one value somewhere below `root`, mostly deep."""
    holder: Any = None
    place: Any = None
    value = root
    while isinstance(value, dict | list) and value and (holder is None or rng.randrange(8)):
        holder = value
        place = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = value[place]
    if isinstance(holder, list):
        if rng.randrange(3):
            holder[place] = json.loads(rng.choice(VALUES))
        else:
            holder.append(holder[place] if rng.randrange(2) else holder.pop(place))
    elif isinstance(holder, dict):
        match rng.randrange(4):
            case 0:
                del holder[place]
            case 1:
                holder[rng.choice(("x", "", *map(str, holder)))] = holder[place]
            case _:
                holder[place] = json.loads(rng.choice(VALUES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader, what it may raise, and what real inputs of it look like."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    own: type[Exception]
    mutate: Callable[[bytes, random.Random], bytes] = mutated
    named: bool = False
    """An input's first line says which of several files it is."""

    def attempt(self, data: bytes) -> str:
        """Return whether it was `read` or `refused`; anything else is raised."""
        try:
            self.read(data)
        except self.own:
            return "refused"
        return "read"


def fuzz(reader: Reader, count: int, seed: int, seconds: float = float("inf")) -> Counter[str]:
    """Try `count` damaged inputs of a reader, each made of its own number; return what came out.

    Raises AssertionError with the number of the first that is neither read nor refused.
    """
    counts = Counter[str]()
    seeds = reader.seeds()
    began = time.monotonic()
    for number in range(count):
        if time.monotonic() - began > seconds:
            break
        rng = random.Random(seed << 40 | number)  # noqa: S311 - damage, no secrets
        data = reader.mutate(rng.choice(seeds), rng)
        try:
            counts[reader.attempt(data)] += 1
        except Exception as error:
            raise AssertionError(f"input {number} of seed {seed}: {error!r}: {data!r}") from error
    return counts


def main() -> int:
    """Try many, and print the counts."""
    from tests.fuzz_readers import READERS  # noqa: PLC0415 - it imports this module

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], default=[])
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, per reader")
    given = parser.parse_args()
    for name in given.readers or READERS:
        began = time.process_time()
        counts = fuzz(READERS[name], given.count, given.seed, given.seconds)
        took = time.process_time() - began
        sys.stdout.write(
            f"{name:<14}{counts.total():>10,} inputs: {counts['read']:>9,} read, "
            f"{counts['refused']:>9,} refused, 0 otherwise, {took:,.0f} s of CPU\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
