"""One sentence per cell: what is known, and what decided it; for the page and the terminal.

A sentence is made of a subject, a verb (of the verdict), an object and a cause (of the reason and
the blame): `pod shop/front-0` `cannot reach` `pod default/web-0` on `tcp/80`: `blocked by …`. Verb
and cause depend on the cell's state only, so the page carries them once per state.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from audit.model.endpoints import Endpoint, Port, stretches
from audit.model.matrix import FAMILIES, Counted, proven
from audit.model.packets import Family
from audit.model.run import Run
from audit.model.verdicts import (
    NO_VERDICT,
    PASSES,
    REASONS,
    VERDICTS,
    Blame,
    Reason,
    Verdict,
)

MOST_NAMES = 8
"""Names of a kind and namespace that a line lists, and such groups; it counts the rest."""

VERBS: dict[Verdict, str] = {
    Verdict.REACHABLE: "can reach",
    Verdict.EXITS: "leaves OVN on the way to",
    Verdict.BLOCKED: "cannot reach",
    Verdict.UNROUTABLE: "has no way to",
    Verdict.INCONCLUSIVE: "may or may not reach",
    Verdict.UNTRACED: "was not traced to",
}

MEANINGS: dict[Verdict, str] = {
    Verdict.REACHABLE: "the packet arrives",
    Verdict.EXITS: "left OVN by a gateway; the underlay was not checked",
    Verdict.BLOCKED: "an ACL, so a policy, stops it",
    Verdict.UNROUTABLE: "stopped, but by no ACL",
    Verdict.INCONCLUSIVE: "traced, and the trace does not decide",
    Verdict.UNTRACED: "it could not be traced",
}

CAUSES: dict[Reason, str] = {
    Reason.DELIVERED: "it is delivered, and no policy had to allow it",
    Reason.ALLOWED_BY_ACL: "an ACL allows it",
    Reason.ALL_BACKENDS: "every backend of the service is reachable",
    Reason.LEFT_BY_GATEWAY: "it left OVN by a gateway, and the underlay was not checked",
    Reason.LEFT_BY_HOST: "it left OVN by the node's management port, and the host was not checked",
    Reason.ALLOWED_BY_POLICY: "a policy allows it",
    Reason.NO_POLICY: "no policy selects either end of it, or none has a rule about it",
    Reason.OWN_NODE: "it comes from the pod's own node, which no NetworkPolicy can keep out",
    Reason.ACL_DROP: "an ACL drops it",
    Reason.ACL_REJECT: "an ACL rejects it and tells the sender",
    Reason.DEFAULT_DENY: "default deny: no rule of the policies that select the pod allows it",
    Reason.POLICY_DENY: "a rule of a policy denies it",
    Reason.NETWORK_ISOLATED: "the pod's network is isolated from the default one",
    Reason.NO_ROUTE: "no route leads there",
    Reason.ROUTER_POLICY: "a policy of the logical router drops it",
    Reason.PORT_SECURITY: "port security drops it: the address is not the port's own",
    Reason.UNKNOWN_MAC: "no logical port has the destination's MAC address",
    Reason.SERVICE_WITHOUT_ENDPOINTS: "the service has no endpoints",
    Reason.SERVICE_NOT_PROGRAMMED: "no load balancer of the service is in OVN",
    Reason.PIPELINE_DROP: "a logical flow that is no ACL drops it",
    Reason.PORT_NOT_BOUND: "a node has no interface for a port on its way",
    Reason.FLOW_MISSING: "a node lacks the OpenFlow flow that would take it",
    Reason.TUNNEL_ASTRAY: "a node sends it to an address that is no node's tunnel",
    Reason.ADDRESS_OF_ANOTHER: "a pod of the sender's own network has that address, and gets it",
    Reason.REMOTE_PORT_MISSING: "the zone that it is sent to has no such port",
    Reason.OTHER_NETWORK: "its ends are on different networks, and nothing joins these",
    Reason.BACKENDS_DIFFER: "some backends of the service are reachable and others are not",
    Reason.GATEWAYS_DIFFER: "the possible next hops give different results",
    Reason.UNEXPECTED_OUTPUT: "it came out at another port than the destination's",
    Reason.NAT_NOT_TRACED: "an address translation on its way cannot be traced",
    Reason.TEMPLATE_LOAD_BALANCER: "the load balancer is a template, which a trace cannot expand",
    Reason.NEXT_HOP_UNRESOLVED: "the snapshot has no MAC address of the next hop",
    Reason.HAIRPIN_NOT_DRAWN: "the pod is an endpoint of this Service itself, and OVN chose it in "
    "no trace; ask from another pod",
    Reason.SOURCE_TRANSLATED: "a gateway translates its source between two nodes, and with the "
    "pod's own address the verdict would differ",
    Reason.LEFT_NETWORK: "it left its network by a gateway, and no port in OVN leads from there to "
    "the other network",
    Reason.WAY_IN_UNKNOWN: "it left towards a pod of the cluster, and no database says how it "
    "gets there",
    Reason.HAIRPIN_NOT_TRANSLATED: (
        "a pod calls itself by a service, and no trace translates the packet's source"
    ),
    Reason.ACTION_NOT_TRACED: "it meets an action that the tracer passes over",
    Reason.ACLS_CONTRADICT: "ACLs of one tier and priority contradict each other about it",
    Reason.HOST_TO_SERVICE: (
        "a host reaches a service's address by its gateway router, a way that is not traced"
    ),
    Reason.TOO_MANY_HOPS: "it was still on its way after the last hop that is followed",
    Reason.TRACE_ENDS: "the trace ends before the packet is delivered or dropped",
    Reason.HOST_TO_HOST: "both ends are in the host network, so OVN never sees the packet",
    Reason.USER_DEFINED_NETWORK: "the pod is in a user-defined network, which is not traced",
    Reason.NO_LOGICAL_PORT: "an end of it has no logical port in OVN",
    Reason.NO_ADDRESS: "an end of it has no address of this family",
    Reason.OBJECT_CONTRADICTS: "the pod's object contradicts itself or OVN: what it is, is unknown",
    Reason.POD_DIFFERS: "OVN has the pod at another address, MAC or node than Kubernetes says",
    Reason.ENDPOINTS_UNKNOWN: "the snapshot does not say which endpoints the service has",
    Reason.OWN_ENDPOINT: "the service's only endpoint is the sender itself",
    Reason.HYBRID_OVERLAY: "an end of it is on a node of the hybrid overlay (Windows), which has "
    "no OVN to ask",
    Reason.ZONE_MISSING: "the databases of a zone on its way are missing",
    Reason.NODE_MISSING: "the Open vSwitch of a node on its way is not at hand",
    Reason.CHANGED_MEANWHILE: "the pod, or what concerns it, changed while the cluster was read",
    Reason.ENGINE_LOST: "the trace engine was lost while it ran",
    Reason.ENGINE_TIMEOUT: "the trace engine did not answer in time",
    Reason.ENGINE_REFUSED: "the trace engine refused the microflow",
    Reason.UNPARSABLE: "the trace could not be read",
    Reason.WORKER_LOST: "the worker that ran the trace was lost",
    Reason.INTERRUPTED: "the run was interrupted before it was traced",
    Reason.LEGS_DISAGREE: "two traces contradict each other about a part of its way",
    Reason.POLICY_UNKNOWN: (
        "it depends on what no object says: an address, a name, a label, a node, or which of two "
        "policies of one priority goes first"
    ),
    Reason.NETWORK_UNKNOWN: "how the networks of its ends are joined is not known",
    Reason.LEG_NOT_SHOWN: "no trace showed a part of its way",
    Reason.PORTS_NOT_TOLD_APART: "an ACL that is not understood may tell these ports apart",
    Reason.ONLY_PREDICTED: "it was predicted only, and no trace was asked for",
}
"""The cause of each reason, where no policy is named; no two are the same."""

REPLIES: dict[Verdict, str] = {
    Verdict.REACHABLE: "The reply gets back.",
    Verdict.EXITS: "The reply leaves OVN by a gateway on its way back.",
    Verdict.BLOCKED: "The reply is blocked on its way back: the connection does not come about.",
    Verdict.UNROUTABLE: "The reply has no way back: the connection does not come about.",
    Verdict.INCONCLUSIVE: "Whether the reply gets back is not proven.",
    Verdict.UNTRACED: "The reply was not traced.",
}
NO_REPLY = "There is no reply to trace."
NOT_ASKED = "The reply was not asked about."
"""Of what passes by the objects alone: only traces have replies."""


def cause(verdict: Verdict, reason: Reason, blame: Blame | None) -> str:
    """Return why the cell has its verdict, without a full stop.

    A policy is named where one decided; otherwise the stage is, where it is known.
    """
    text = CAUSES[reason]
    if blame is None:
        return text
    if verdict is Verdict.BLOCKED:
        return f"blocked by {blame} ({text})"
    named = blame.policy is not None or blame.owner
    if verdict is Verdict.REACHABLE and named:
        return f"allowed by {blame}" if reason is Reason.ALLOWED_BY_ACL else f"{text} ({blame})"
    if named:
        return f"{text} ({blame})"
    return f"{text} (stage {blame.stage})" if blame.stage else text


def sentence(
    src: Endpoint,
    dst: Endpoint,
    port: Port,
    *,
    verdict: Verdict,
    reason: Reason,
    blame: Blame | None = None,
    family: Family | None = None,
) -> str:
    """Return the sentence of one cell; `family` is named only where a run has both."""
    over = f" over {family}" if family else ""
    why = cause(verdict, reason, blame)
    return f"{src.key} {VERBS[verdict]} {dst.key} on {port}{over}: {why}."


def reply_sentence(request: Verdict, code: int) -> str:
    """Return the sentence about the reply to a request, from a code of `CellVerdicts.reply`."""
    if code == NO_VERDICT:
        return NOT_ASKED if request in PASSES else NO_REPLY
    return REPLIES[VERDICTS[code]]


def cells(count: int) -> str:
    """Return a count of cells: `1 cell`, `2,232 cells`."""
    return f"{count:,} cell" if count == 1 else f"{count:,} cells"


def port_names(ports: Iterable[str]) -> list[str]:
    """Return names of ports, ranges that follow one another as one: `tcp/0-65535`."""
    return [str(port) for port in stretches(map(Port.parse, ports))]


def ports_text(ports: Iterable[str]) -> str:
    """Return names of ports in a line."""
    return ", ".join(port_names(ports))


def unproven(counted: Counted) -> Iterator[str]:
    """Yield how many cells each reason leaves unproven, most first."""
    doubtful = ~proven(counted.verdict)
    counts: Counter[int] = Counter()
    pairs = zip(counted.reason[doubtful].tolist(), counted.cells[doubtful].tolist(), strict=True)
    for code, count in pairs:
        counts[code] += count
    for code, count in counts.most_common():
        yield f"{cells(count)}: {CAUSES[REASONS[code]]} ({REASONS[code]})"


def has_both_families(run: Run) -> bool:
    """Say whether the run has cells of both address families, so that a sentence names them."""
    families = run.matrix.family
    return len(families) > 0 and int(families.min()) != int(families.max())


def blame_of(run: Run, cell: int) -> Blame | None:
    """Return what decided the cell, if it is known."""
    index = int(run.verdicts.blame[cell])
    return run.verdicts.blames[index] if index >= 0 else None


def cell_sentence(run: Run, cell: int) -> str:
    """Return the sentence of the cell with this index in the run's matrix."""
    matrix, verdicts = run.matrix, run.verdicts
    family = FAMILIES[int(matrix.family[cell])]
    return sentence(
        matrix.endpoints[int(matrix.src[cell])],
        matrix.endpoints[int(matrix.dst[cell])],
        matrix.ports[int(matrix.port[cell])],
        verdict=VERDICTS[int(verdicts.verdict[cell])],
        reason=REASONS[int(verdicts.reason[cell])],
        blame=blame_of(run, cell),
        family=family if has_both_families(run) else None,
    )


