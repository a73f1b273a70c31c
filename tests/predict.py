"""Random packets: the logical flows that `audit.flows` foresees are those of `ovn-trace`.

`python -m tests.predict [--count N] [--seed S] [--cluster NAME] [--edits N]` (`make predict`:
100,000 packets and 1,000 edits). Packets are drawn for every zone of every recorded cluster, as
requests and as replies (`tests/prediction.py`), and with `--edits` for southbounds of which one row
was changed (`tests/mutations.py`), mostly those that come to that row. Of each, the list of logical
flows, the tables where none matched, and the ports of output must be the same, in the same order;
or the evaluator refuses the packet and says why. Anything else is printed, and ends with exit 1.

What is drawn is a function of the seed.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit.flows.evaluate import Evaluator
from audit.flows.log import Kind
from audit.model.packets import ConntrackState
from tests.mutable import Cluster, copied
from tests.mutate import CLUSTERS, Clusters, Engine
from tests.mutations import EDITS
from tests.prediction import Compared, Oracle, World, read

EDITED = tuple(kind for kind in EDITS if kind.startswith("southbound"))
_BATCH = 2_000
_ROUND = 10_000
"""After how many packets, of all clusters, the figures so far are printed."""
_OF_AN_EDIT = 40
"""Packets that are traced of a southbound with one edit."""
_DRAWN = 1_000
"""Packets that are drawn for an edit, of which those that meet what was edited come first."""
_SAID_EVERY = 50
_SHOWN = 3_000


@dataclass(slots=True)
class Tally:
    """What was compared."""

    equal: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    edits: int = 0
    seen: int = 0
    """Edits after which some packet meets other flows than before, in both."""

    def add(self, cluster: str, one: Compared) -> None:
        if one.refused:
            self.refused[cluster][one.refused[:80]] += 1
        else:
            (self.equal if one.equal else self.different)[cluster] += 1

    def __str__(self) -> str:
        lines = []
        for cluster in sorted({*self.equal, *self.different, *self.refused}):
            refused = self.refused[cluster]
            compared = self.equal[cluster] + self.different[cluster]
            lines.append(
                f"{cluster}: {self.equal[cluster]} of {compared} equal, {refused.total()} refused"
            )
            lines += [f"    {count} {reason}" for reason, count in refused.most_common()]
        total = self.equal.total() + self.different.total()
        lines.append(f"in all: {self.equal.total()} of {total} equal")
        if self.edits:
            lines.append(f"edits: {self.edits}, of which {self.seen} change what packets meet")
        return "\n".join(lines)


def packets(engine: Engine, count: int, rng: random.Random) -> Iterator[Compared]:
    """Compare about `count` packets of a cluster, in all its zones and both states."""
    zones = sorted((engine.snapshot / "ovn").glob("*/sb.db"))
    each = -(-count // (len(zones) * len(ConntrackState)))
    for database in zones:
        world = World.of(read(database))
        evaluator = Evaluator(world.zone)
        oracle = Oracle(programs=engine.programs, database=database)
        for state in ConntrackState:
            for begin in range(0, each, _BATCH):
                drawn = [world.draw(rng) for _ in range(min(_BATCH, each - begin))]
                yield from oracle.compare(evaluator, drawn, state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A southbound with one edit, and what was compared of it."""

    text: str
    changes: bool
    compared: tuple[Compared, ...]


def edited(engine: Engine, seed: int, root: Path, count: int = _DRAWN) -> Edited:
    """Edit a row of one zone's southbound, and compare those of `count` packets that meet it."""
    rng = random.Random(seed)  # noqa: S311 - damage, no secrets
    cluster = Cluster(root=copied(engine.snapshot, root / "s"), rng=rng)
    cluster.choose(most=12)
    cluster.ports = rng.sample(cluster.policy_ports(), 2)
    before = {path: path.stat().st_ino for path in cluster.root.glob("ovn/*/sb.db")}
    text = EDITS[rng.choice(EDITED)](cluster)
    cluster.write()
    changed = [path for path, inode in before.items() if path.stat().st_ino != inode]
    database = changed[0] if changed else min(before)
    old = Evaluator(World.of(read(engine.snapshot / database.relative_to(cluster.root))).zone)
    world = World.of(read(database))
    evaluator = Evaluator(world.zone)
    state = rng.choice(list(ConntrackState))
    drawn = [world.draw(rng) for _ in range(count)]
    drawn = [packet for packet in drawn if packet.inport in old.southbound.ports]
    met = [_met(one, drawn, state) for one in (old, evaluator)]
    differ = [index for index in range(len(drawn)) if met[0][index] != met[1][index]]
    rest = [index for index in range(len(drawn)) if index not in set(differ)]
    chosen = [*differ, *rest][:_OF_AN_EDIT]
    oracle = Oracle(programs=engine.programs, database=database)
    compared = tuple(oracle.compare(evaluator, [drawn[index] for index in chosen], state))
    return Edited(text=text, changes=bool(differ), compared=compared)


def _met(
    evaluator: Evaluator, drawn: Sequence[object], state: ConntrackState
) -> list[list[object]]:
    """Return what each packet meets, in words."""
    answers = evaluator.run(drawn, state)  # type: ignore[arg-type]
    flows = evaluator.southbound.flows
    return [
        [
            [flows[number][1:] for number in answers.log.met[event.number]]
            if event.kind is Kind.FLOW
            else event.kind
            for event in answers.everything(packet)
        ]
        for packet in range(len(drawn))
    ]


def main() -> int:
    """Compare many, print what differs and the figures; exit with 1 when any does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--edits", type=int, default=0)
    parser.add_argument("--cluster", action="append", choices=sorted(CLUSTERS))
    given = parser.parse_args()
    names = given.cluster or sorted(CLUSTERS)
    tally = Tally()
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    try:
        clusters = Clusters(root, names)
        engines = {name: engine for name in names if (engine := clusters.engine(name))}
        left = given.count
        while left > 0:
            part = min(left, _ROUND)
            left -= part
            for index, (name, engine) in enumerate(engines.items()):
                rng = random.Random(f"{given.seed} {left} {index}")  # noqa: S311 - no secrets
                for one in packets(engine, -(-part // len(engines)), rng):
                    tally.add(name, one)
                    _say(name, one)
            print(f"{tally}; {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201 - the output
        for seed in range(given.seed, given.seed + given.edits):
            name = list(engines)[seed % len(engines)]
            work = Path(tempfile.mkdtemp(dir=root))
            done = edited(engines[name], seed, work)
            shutil.rmtree(work)
            tally.edits += 1
            tally.seen += done.changes
            for one in done.compared:
                tally.add(f"{name}, edited", one)
                _say(f"--count 0 --edits 1 --seed {seed}: {name}: {done.text}", one)
            if tally.edits % _SAID_EVERY == 0:
                print(tally, flush=True)  # noqa: T201 - this is the command's output
    finally:
        shutil.rmtree(root)
    print(tally)  # noqa: T201 - this is the command's output
    return int(bool(tally.different))


def _say(where: str, one: Compared) -> None:
    if not one.equal and not one.refused:
        foreseen = "\n".join(one.foreseen)[:_SHOWN]
        print(  # noqa: T201 - this is the command's output
            f"{where}, {one.state}:\n{one.packet.expression}\n{foreseen}\n{one.trace[:_SHOWN]}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
