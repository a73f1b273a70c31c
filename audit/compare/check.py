"""Expectations against the cells of a run: pure, by array, some cells at a time."""

import datetime as dt
import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.expectations import (
    Checked,
    Exemption,
    Expect,
    Expectation,
    Side,
    Status,
    Violation,
    Waiver,
    Where,
)
from audit.model.matrix import Cells, among, proven
from audit.model.networks import Role
from audit.model.recorded import Recorded
from audit.model.verdicts import CODE, PASSES, STOPPED, VERDICTS, Blame, Verdict

MOST_VIOLATIONS = 20_000
"""Kinds of violation that are listed apart; cells of further ones are only counted."""

_Mask = NDArray[np.bool_]
_Test = Callable[[Endpoint], bool | None]


def check(
    run: Recorded,
    expectations: Sequence[Expectation],
    today: dt.date,
    advance: Callable[[int], None],
) -> tuple[Checked, ...]:
    """Check each expectation against the run; `advance` is called with the cells looked at."""
    tallies = [_Tally(run, expectation, today) for expectation in expectations]
    for cells in run.cells:
        blames = run.cells.blames
        for tally in tallies:
            tally.add(cells, blames)
        advance(len(cells))
    return tuple(tally.checked(run.cells.blames) for tally in tallies)


def _judged(run: Recorded, side: Side) -> tuple[_Mask, _Mask]:
    """Return which endpoints a side is about, and about which that is not known.

    Of manifests not every label is known.
    """
    tests = [fits for required, fits in _conditions(run, side) if required]
    answers = [[fits(endpoint) for fits in tests] for endpoint in run.endpoints]
    chosen = np.array([all(each) for each in answers], np.bool_)
    possible = np.array([False not in each for each in answers], np.bool_)
    return chosen, possible & ~chosen


def _conditions(run: Recorded, side: Side) -> tuple[tuple[object, _Test], ...]:
    """Return each requirement that a side can have, empty if it has none, and its test."""
    return (
        (side.kinds, lambda e: e.kind in side.kinds),
        (side.namespaces, lambda e: e.namespace in side.namespaces),
        (side.names, lambda e: _qualified(e) in side.names),
        (side.workloads, lambda e: _workload(e) in side.workloads),
        (side.nodes, lambda e: e.node in side.nodes or _is_node(e, side)),
        (side.selector.requirements, lambda e: _labelled(side, e)),
        (side.namespace_selector.requirements, lambda e: _in_labelled(run, side, e)),
        (side.addresses, lambda e: _addressed(side, e)),
    )


def _qualified(endpoint: Endpoint) -> str:
    return f"{endpoint.namespace}/{endpoint.name}" if endpoint.namespace else endpoint.name


def _workload(endpoint: Endpoint) -> str:
    return f"{endpoint.namespace}/{endpoint.workload.partition('/')[2] or endpoint.name}"


def _is_node(endpoint: Endpoint, side: Side) -> bool:
    return endpoint.kind is EndpointKind.NODE and endpoint.name in side.nodes


def _labelled(side: Side, endpoint: Endpoint) -> bool | None:
    return endpoint.kind is EndpointKind.POD and side.selector.judge(dict(endpoint.labels))


def _in_labelled(run: Recorded, side: Side, endpoint: Endpoint) -> bool | None:
    labels = run.namespace_labels(endpoint.namespace)
    return bool(endpoint.namespace) and side.namespace_selector.judge(labels)


def _addressed(side: Side, endpoint: Endpoint) -> bool:
    networks = [ipaddress.ip_network(text, strict=False) for text in side.addresses]
    addresses = [ipaddress.ip_address(address) for address in endpoint.addresses]
    return any(a.version == n.version and a in n for a in addresses for n in networks)


def _ports(run: Recorded, wanted: Sequence[Port]) -> _Mask:
    """Return which ports of a run lie in one of those wanted; without any, all do."""
    return np.array(
        [
            not wanted
            or any(
                port.protocol is allowed.protocol
                and allowed.number <= port.number
                and port.sample <= allowed.sample
                for allowed in wanted
            )
            for port in run.ports
        ],
        np.bool_,
    )