EACH_OTHER = "each other"


class Path(Protocol):
    """What is said of cells between two workloads."""

    @property
    def src(self) -> str:
        """The source's name."""

    @property
    def dst(self) -> str:
        """The destination's name."""

    @property
    def cells(self) -> int:
        """How many cells it is about."""


_P = TypeVar("_P", bound=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered(Generic[_P]):
    """Paths that are alike: all of their sources, all of their destinations, and the paths."""

    srcs: tuple[str, ...]
    dsts: tuple[str, ...]
    paths: tuple[_P, ...]

    @property
    def path(self) -> _P:
        """One of them: they are alike in everything but their ends."""
        return self.paths[0]

    @property
    def cells(self) -> int:
        """How many cells that is."""
        return sum(path.cells for path in self.paths)

    @property
    def receivers(self) -> str:
        """The destinations in a line: `each other` where all are sources.

        Gathered are a source and itself only where a path leads from it to itself.
        """
        if set(self.srcs).isdisjoint(self.dsts) or any(p.src == p.dst for p in self.paths):
            return listed(self.dsts)
        together = set(self.srcs) == set(self.dsts)
        return EACH_OTHER if together else f"{listed(self.dsts)} (none to itself)"

    @property
    def ends(self) -> str:
        """Both ends in a line: `pod shop/a-0, a-1 to pod shop/b-0`."""
        to = self.receivers
        among = f"{listed(self.srcs)} among each other"
        return among if to == EACH_OTHER else f"{listed(self.srcs)} to {to}"


def gathered(paths: Iterable[_P], alike: Callable[[_P], Hashable]) -> list[Gathered[_P]]:
    """Gather paths that are alike, those of most cells first.

    First the sources of each destination, then destinations. Where some are reached by each other
    and by the same others, each of these is a source of every other.
    """
    by_dst: dict[tuple[Hashable, str], list[_P]] = defaultdict(list)
    for path in paths:
        by_dst[alike(path), path.dst].append(path)
    rows: dict[tuple[Hashable, tuple[str, ...]], list[_P]] = defaultdict(list)
    for (what, _), group in by_dst.items():
        rows[what, tuple(sorted({path.src for path in group}))] += group
    others: dict[tuple[Hashable, tuple[str, ...]], list[tuple[str, ...]]] = defaultdict(list)
    for (what, srcs), group in rows.items():
        dsts = {path.dst for path in group}
        if len(dsts) == 1 and dsts.isdisjoint(srcs):
            others[what, tuple(sorted({*srcs, *dsts}))].append(srcs)
    joined = [
        (ends, [path for srcs in parts for path in rows.pop((what, srcs))])
        for (what, ends), parts in others.items()
        if len(parts) > 1
    ]
    together = [
        Gathered(srcs=srcs, dsts=tuple(sorted({path.dst for path in group})), paths=tuple(group))
        for srcs, group in [*((srcs, group) for (_, srcs), group in rows.items()), *joined]
    ]
    return sorted(together, key=lambda row: (-row.cells, row.srcs, row.dsts))


def listed(ends: Sequence[str]) -> str:
    """Return ends in a line, by kind and namespace: `pod shop/a-0, a-1 and 3 more`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for end in ends:
        group, slash, name = end.rpartition("/")
        groups[group + slash].append(name)
    named = list(groups.items())[:MOST_NAMES]
    parts = [f"{group}{_first(names)}" for group, names in named]
    left_out = len(ends) - sum(len(names) for _, names in named)
    return "; ".join(parts) + (f" and {left_out:,} more" if left_out else "")


def _first(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + rest


MOST_IN_SCOPE = 6
"""Entries of a list in a scope that are named; the rest is counted."""


def scope_text(scope: Mapping[str, Any]) -> str:
    """Return the scope as `to ips: 10.0.0.1; ports: tcp/80`; a long list by its first entries."""
    return "; ".join(f"{name}: {text}" for name, text in _parts("", scope) if text)


def _parts(prefix: str, scope: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each part of a scope by its name, parts of parts as `to ips`."""
    for key, value in scope.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _parts(name, value)
        elif isinstance(value, (list, tuple)):
            more = f" and {len(value) - MOST_IN_SCOPE} more" if len(value) > MOST_IN_SCOPE else ""
            yield name, ", ".join(map(str, value[:MOST_IN_SCOPE])) + more
        else:
            yield name, "" if value is None else str(value)
