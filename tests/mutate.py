"""Recorded clusters edited at random: what legs say of each cell is what its own trace says.

`python -m tests.mutate [--count N] [--seed S] [--only KIND] [--cluster NAME]` (`make mutate`: ten
thousand). A mutation is a recorded cluster with one to three edits (`tests/mutations.py`): of
objects, of northbound rows, of which the real `ovn-northd` makes the southbound, or of
southbound rows. Some of its pods on all their networks, a port or two and sometimes nodes, services
and outside addresses are asked twice, with `--cover legs` and with `--cover exhaustive`. A cell
that passes by legs and not by its own trace is a *false pass*, and there is none. Any other
difference is told by a note of the run by legs that names an end of the cell.

What is drawn is a function of the seed: every line that is printed can be run again.
"""

import argparse
import math
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from audit.cli import progress
from audit.cover import requests
from audit.cover.headless import headless
from audit.errors import AuditError
from audit.model.endpoints import Endpoint
from audit.model.facts import Note
from audit.model.findings import Finding
from audit.model.matrix import FAMILIES
from audit.model.options import Covering, Workers
from audit.model.packets import Family
from audit.model.run import TraceRecord
from audit.model.traces import TraceOutcome
from audit.model.verdicts import CODE, PASSES, REASONS, VERDICTS, Blame, Verdict
from audit.replay import toolchain
from audit.replay.recompile import recompile
from audit.replay.toolchain import Toolchain
from audit.scope import scope
from audit.tracing import plan as planning
from audit.tracing.every_plane import Traced, trace
from audit.tracing.journal import Journal
from audit.tracing.options import Options
from audit.tracing.plan import Planned
from audit.tracing.switches import replayed
from tests import parity
from tests.archives import extract
from tests.mutable import SELECTED, Cluster, copied
from tests.mutations import EDITS

CLUSTERS: Mapping[str, Path] = {
    path.name.split(".tar")[0]: path
    for path in (*sorted(parity.DATA.glob("*.tar.xz")), *sorted(parity.EXAMPLES.glob("*.tar.gz")))
}

FALSE_PASS = "false pass"  # noqa: S105 - no password
VERDICT = "verdict differs"
FALSE_REPLY = "false reply"
REPLY = "reply differs"
NO_REPLY = "untraced reply"
"""What legs leave open, as for a cluster with a stateless ACL they do."""
BLAME = "blame differs"


class Memory(Journal):
    """Has every trace of a mutation run once: both covers read the same outcome of it.

    What an engine draws at random (a backend, a route of several) is drawn for both alike.
    """

    def __init__(self) -> None:
        self.until = math.inf
        self._outcomes: dict[str, TraceOutcome] = {}

    def recall(self, key: str) -> TraceOutcome | None:
        return self._outcomes.get(key)

    def add(self, rows: Iterable[TraceRecord]) -> None:
        self._outcomes.update((row.key, row.read) for row in rows if row.read is not None)

    def write(self) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A cell of which legs and its own trace do not say the same."""

    kind: str
    text: str
    noted: bool
    """A note of the run by legs names an end of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What became of one: its edits in words, and what was compared."""

    number: int
    cluster: str
    kinds: tuple[str, ...]
    edits: tuple[str, ...]
    asked: str
    cells: int = 0
    composed: int = 0
    refused: str = ""
    crashed: str = ""
    differences: tuple[Difference, ...] = ()
    seconds: float = 0.0

    def told(self) -> Iterator[str]:
        """Yield the lines to print of it, if there is something to say."""
        if self.crashed:
            yield f"--seed {self.number} --count 1: crashed; {self.cluster}, {self.asked}"
            yield from (f"    {edit}" for edit in self.edits)
            yield self.crashed
        worst = [d for d in self.differences if d.kind == FALSE_PASS]
        silent = [d for d in self.differences if d.kind not in TOLERATED and not d.noted]
        if not worst and not silent:
            return
        counts = Counter(d.kind for d in (*worst, *silent))
        shown = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        where = f"{self.cells} cells; {self.cluster}, {self.asked}"
        yield f"--seed {self.number} --count 1: {shown} of {where}"
        yield from (f"    {edit}" for edit in self.edits)
        yield from (f"      {one.text}" for one in (*worst[:2], *silent[:1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A recorded cluster, unpacked, and the OVN that can trace it."""

    snapshot: Path
    programs: Toolchain