class _Selection:
    """Which cells something is about."""

    def __init__(
        self,
        run: Recorded,
        src: Side,
        dst: Side,
        ports: Sequence[Port],
        *,
        by_primary: bool = False,
    ) -> None:
        """With `by_primary`, of pods on several networks their primary one is meant."""
        (self._src, src_doubt), (self._dst, dst_doubt) = _judged(run, src), _judged(run, dst)
        if by_primary:
            primary = np.array([e.role is Role.PRIMARY for e in run.endpoints], np.bool_)
            self._src, self._dst = self._src & primary, self._dst & primary
        self._ports = _ports(run, ports)
        sides = {
            "no source of this run matches the expectation's `from`": self._src,
            "no destination of this run matches the expectation's `to`": self._dst,
            "no port of this run matches the expectation's `ports`": self._ports,
        }
        self.nothing = tuple(text for text, mask in sides.items() if not mask.any())
        """What keeps it from being about any cell, as far as that is known."""
        self.doubtful = int((src_doubt | dst_doubt).sum())
        """Endpoints that it may be about: not all of their labels are known."""
        chosen = np.flatnonzero(self._src)
        self._range = (int(chosen[0]), int(chosen[-1]) + 1) if len(chosen) else (0, 0)

    def rows(self, cells: Cells) -> NDArray[np.int64]:
        """Return the places of the cells chosen."""
        first, last = np.searchsorted(cells.src, self._range).tolist()
        part = cells.take(slice(first, last))
        chosen = self._src[part.src] & self._dst[part.dst] & self._ports[part.port]
        rows: NDArray[np.int64] = np.flatnonzero(chosen) + first
        return rows


