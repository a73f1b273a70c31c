"""Compare runs with recorded answers of the real tools, cell by cell: `make parity`.

`tests/data` holds recorded clusters and, for each, what `ovn-trace` itself said there (a process
per cell, `--ct=new` at every conntrack step) and which ACL's logical flow stopped the packet.
How the recordings were made and what they leave out is in `tests/data/README.md`.
"""

import argparse
import csv
import gzip
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import parquet

from audit.cli import progress
from audit.commands import run as command
from audit.model.matrix import Matrix
from audit.model.options import Covering, PlaneName, Workers
from audit.model.packets import Protocol
from audit.model.run import Run
from audit.model.verdicts import NO_VERDICT, STOPPED, UNPROVEN, VERDICTS, Verdict
from audit.scope import scope
from audit.store import reader
from audit.tracing.options import Options

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parent.parent / "examples"
SNAPSHOTS = {
    "ovn-23.03-central": DATA / "ovn-23.03-central.tar.xz",
    "ovn-25.03-interconnect": EXAMPLES / "interconnect.tar.gz",
    "upgrade-before": DATA / "upgrade-before.tar.xz",
    "upgrade-after": DATA / "upgrade-after.tar.xz",
    "services-egressip": DATA / "services-egressip.tar.xz",
    "udn-interconnect": DATA / "udn-interconnect.tar.xz",
    "head-shared": DATA / "head-shared.tar.xz",
    "head-observability": DATA / "head-observability.tar.xz",
}
POD_ANSWERS = ("ovn-23.03-central", "ovn-25.03-interconnect", "upgrade-before", "upgrade-after")
NETWORK_ANSWERS = ("udn-interconnect", "head-shared", "head-observability")
"""The same of clusters with several networks or of OVN 26.03: pods of the default network."""
REPLY_ANSWERS = ("upgrade-before", "upgrade-after", "services-egressip")

Answer = Mapping[str, str]


@dataclass(slots=True)
class Score:
    """How many recorded answers a run gave too, and the ones it did not."""

    what: str
    least: float = 1.0
    """The share that is to agree."""
    agree: int = 0
    total: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, *, good: bool, about: str) -> None:
        """Count one comparison."""
        self.total += 1
        if good:
            self.agree += 1
        else:
            self.wrong.append(about)

    @property
    def good(self) -> bool:
        """Whether enough agree, and there is something to agree."""
        return 0 < self.total * self.least <= self.agree

    def __str__(self) -> str:
        return f"{self.what}: {self.agree} of {self.total}"


def audit(
    snapshot: Path,
    root: Path,
    *,
    cover: Covering = Covering.EXHAUSTIVE,
    **flags: Any,
) -> Run:
    """Run the whole pipeline and read the run back from disk.

    Every cell is traced: an answer is compared with the trace of that very packet.
    """
    prefix = os.environ.get("AUDIT_OVN_PREFIX")
    options = Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=snapshot,
        scope=scope.from_flags(**flags),
        ovn_prefix=Path(prefix) if prefix else None,
        workers=Workers.INLINE,
        cover=cover,
    )
    return reader.open_run(command.run(options, root, progress.Silent()).path)