class Clusters:
    """The recorded clusters that an OVN at hand can trace, each unpacked once."""

    def __init__(self, root: Path, names: Iterable[str] = CLUSTERS) -> None:
        self.names = sorted(names)
        self._root = root
        self._engines: dict[str, Engine | None] = {}

    def engine(self, name: str) -> Engine | None:
        """Return a cluster; None when every OVN at hand is older than it."""
        if name not in self._engines:
            target = self._root / name
            with tarfile.open(CLUSTERS[name]) as archive:
                extract(archive, target)
            if not (target / "kube").is_dir():
                (target,) = target.iterdir()
            cluster = Cluster(root=target, rng=random.Random(0))  # noqa: S311
            needed = {zone: cluster.version(zone) for zone in cluster.zones}
            try:
                self._engines[name] = Engine(
                    snapshot=target, programs=toolchain.choose(at_hand(), needed)
                )
            except AuditError:
                self._engines[name] = None
        return self._engines[name]


def at_hand() -> list[Toolchain]:
    """Return every OVN here: those that a run finds, and one that is named."""
    named = os.environ.get("AUDIT_OVN_PREFIX")
    return [*toolchain.find(), *(toolchain.find(Path(named)) if named else ())]


def mutate(number: int, clusters: Clusters, root: Path, only: Sequence[str]) -> Mutation:
    """Make one mutation and compare; `root` is a short directory of its own."""
    began = time.monotonic()
    rng = random.Random(number)  # noqa: S311 - damage, no secrets
    name = rng.choice(clusters.names)
    while (engine := clusters.engine(name)) is None:
        name = rng.choice(clusters.names)
    cluster = Cluster(root=copied(engine.snapshot, root / "s"), rng=rng)
    cluster.choose(most=rng.choice((6, 9, 12)))
    flags = draw_scope(cluster)
    kinds = [rng.choice(list(only or EDITS)) for _ in range(rng.choice((1, 1, 1, 1, 2, 3)))]
    edits: list[str] = []
    about: dict[str, Any] = {
        "number": number,
        "cluster": name,
        "kinds": tuple(kinds),
        "asked": " ".join(f"{k}={v}" for k, v in flags.items() if k != "selector"),
    }
    try:
        # Southbound rows are edited after ovn-northd has made them.
        for kind in sorted(kinds, key=lambda kind: kind.startswith("southbound")):
            if kind.startswith("southbound") and cluster.recompile:
                recompile_zones(cluster, engine, root)
            edits.append(f"{kind}: {EDITS[kind](cluster)}")
        cluster.write()
        recompile_zones(cluster, engine, root)
        memory = Memory()
        few, everything = audit(cluster.root, engine, flags, memory)
    except AuditError as error:
        return Mutation(
            **about,
            edits=tuple(edits),
            refused=f"{type(error).__name__}: {str(error)[:300]}",
            seconds=time.monotonic() - began,
        )
    except Exception:  # noqa: BLE001 - a fault of the audit or of an edit, and the others go on
        return Mutation(**about, edits=tuple(edits), crashed=traceback.format_exc())
    return Mutation(
        **about,
        edits=tuple(edits),
        cells=len(few[0].matrix),
        composed=sum(int(plan.composed.sum()) for plan in few[0].legs)
        + sum(len(some.cells) for some in few[0].services),
        differences=tuple(differences(few, everything)),
        seconds=time.monotonic() - began,
    )


