"""Recorded traces of `ofproto/trace`: 64 pairs of pods on each of two clusters."""

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import REPOSITORY

CLUSTERS = ("ovn-25.03-interconnect", "ovn-23.03-central")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One call. `leg` is where it was made: at the packet's `source` or its `destination`."""

    src: str
    dst: str
    protocol: str
    port: int
    delivered: bool
    leg: str
    node: str
    flow: str
    states: tuple[str, ...]
    output: str


def recorded(cluster: str) -> Iterator[Recorded]:
    path = REPOSITORY / "tests" / "data" / f"{cluster}-datapath.jsonl.xz"
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Recorded(**{**row, "states": tuple(row["states"])})