class _Tally:
    """Cells of a run counted against one expectation, some at a time."""

    def __init__(self, run: Recorded, expectation: Expectation, today: dt.date) -> None:
        self._expectation = expectation
        # Who may reach a pod does so on its primary network; who may not, on none.
        self._selection = _Selection(
            run,
            expectation.src,
            expectation.dst,
            expectation.ports,
            by_primary=expectation.expect is Expect.REACHABLE,
        )
        live = [e for e in expectation.exemptions if e.expires is None or today <= e.expires]
        self._exemptions = [(e, _Selection(run, e.src, e.dst, e.ports)) for e in live]
        self._waivers = [w for w in expectation.waivers if today <= w.expires]
        self._waiving = [_Selection(run, w.src, w.dst, w.ports) for w in self._waivers]
        self._used = [0] * len(live)
        self._needed = [0] * len(self._waivers)
        self._expired: tuple[Exemption | Waiver, ...] = (
            *(e for e in expectation.exemptions if e not in live),
            *(w for w in expectation.waivers if w not in self._waivers),
        )
        spaces: dict[str, int] = {}
        codes = [spaces.setdefault(e.namespace, len(spaces)) for e in run.endpoints]
        self._space = np.array(codes, np.int64)
        names: dict[str, int] = {}
        self._name = np.array(
            [names.setdefault(e.belongs_to, len(names)) for e in run.endpoints], np.int64
        )
        self._names = tuple(names)
        self._port_names = tuple(str(port) for port in run.ports)
        self._counts = dict.fromkeys(
            ("as_expected", "violating", "unproven", "exempt", "waived"), 0
        )
        self._mismatches: dict[tuple[int, ...], int] = defaultdict(int)

    def add(self, cells: Cells, blames: Sequence[Blame]) -> None:
        """Count those of `cells` that the expectation is about."""
        rows = self._related(cells, self._selection.rows(cells))
        if not len(rows):
            return
        exempt = np.zeros(len(rows), np.bool_)
        for number, (_, selection) in enumerate(self._exemptions):
            hit = np.isin(rows, selection.rows(cells), assume_unique=True)
            self._used[number] += int(hit.sum())
            exempt |= hit
        self._counts["exempt"] += int(exempt.sum())
        rows = rows[~exempt]
        verdict = cells.verdict[rows]
        unproven = ~proven(verdict)
        good = ~unproven & self._good(verdict, cells.blame[rows], blames)
        waiver = self._waived(cells, rows[~good])
        unproven = unproven[~good]
        self._counts["as_expected"] += int(good.sum())
        self._counts["waived"] += int((waiver >= 0).sum())
        self._counts["unproven"] += int((unproven & (waiver < 0)).sum())
        self._counts["violating"] += int((~unproven & (waiver < 0)).sum())
        self._fold(cells, rows[~good], waiver)

    def _waived(self, cells: Cells, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which waiver accepts each of these cells, by its index, or -1 for none."""
        waiver = np.full(len(rows), -1, np.int64)
        for number, selection in enumerate(self._waiving):
            hit = np.isin(rows, selection.rows(cells), assume_unique=True)
            self._needed[number] += int(hit.sum())
            waiver[hit & (waiver < 0)] = number
        return waiver

    def _related(self, cells: Cells, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those rows whose ends' namespaces relate as expected."""
        if self._expectation.where is Where.ANYWHERE:
            return rows
        same = self._space[cells.src[rows]] == self._space[cells.dst[rows]]
        within = self._expectation.where is Where.WITHIN_NAMESPACE
        related: NDArray[np.int64] = rows[same == within]
        return related

    def _good(
        self, verdict: NDArray[np.uint8], blame: NDArray[np.int32], blames: Sequence[Blame]
    ) -> _Mask:
        """Say which proven cells are as expected."""
        wanted: set[Verdict] = {
            Expect.REACHABLE: set(PASSES),
            Expect.BLOCKED: set(STOPPED),
            Expect.ANY: set(PASSES | STOPPED),
        }[self._expectation.expect]
        good = among(verdict, [CODE[v] for v in wanted])
        by = self._expectation.by
        if by is not None or self._expectation.by_policy:
            fits = [b.policy is not None and by in (None, b.policy) for b in blames]
            good &= np.array([*fits, False], np.bool_)[blame]
        return good

    def _fold(self, cells: Cells, rows: NDArray[np.int64], waiver: NDArray[np.int64]) -> None:
        """Count what is not as expected by its ends, port, verdict, decider and waiver."""
        if not len(rows):
            return
        columns = (
            self._name[cells.src[rows]],
            self._name[cells.dst[rows]],
            cells.port[rows],
            cells.verdict[rows],
            cells.blame[rows],
            waiver,
        )
        kinds, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            if len(self._mismatches) < MOST_VIOLATIONS or (*kind,) in self._mismatches:
                self._mismatches[*kind,] += count

    def checked(self, blames: Sequence[Blame]) -> Checked:
        """Return what was found."""
        counts = self._counts
        if counts["violating"]:
            status = Status.VIOLATED
        elif counts["unproven"] or (any(counts.values()) and self._selection.doubtful):
            status = Status.UNPROVEN
        elif not any(counts.values()):
            status = Status.EMPTY
        elif self._expired:
            status = Status.EXPIRED
        else:
            status = Status.WAIVED if counts["waived"] else Status.SATISFIED
        return Checked(
            name=self._expectation.name,
            description=self._expectation.description,
            status=status,
            sentence=self._sentence(status),
            **counts,
            violations=self._violations(blames),
            notes=tuple(self._notes()),
            controls=self._expectation.controls,
            expired=tuple(map(_expired, self._expired)),
            waivers=tuple(self._waivers),
        )

    def _sentence(self, status: Status) -> str:
        counts = self._counts
        total = sum(counts.values()) - counts["exempt"]
        expected = str(self._expectation.expect)
        if self._expectation.by is not None:
            expected += f" by {self._expectation.by}"
        elif self._expectation.by_policy:
            expected = "decided by a policy" if expected == Expect.ANY else f"{expected} by one"
        if status is Status.EMPTY:
            needs = f"; {self._expectation.needs}" if self._expectation.needs else ""
            nothing = self._selection.nothing
            why = f": {', and '.join(nothing)}" if nothing else ""
            return f"no cell of the run is about it, so nothing is proven{why}{needs}"
        text = f"{counts['as_expected']:,} of {total:,} cells are {expected}"
        if counts["violating"]:
            text += f", {counts['violating']:,} are not"
        if counts["unproven"]:
            text += f", {counts['unproven']:,} are unproven"
        if counts["waived"]:
            text += f", {counts['waived']:,} are waived"
        if counts["exempt"]:
            text += f"; {counts['exempt']:,} more are exempt"
        return "; ".join([text, *map(_expired, self._expired)])

    def _violations(self, blames: Sequence[Blame]) -> tuple[Violation, ...]:
        ports: dict[tuple[int, ...], list[int]] = defaultdict(list)
        cells: dict[tuple[int, ...], int] = defaultdict(int)
        for (src, dst, port, *alike), count in self._mismatches.items():
            ports[src, dst, *alike].append(port)
            cells[src, dst, *alike] += count
        violations = [
            Violation(
                src=self._names[src],
                dst=self._names[dst],
                ports=tuple(
                    self._port_names[port]
                    for port in sorted(ports[src, dst, verdict, blame, waiver])
                ),
                verdict=VERDICTS[verdict],
                by=str(blames[blame]) if blame >= 0 else "",
                cells=count,
                waiver=str(self._waivers[waiver]) if waiver >= 0 else "",
            )
            for (src, dst, verdict, blame, waiver), count in cells.items()
        ]
        return tuple(sorted(violations, key=lambda v: (v.src, v.dst, v.ports, v.verdict, v.by)))

    def _notes(self) -> Iterator[str]:
        for (exemption, _), used in zip(self._exemptions, self._used, strict=True):
            if not used:
                yield f"the exception {_reason(exemption)} is not needed: no cell matches it"
        for waiver, needed in zip(self._waivers, self._needed, strict=True):
            if not needed:
                yield f"a waiver is not needed: nothing that it accepts is there ({waiver})"
        if self._selection.doubtful:
            yield (
                f"whether it is about {self._selection.doubtful:,} more endpoints is not known, as "
                "not all labels are: of manifests give them with --namespace-labels"
            )


def _reason(exemption: Exemption) -> str:
    owner = f" (owner {exemption.owner})" if exemption.owner else ""
    return f'"{exemption.reason}"{owner}'


def _expired(over: Exemption | Waiver) -> str:
    """Say that a waiver or an exception is over, and what to do."""
    if isinstance(over, Waiver):
        text = f"a waiver expired on {over.expires}: {over.reason} (owner {over.owner})"
        return f"{text}; renew it or remove it"
    return f"an exception expired on {over.expires} and is ignored: {_reason(over)}"