def recompile_zones(cluster: Cluster, engine: Engine, root: Path) -> None:
    """Let the real ovn-northd make the southbound databases of what was changed."""
    cluster.write()
    zones = {
        zone: (cluster.root / "ovn" / zone / "nb.db", cluster.root / "ovn" / zone / "sb.db")
        for zone in sorted(cluster.recompile)
    }
    if not zones:
        return
    work = Path(tempfile.mkdtemp(dir=root))
    recompile(engine.programs, zones, work / "made", work / "r", lambda _: None)
    for zone, files in zones.items():
        for file in files:
            file.unlink()
            made = work / "made" / zone / file.name
            compact = engine.programs.argv("ovsdb-tool", "compact", str(made))
            subprocess.run(compact, check=True)
            shutil.move(made, file)
    cluster.recompiled()


def draw_scope(cluster: Cluster) -> dict[str, Any]:
    """Draw what is asked, as scope flags."""
    rng = cluster.rng
    families = {"ip6" if ":" in a else "ip4" for pod in cluster.pods for a in pod.addresses}
    family = rng.choice(sorted(families))
    cluster.family = FAMILIES[0] if family == "ip4" else FAMILIES[1]
    cluster.ports = rng.sample(cluster.policy_ports(), rng.choice((1, 2)))
    pings = ("icmp",) if rng.randrange(4) == 0 else ()
    flags: dict[str, Any] = {"family": family, "ports": (*cluster.ports, *pings)}
    selected = f"{SELECTED}=yes"
    nodes = tuple(one["metadata"]["name"] for one in cluster.objects("nodes"))
    outside = "198.51.100.7" if family == "ip4" else "2001:db8::7"
    services = [one for one in cluster.objects("services") if one["spec"].get("clusterIP")]
    match rng.randrange(9):
        case 0:
            flags |= {"from_selector": selected, "from_nodes": nodes, "to_selector": selected}
        case 1:
            flags |= {"from_selector": selected, "to_selector": selected, "to_nodes": nodes}
        case 2 | 5:
            asked = rng.sample(services, min(rng.choice((3, 6)), len(services)))
            cluster.vips = _vips(asked, cluster.family)
            # A port of their own: few of those that policies name are.
            listed = served(asked)
            own = rng.sample(listed, min(3, len(listed)))
            flags |= {
                "from_selector": selected,
                "to_selector": selected,
                "to_services": tuple(map(_name, asked)),
                "ports": tuple(dict.fromkeys((*own, *flags["ports"]))),
            }
        case 3:
            flags |= {"from_selector": selected, "to_selector": selected, "to_ips": (outside,)}
        case 4:
            flags |= {"from_ips": (outside,), "from_selector": selected, "to_selector": selected}
        case _:
            flags["selector"] = selected
    return flags


def _name(service: Mapping[str, Any]) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _vips(services: Iterable[Mapping[str, Any]], family: Family) -> list[str]:
    """Return the addresses of Services in a family."""
    listed = (one["spec"].get("clusterIPs", [one["spec"]["clusterIP"]]) for one in services)
    addresses = {address for some in listed for address in some} - {"None"}
    return sorted(address for address in addresses if Family.of(address) is family)


