"""`audit probe`: real connections for some cells of a finished run, from the pods themselves."""

import datetime as dt
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.commands.report import write_report
from audit.errors import ExitCode, OutputError
from audit.facts.live.access import Access
from audit.model import findings
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.findings import MOST_SUBJECTS, Disagreement, FindingKind, of_disagreements
from audit.model.matrix import FAMILIES, Cells, Matrix
from audit.model.packets import Family
from audit.model.probes import Connection, Probe, Probed, Response
from audit.model.recorded import Recorded
from audit.model.verdicts import NO_VERDICT, VERDICTS
from audit.scope import probes as choosing
from audit.store import evidence, plain, probes, reader
from audit.store.layout import SIGNATURE, read_manifest
from audit.store.lock import exclusively
from audit.store.writer import tidy
from audit.tracing.options import Progress
from audit.verdict.probes import Situation, drift_of, is_unanswered, judged

if TYPE_CHECKING:
    from audit.facts.live.connections import LivePod, Prober

_KINDS = (FindingKind.PROBE_DRIFT, FindingKind.PROBE_UNANSWERED)
_ANSWERED = (Response.CONNECTED, Response.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is probed: `sample` cells drawn at random, and the cells of `pairs`.

    `namespaces` is where samples are drawn; empty for everywhere.
    `at_once` connections are tried at a time, each for `timeout_s`. `image` is of ephemeral
    containers, where a pod has no client; empty for none.
    """

    sample: int = 0
    pairs: tuple[choosing.Pair, ...] = ()
    family: Family | None = None
    namespaces: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)
    image: str = ""
    timeout_s: int = 3
    at_once: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """What came of one call. `cells` describes each probe's cell, in the order of `probes`."""

    cells: tuple[str, ...]
    probes: tuple[Probe, ...]
    path: Path

    @property
    def exit_code(self) -> ExitCode:
        """Return 1 where a connection contradicts the run, else 3 where one was not tried."""
        if any(probe.drift for probe in self.probes):
            return ExitCode.FINDINGS
        sent = all(probe.connection.response is not Response.NOT_SENT for probe in self.probes)
        return ExitCode.CLEAN if sent else ExitCode.INCOMPLETE

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the probes for programs."""
        return [
            {
                "cell": name,
                "response": str(probe.connection.response),
                "verdict": str(probe.verdict),
                "expected": str(probe.expected),
                "expected_reply": probe.expected_reply and str(probe.expected_reply),
                "drift": probe.drift,
                "meaning": probe.meaning,
                "client": probe.connection.client,
                "detail": probe.connection.detail,
                "address": probe.address,
                "port": probe.port,
                "at": probe.at.isoformat(),
            }
            for name, probe in zip(self.cells, self.probes, strict=True)
        ]


def probe(path: Path, request: Request, progress: Progress) -> Probing:
    """Try connections for cells of the run at `path`, add what came of them to it, render it anew.

    UsageError when no cell is meant, or too many are; OutputError when the run is signed.
    """
    if os.path.lexists(path / SIGNATURE):
        raise OutputError(
            f"{path} is signed, and probes would be added to it; copy it without {SIGNATURE} first"
        )
    with exclusively(path.absolute().parent):
        plain.require_all(path)
        tidy(path)
        run = reader.open_recorded(path)
        cells = choosing.choose(
            run,
            sample=request.sample,
            pairs=request.pairs,
            family=request.family,
            namespaces=request.namespaces,
        )
        chosen = _Chosen(run=run, cells=cells)
        done = _tried(chosen, request, progress)
        name = probes.write(path, chosen.matrix, done, dt.datetime.now(dt.UTC))
        try:
            probes.amend(path, name, _amended(path, name))
        except BaseException:
            (path / name).unlink(missing_ok=True)
            raise
        if evidence.REPORT in evidence.listed(path):
            write_report(path)
    described = map(chosen.matrix.describe, range(len(cells)))
    return Probing(cells=tuple(described), probes=done, path=path)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The cells to probe, few of them."""

    run: Recorded
    cells: Cells

    @cached_property
    def matrix(self) -> Matrix:
        """These cells as a matrix of their own."""
        return self.cells.matrix(self.run.endpoints, self.run.ports)

    def ends(self, number: int) -> tuple[Endpoint, Endpoint, Family]:
        """Return a cell's source, destination and family."""
        cells, endpoints = self.cells, self.run.endpoints
        family = FAMILIES[cells.family[number]]
        return endpoints[cells.src[number]], endpoints[cells.dst[number]], family

    def situation(self, number: int, between: str) -> Situation:
        """Return what is known of a cell beside an answer."""
        reply = int(self.cells.reply[number])
        return Situation(
            verdict=VERDICTS[self.cells.verdict[number]],
            reply=None if reply == NO_VERDICT else VERDICTS[reply],
            destination=self.ends(number)[1].kind,
            rejecting=self._rejecting,
            between=between,
        )

    @cached_property
    def _rejecting(self) -> int | None:
        """The ACLs of all zones that reject; None where the run does not say, or had no OVN."""
        counts = [zone.get("rejecting_acls") for zone in self.run.manifest.get("databases") or ()]
        return None if None in counts or not counts else sum(counts)


def _tried(chosen: _Chosen, request: Request, progress: Progress) -> tuple[Probe, ...]:
    """Try a connection per cell, some at once; a probe per cell, in their order."""
    from audit.facts.live import connections  # noqa: PLC0415 - only who asks a cluster pays for it

    prober = connections.Prober(
        access=request.access, timeout_s=request.timeout_s, image=request.image
    )
    cells = range(len(chosen.cells))
    pods = dict.fromkeys(
        (end.namespace, end.name)
        for number in cells
        for end in chosen.ends(number)[:2]
        if end.kind is EndpointKind.POD
    )
    with ThreadPoolExecutor(max_workers=request.at_once) as pool:
        progress.phase("reading pods", len(pods))
        now = {}
        for pod, live in zip(pods, pool.map(prober.pod, pods), strict=True):
            now[pod] = live
            progress.advance(1)
        progress.phase("probing", len(cells))
        done = []
        for probed in pool.map(lambda number: _one(chosen, number, now, prober), cells):
            done.append(probed)
            progress.advance(1)
    return tuple(done)


_Pods = Mapping[tuple[str, str], "LivePod | str"]
"""By namespace and name, each pod as it is now, or why that is not known."""


def _one(chosen: _Chosen, number: int, pods: _Pods, prober: "Prober") -> Probe:
    """Try the connection of one cell, and where something answers, that nothing else does."""
    src, dst, family = chosen.ends(number)
    address = dst.address(family)
    assert address is not None  # noqa: S101 - it was chosen for its address
    port = chosen.matrix.ports[chosen.matrix.port[number]].sample
    between = ""
    ends = [(end, pods[end.namespace, end.name]) for end in (src, dst) if _is_pod(end)]
    changed = next(filter(None, (_changed(end, live, family) for end, live in ends)), "")
    source = ends[0][1]
    if changed or isinstance(source, str):
        connection = Connection(response=Response.NOT_SENT, detail=changed)
    else:
        connection = prober.connect(source, address, port)
        if connection.response in _ANSWERED:
            between = prober.between(source, family, port)
    situation = chosen.situation(number, between)
    verdict, meaning = judged(connection.response, situation)
    return Probe(
        cell=number,
        connection=connection,
        expected=situation.verdict,
        expected_reply=situation.reply,
        verdict=verdict,
        drift=drift_of(verdict, situation),
        meaning=meaning,
        address=address,
        port=port,
        at=dt.datetime.now(dt.UTC),
    )


def _is_pod(endpoint: Endpoint) -> bool:
    return endpoint.kind is EndpointKind.POD


def _changed(endpoint: Endpoint, live: "LivePod | str", family: Family) -> str:
    """Say how a pod is not the one that the run saw; empty when it is."""
    if isinstance(live, str):
        return live
    if not live.running:
        return f"{endpoint.key} does not run now"
    # A pod's status has its addresses on the default network; the run may have another's.
    if not endpoint.network and endpoint.address(family) not in live.addresses:
        return f"{endpoint.key} has another address than in the run: audit the cluster again"
    if live.labels != tuple(sorted(endpoint.labels)):
        return f"{endpoint.key} has other labels than in the run: audit the cluster again"
    return ""


# What the run says from then on.


def _amended(path: Path, name: str) -> dict[str, Any]:
    """Return what `run.json` says of all probes of a run, `name` being a file of new ones."""
    matrix, last = reader.open_probes(path, name)
    cells = range(len(matrix))
    drift = [_disagreement(matrix, cell, last[cell]) for cell in cells if last[cell].drift]
    silent = [
        _disagreement(matrix, cell, last[cell]) for cell in cells if is_unanswered(last[cell])
    ]
    compared = sum(probed.drift is not None for probed in last)
    kept = [f for f in findings.recorded(read_manifest(path)) if f.kind not in _KINDS]
    found = (
        *of_disagreements(FindingKind.PROBE_DRIFT, drift),
        *of_disagreements(FindingKind.PROBE_UNANSWERED, silent),
    )
    return {
        "probe": {
            "of": compared,
            "agree": compared - len(drift),
            "disagreements": [disagreement.text for disagreement in drift[: findings.MOST_SAID]],
            "about": [list(disagreement.about) for disagreement in drift[: findings.MOST_SAID]],
            "connections": len(last),
            "responses": dict(sorted(Counter(probed.response for probed in last).items())),
        },
        "findings": [finding.fields(MOST_SUBJECTS) for finding in (*kept, *found)],
    }


def _disagreement(matrix: Matrix, cell: int, probed: Probed) -> Disagreement:
    reply = f", its reply {probed.expected_reply}" if probed.expected_reply else ""
    return Disagreement(
        text=f"{matrix.describe(cell)}: {probed.expected} by the run{reply}; {probed.response} by "
        f"{probed.client or 'no client'} at {probed.at}: {probed.meaning}",
        about=(*matrix.about(cell), probed.expected, probed.response),
    )