def read_answers(name: str) -> list[dict[str, str]]:
    """Read a table of recorded answers."""
    with gzip.open(DATA / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def families(answers: Sequence[Answer]) -> str:
    """Return the address families that were recorded, as `--family` takes them."""
    found = {answer["family"] for answer in answers}
    return found.pop() if len(found) == 1 else "both"


def read_records(name: str) -> list[dict[str, Any]]:
    """Read recorded answers that are not a table."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def cells(run: Run) -> Iterator[tuple[tuple[str, str, str, str, str], int]]:
    """Yield each cell's coordinates as the recordings write them, and its index.

    Who has a logical port is called by it (`namespace_pod`), others by their names or addresses.
    """
    yield from places(run.matrix)


def places(matrix: Matrix) -> Iterator[tuple[tuple[str, str, str, str, str], int]]:
    """Yield the same of a matrix that need not be a run's."""
    names = [
        e.attachment.port if e.attachment else f"{e.namespace}/{e.name}" for e in matrix.endpoints
    ]
    for cell in range(len(matrix)):
        port = matrix.ports[matrix.port[cell]]
        family = ("ip4", "ip6")[matrix.family[cell]]
        place = (names[matrix.src[cell]], names[matrix.dst[cell]])
        yield (*place, family, str(port.protocol), str(port.number)), cell


def asked(name: str, ports: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the recorded answers of pod pairs, of those on some `ports` if they are named."""
    return [a for a in read_answers(name) if not ports or port(a) in ports]


def port(answer: Answer) -> str:
    """Return the port of an answer, as `--port` takes it."""
    icmp = answer["protocol"] == Protocol.ICMP
    return answer["protocol"] if icmp else f"{answer['protocol']}/{answer['port']}"


def recorded(name: str, ports: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return all that was recorded of a cluster's pod pairs: cells, and replies to them."""
    tables = [table for table in (name, f"{name}-replies") if (DATA / f"{table}.csv.gz").exists()]
    return [answer for table in tables for answer in asked(table, ports)]


def audit_pods(name: str, root: Path, cover: Covering, ports: Sequence[str] = ()) -> Run:
    """Audit what was recorded of pod pairs.

    Legs are those of the whole cluster; traced cell by cell are only the namespaces recorded.
    """
    answers = recorded(name, ports)
    whole = cover is not Covering.EXHAUSTIVE
    spaces = {answer[end].partition("_")[0] for answer in answers for end in ("src", "dst")}
    return audit(
        SNAPSHOTS[name],
        root,
        cover=cover,
        namespaces=() if whole else sorted(spaces),
        ports=sorted({port(a) for a in answers}),
        family=families(answers),
    )


def place(answer: Answer) -> tuple[str, str, str, str, str]:
    """Return an answer's coordinates, as `cells` has them."""
    return (
        answer["src"],
        answer["dst"],
        answer["family"],
        answer["protocol"],
        answer["port"],
    )


def compare_pods(name: str, run: Run, ports: Sequence[str] = ()) -> tuple[Score, ...]:
    """Compare delivery, and who is blamed where there is none, for recorded pod pairs.

    One score where the recording names no ACL, as those of HEAD do not.
    """
    answers, index_of = asked(name, ports), dict(cells(run))
    delivery, blame = Score(f"{name}: delivered or not"), Score(f"{name}: the ACL that stops it")
    for answer in answers:
        cell = index_of[place(answer)]
        good, about = _same_verdict(run, answer, cell)
        delivery.add(good=good, about=about)
        if answer["acl"]:
            index = int(run.verdicts.blame[cell])
            acl = run.verdicts.blames[index].acl if index >= 0 else ""
            good = acl.startswith(answer["acl"])
            blame.add(good=good, about=f"{place(answer)}: ACL {answer['acl']}, not {acl}")
    return (delivery, blame) if blame.total else (delivery,)


def compare_legs(name: str, root: Path, ports: Sequence[str] = ()) -> tuple[Score, Score]:
    """Compare delivery of recorded pod pairs with cells that are composed of legs.

    The second score is of the cells that no trace of their own decides.
    """
    answers = asked(name, ports)
    run = audit_pods(name, root, Covering.LEGS, ports)
    index_of = dict(cells(run))
    delivery = Score(f"{name}: delivered or not, by legs")
    composed = Score(f"{name}: composed of legs", least=0.95)
    own = _composed(run)
    for answer in answers:
        cell = index_of[place(answer)]
        good, about = _same_verdict(run, answer, cell)
        delivery.add(good=good, about=about)
        composed.add(good=own[cell], about=f"{place(answer)}: a trace of its own")
    return delivery, composed


def _composed(run: Run) -> list[bool]:
    """Return which cells legs decide: those that they predict something of."""
    files = sorted(Path(run.path).glob("cells/*.parquet"))
    tables = [parquet.read_table(file, columns=["predicted"]) for file in files]
    return [bool(is_) for table in tables for is_ in table["predicted"].is_valid().to_pylist()]


def _same_verdict(run: Run, answer: Answer, cell: int) -> tuple[bool, str]:
    """Say whether a cell's verdict is the recorded answer, and what it is about.

    Where `ovn-trace` was wrong, what it says may also prove nothing.
    """
    verdict = VERDICTS[run.verdicts.verdict[cell]]
    stopped = {Verdict.BLOCKED} if answer["acl"] else STOPPED
    wanted = {Verdict.REACHABLE} if answer["delivered"] == "1" else stopped
    if answer.get("ovn_trace", answer["delivered"]) != answer["delivered"]:
        wanted = wanted | UNPROVEN
    return verdict in wanted, f"{place(answer)}: {' or '.join(sorted(wanted))}, not {verdict}"


def compare_replies(name: str, run: Run) -> Score:
    """Compare the replies of recorded deliveries: ports swapped, established, replying."""
    index_of = dict(cells(run))
    score = Score(f"{name}: replies")
    for answer in asked(f"{name}-replies"):
        code = int(run.verdicts.reply[index_of[place(answer)]])
        reply = "" if code == NO_VERDICT else str(VERDICTS[code])
        wanted = "reachable" if answer["delivered"] == "1" else "blocked"
        about = f"{place(answer)}: {wanted}, not {reply or 'untraced'}"
        score.add(good=reply == wanted, about=about)
    return score


def comparisons() -> Iterator[Score]:
    """Run every comparison, and yield each score as it is known."""
    from tests import parity_networks, parity_services  # noqa: PLC0415 - they need this module

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for name in (*POD_ANSWERS, *NETWORK_ANSWERS, *REPLY_ANSWERS[-1:]):
            run = audit_pods(name, root, Covering.EXHAUSTIVE)
            if name in REPLY_ANSWERS:
                yield compare_replies(name, run)
            if (DATA / f"{name}.csv.gz").exists():
                yield from compare_pods(name, run)
                yield from compare_legs(name, root)
        for name in (*parity_networks.RECORDED, parity_networks.CAUGHT_UP):
            for cover in (Covering.LEGS, Covering.EXHAUSTIVE):
                with tempfile.TemporaryDirectory(prefix="np") as alone:  # sockets are made in it
                    yield from parity_networks.compare(name, Path(alone), cover)
        yield from parity_services.compare(root)


def main() -> int:
    """Print every comparison as `N of N`; exit with 1 when one is not."""
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    good = True
    for score in comparisons():
        good = good and score.good
        print(score, flush=True)  # noqa: T201 - this is the command's output
        for about in () if score.good else score.wrong[:5]:
            print(f"  {about}", flush=True)  # noqa: T201 - as above
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