def served(services: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the ports that Services have."""
    ports = (port for one in services for port in one["spec"].get("ports", ()))
    return sorted({f"{p.get('protocol', 'TCP').lower()}/{p['port']}" for p in ports})


Ran = tuple[Planned, Traced]


def audit(
    snapshot: Path, engine: Engine, flags: Mapping[str, Any], memory: Memory
) -> tuple[Ran, Ran]:
    """Plan and trace by legs, and with a trace for every cell; nothing is written."""
    options = Options(
        snapshot=snapshot,
        scope=scope.from_flags(**flags),
        ovn_prefix=engine.programs.prefix,
        workers=Workers.INLINE,
        worker_count=1,
        cover=Covering.LEGS,
        verify=0,
    )
    with ExitStack() as stack:
        planned = planning.plan(options, progress.Silent(), stack)
        # What `--cover exhaustive` makes of the same facts; ranges of ports are not asked here.
        names = headless(planned.state, planned.owners)
        alone = requests.exhaustive(planned.matrix, names)
        every = replace(planned, legs=(), services=(), cover=alone)
        ran = [
            (some, trace(options, some, memory, progress.Silent(), replayed))
            for some in (every, planned)
        ]
    everything, few = ran
    return few, everything


def differences(few: Ran, everything: Ran) -> Iterator[Difference]:
    """Compare two runs cell by cell."""
    planned, composed = few
    _, traced = everything
    told: tuple[Note | Finding, ...] = (*planned.notes, *composed.notes, *composed.findings)
    names = {name for one in told for name in one.subjects}
    texts = [one.text for one in told]
    passes = {CODE[verdict] for verdict in PASSES}
    matrix = planned.matrix
    for cell in range(len(matrix)):
        one, other = int(composed.verdicts.verdict[cell]), int(traced.verdicts.verdict[cell])
        replies = [int(ran.verdicts.reply[cell]) for ran in (composed, traced)]
        kind = ""
        if one in passes and other not in passes:
            kind = FALSE_PASS
        elif one != other:
            kind = VERDICT
        elif replies[0] != replies[1]:
            kind = FALSE_REPLY if replies[0] in passes else REPLY
            kind = NO_REPLY if replies[0] == CODE[Verdict.UNTRACED] else kind
        elif _blamed(composed, cell) != _blamed(traced, cell):
            kind = BLAME
        if kind:
            ends = (matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]])
            said = [_said(ran, cell) for ran in (composed, traced)]
            yield Difference(
                kind=kind,
                text=f"{matrix.describe(cell)}: {said[0]} by legs, {said[1]} by its own trace",
                noted=any(_named(end, names, texts) for end in ends),
            )


def _named(end: Endpoint, names: AbstractSet[str], texts: Sequence[str]) -> bool:
    """Say whether notes or findings name an end of a cell, as a subject or in their text."""
    word = re.compile(rf"(?<![\w.-]){re.escape(end.key)}(?![\w.-])")
    return not names.isdisjoint(_names(end)) or any(word.search(text) for text in texts)


def _names(end: Endpoint) -> Iterator[str]:
    """Yield what a note may call an end of a cell."""
    yield end.key
    yield f"{end.namespace}/{end.name}" if end.namespace else end.name
    yield f"{end.namespace}_{end.name}"
    if end.attachment is not None:
        yield end.attachment.port
        yield end.attachment.switch


def _blame(ran: Traced, cell: int) -> Blame | None:
    index = int(ran.verdicts.blame[cell])
    return ran.verdicts.blames[index] if index >= 0 else None


def _blamed(ran: Traced, cell: int) -> tuple[object, ...]:
    blame = _blame(ran, cell)
    return () if blame is None else (blame.policy, blame.direction, blame.rule)


def _said(ran: Traced, cell: int) -> str:
    code = int(ran.verdicts.reply[cell])
    reply = VERDICTS[code] if code < len(VERDICTS) else "none"
    why = _blame(ran, cell) or REASONS[ran.verdicts.reason[cell]]
    return f"{VERDICTS[ran.verdicts.verdict[cell]]} ({why}; reply {reply})"


SAID_EVERY = 500
"""Mutations after which the figures so far are printed."""

TOLERATED = (FALSE_PASS, NO_REPLY)
"""What needs no note: the first is wrong with one too, the second is said of every such cell."""


@dataclass(slots=True)
class Tally:
    """The figures of many mutations, by kind of edit."""

    mutations: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, one: Mutation) -> None:
        """Count one; those with several edits are counted together."""
        kind = one.kinds[0] if len(one.kinds) == 1 else "several"
        self.mutations[kind] += 1
        self.counts["refused"][kind] += bool(one.refused)
        self.counts["crashed"][kind] += bool(one.crashed)
        self.counts["cells"][kind] += one.cells
        self.counts["composed"][kind] += one.composed
        for difference in one.differences:
            name = difference.kind
            if name not in TOLERATED:
                name += ", noted" if difference.noted else ", silent"
            self.counts[name][kind] += 1
        if any(difference.kind == FALSE_PASS for difference in one.differences):
            self.counts["with false"][kind] += 1

    def total(self, name: str) -> int:
        """Return a figure of all kinds."""
        return self.counts[name].total()

    @property
    def failing(self) -> int:
        """How many cells, and runs, are not as they must be."""
        return sum(
            counter.total()
            for name, counter in self.counts.items()
            if name in (FALSE_PASS, "crashed") or name.endswith("silent")
        )

    def __str__(self) -> str:
        names = ["refused", "crashed", "cells", "composed", FALSE_PASS, "with false"]
        names += sorted(name for name in self.counts if name not in names)
        rows = [("", "mutations", *names)]
        rows += [
            (kind, *(str(c[kind]) for c in (self.mutations, *(self.counts[n] for n in names))))
            for kind in sorted(self.mutations)
        ]
        rows.append(("all", str(self.mutations.total()), *(str(self.total(n)) for n in names)))
        return "\n".join(
            f"{row[0]:27}" + "".join(f"{cell:>15}" for cell in row[1:]) for row in rows
        )


_clusters: Clusters | None = None
"""Those of this worker process."""


def _begin(root: str, names: Sequence[str]) -> None:
    global _clusters  # noqa: PLW0603 - a pool's initializer has no other place
    _clusters = Clusters(Path(tempfile.mkdtemp(dir=root, prefix="c")), names)


def mutate_alone(
    number: int, clusters: Clusters, only: Sequence[str], root: str | None = None
) -> Mutation:
    """Make one mutation in a directory that is removed; a short one, as sockets are made in it."""
    with tempfile.TemporaryDirectory(prefix="m", dir=root) as directory:
        return mutate(number, clusters, Path(directory), only)


def _one(job: tuple[int, str, Sequence[str]]) -> Mutation:
    number, root, only = job
    assert _clusters is not None  # _begin made it
    return mutate_alone(number, _clusters, only, root)


def mutations(
    numbers: Iterable[int], workers: int, only: Sequence[str] = (), names: Iterable[str] = CLUSTERS
) -> Iterator[Mutation]:
    """Make these mutations in as many processes, and yield each as it is done."""
    with tempfile.TemporaryDirectory(prefix="mu") as root:
        context = multiprocessing.get_context("spawn")
        # What was parsed is kept for a run's length, not for ten thousand clusters'.
        with context.Pool(workers, _begin, (root, sorted(names)), maxtasksperchild=500) as pool:
            yield from pool.imap_unordered(_one, [(n, root, only) for n in numbers])


def main() -> int:
    """Make many, print what differs and the figures; exit with 1 when a cell is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next is one more")
    parser.add_argument("--only", action="append", default=[], help="kinds that begin so")
    parser.add_argument("--cluster", action="append", choices=sorted(CLUSTERS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    only = [kind for kind in EDITS if not given.only or kind.startswith(tuple(given.only))]
    tally = Tally()
    numbers = range(given.seed, given.seed + given.count)
    for one in mutations(numbers, given.workers, only, given.cluster or CLUSTERS):
        tally.add(one)
        for line in one.told():
            print(line, flush=True)  # noqa: T201 - this is the command's output
        if tally.mutations.total() % SAID_EVERY == 0:
            print(tally, flush=True)  # noqa: T201 - as above
    print(tally)  # noqa: T201 - as above
    return int(bool(tally.failing))


if __name__ == "__main__":
    sys.exit(main())
