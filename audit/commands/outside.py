"""Two finished runs and the outside: what their policies alone say of it, where no cell holds it.

A run's cells hold ranges of addresses outside only where its scope asked for them. Else a change
of an ipBlock changes no cell. The policies that both runs stored are evaluated for it, over the
pods that both have; nothing of it is traced, and none of it is counted with cells.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.commands.meaning import RunLabels
from audit.compare import causes
from audit.compare.common import Common
from audit.compare.pairing import Pairing, pair
from audit.cover import portspace
from audit.facts import kube, policyobjects
from audit.facts.fields import FieldError
from audit.model.changes import OutsideChanges
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import ClusterState, Policy
from audit.model.networks import Network
from audit.model.packets import Family
from audit.model.policies import BlockPeer, Direction
from audit.model.portspace import NO_SPACE, PortSpace
from audit.model.recorded import Recorded
from audit.model.verdicts import PolicyRef
from audit.policy import outside as policies_outside
from audit.policy.outside import Side
from audit.scope import membership, outside, ports
from audit.scope.scope import Scope, parse_scope_file

_UNREAD = frozenset({"must-gather", "policy-without-meaning"})
_UNLISTED = frozenset({"list-forbidden", "list-missing"})
"""Notes that say that policies, or, of these, perhaps others, are not all in the run."""
_PREFIXES = {Direction.EGRESS: "to_", Direction.INGRESS: "from_"}


def compare(before: Recorded, after: Recorded, shared: Common) -> OutsideChanges | None:
    """Compare what the policies of two runs say of the outside that is in no cell of both.

    None where it is in the cells of both, or a scope leaves it out, or they share no pod.
    """
    runs = before, after
    scopes = [scope_of(run) for run in runs]
    pairs = pair(before.endpoints, after.endpoints, (shared.before, shared.after))
    pods = _pods(runs, scopes, pairs)
    directions = [direction for direction in _directions(runs, scopes) if pods[direction]]
    if not directions:
        return None
    if limits := tuple(_limits(runs)):
        return OutsideChanges(paths=(), limits=limits)
    try:
        read: dict[tuple[PolicyRef, str], Policy] = {}
        states = _state(before, read), _state(after, read)
    except FieldError as error:
        text = f"The outside was not compared: a policy of the runs has no meaning ({error})."
        return OutsideChanges(paths=(), limits=(text,))
    overlap = _Overlap(runs=runs, scopes=scopes, states=states)
    explained = causes.Causes(before, after, pairs)
    sides = [overlap.side(direction, pods[direction]) for direction in directions]
    changes = policies_outside.compare(states, sides, overlap.families, explained.of)
    if changes.compared and not changes.decided:
        text = "Of the outside nothing is decided by the policies of both: whether anything changed"
        return replace(changes, limits=(f"{text} there is not known.",))
    return changes


def _directions(runs: Sequence[Recorded], scopes: Sequence[Scope]) -> Iterator[Direction]:
    """Yield the directions that both scopes leave in and that not both runs have cells of."""
    for direction in Direction:
        held = [_holds(run, scope, direction) for run, scope in zip(runs, scopes, strict=True)]
        if all(_wants(scope, direction) for scope in scopes) and not all(held):
            yield direction


def scope_of(run: Recorded) -> Scope:
    """Return the scope of a run; that of everything where the run does not say it."""
    described = run.manifest.get("scope")
    return parse_scope_file(json.dumps(described), f"{run.path}/run.json") if described else Scope()


def _words(scope: Scope, direction: Direction) -> tuple[str, ...]:
    """Return the ranges that a scope asks for on the side where packets of pods end or begin."""
    given = scope.to_ips if direction is Direction.EGRESS else scope.from_ips
    return tuple(word for word in given if outside.is_range(word))


def _wants(scope: Scope, direction: Direction) -> bool:
    """Tell whether a scope leaves the outside in: a side that is described has only that."""
    return not scope.given(_PREFIXES[direction]) or bool(_words(scope, direction))


def _holds(run: Recorded, scope: Scope, direction: Direction) -> bool:
    """Tell whether a run's cells hold ranges; those of manifests do unless asked otherwise."""
    if not any(map(outside.is_range_endpoint, run.endpoints)):
        return False
    if scope.given(_PREFIXES[direction]):
        return bool(_words(scope, direction))
    return (run.manifest.get("labels") or {}).get("complete") is False


def _limits(runs: Sequence[Recorded]) -> Iterator[str]:
    """Yield why the outside cannot be compared, a sentence for each run that is to blame."""
    for run in runs:
        why = _missing(run)
        if why:
            yield (
                f"The outside was not compared: {run.name} {why}. A change of an ipBlock changes "
                "no cell here; `--to-ip all` and `--from-ip all` make cells of the outside."
            )


def _missing(run: Recorded) -> str:
    """Return what a run lacks for its policies to be evaluated."""
    planes = run.manifest.get("planes")
    if planes is not None and "intent" not in planes:
        return "did not ask the intent plane"
    labels = run.manifest.get("labels") or {}
    if "namespaces" not in labels or "nodes" not in labels:
        return "does not say the labels that policies select by, as runs of older versions"
    if any(_lacks_policies(note) for note in run.manifest.get("notes") or ()):
        return "lacks policies that its cluster has, or what they mean"
    return ""


def _lacks_policies(note: Mapping[str, Any]) -> bool:
    """Tell whether a note of a run says that policies, or what they mean, are not in the run."""
    if note.get("code") in _UNREAD:
        return True
    unlisted = {*note.get("subjects", ())} if note.get("code") in _UNLISTED else set()
    return not unlisted.isdisjoint(kube.POLICY_RESOURCES)


def _state(run: Recorded, read: dict[tuple[PolicyRef, str], Policy]) -> ClusterState:
    """Return what a run keeps of its cluster; FieldError when a policy cannot be read again.

    `read` has the policies that were read already, most of which both runs have alike.
    """
    for policy in run.policies:
        if (policy.ref, policy.manifest) not in read:
            read[policy.ref, policy.manifest] = policyobjects.policy_of(policy)
    labels = RunLabels.of(run.manifest)
    assert labels is not None  # noqa: S101 - a run without them is not compared
    return ClusterState(
        source=run.name,
        pods=tuple(e for e in run.endpoints if e.kind is EndpointKind.POD),
        nodes=tuple(
            Endpoint(kind=EndpointKind.NODE, name=name, node=name, labels=tuple(pairs.items()))
            for name, pairs in labels.nodes.items()
        ),
        services=(),
        namespaces=labels.namespaces,
        policies=tuple(read[policy.ref, policy.manifest] for policy in run.policies),
        zones={},
        attached={nad: Network(name=name) for nad, name in labels.attached.items()},
        complete=labels.complete,
        ranges=labels.ranges,
    )


def _pods(
    runs: Sequence[Recorded], scopes: Sequence[Scope], pairs: Pairing
) -> Mapping[Direction, Sequence[tuple[int, int]]]:
    """Return the numbers of pods in either run: sources of egress, destinations of ingress."""
    after = np.flatnonzero(pairs.before >= 0)
    both = np.stack([pairs.before[after].astype(np.int64), after])
    sides = [_sides(run, scope) for run, scope in zip(runs, scopes, strict=True)]
    pods: dict[Direction, list[tuple[int, int]]] = {}
    for column, direction in enumerate((Direction.EGRESS, Direction.INGRESS)):
        chosen = sides[0][both[0], column] & sides[1][both[1], column]
        pods[direction] = [(old, new) for old, new in both[:, chosen].T.tolist()]
    return pods


def _sides(run: Recorded, scope: Scope) -> NDArray[np.bool_]:
    """Say of each endpoint whether it is a pod that the scope has as a source, as a destination."""
    return np.array(
        [
            membership.sides(scope, e, run.namespace_labels(e.namespace))
            if e.kind is EndpointKind.POD
            else (False, False)
            for e in run.endpoints
        ],
        np.bool_,
    ).reshape(-1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overlap:
    """What both runs ask about, as ranges and ports that the policies of both cut."""

    runs: Sequence[Recorded]
    scopes: Sequence[Scope]
    states: tuple[ClusterState, ClusterState]

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that both ask about."""
        before, after = (scope.family.families for scope in self.scopes)
        return tuple(family for family in before if family in after)

    @property
    def _policies(self) -> tuple[Policy, ...]:
        return tuple(policy for state in self.states for policy in state.policies)

    def side(self, direction: Direction, pods: Sequence[tuple[int, int]]) -> Side:
        """Return one direction, with the ports that both runs ask about."""
        ranges = self._ranges(direction)
        space = portspace.with_policies(
            NO_SPACE, self._policies, [pod for state in self.states for pod in state.pods]
        )
        before, after = (self._ports(number, ranges, space) for number in range(2))
        common = functools.cache(_common)  # most pods have the ports of many others
        if not ranges:
            asked_ports: list[tuple[Port, ...]] = [()] * len(pods)
        elif direction is Direction.EGRESS:
            # The same of every range: no port is a range's own.
            asked_ports = [common(before[-1], after[-1])] * len(pods)
        else:
            asked_ports = [common(before[old], after[new]) for old, new in pods]
        ends = [run.endpoints for run in self.runs]
        return Side(
            direction=direction,
            pods=[(ends[0][old], ends[1][new]) for old, new in pods],
            ranges=ranges,
            ports=asked_ports,
        )

    def _ranges(self, direction: Direction) -> list[Endpoint]:
        """Return the outside, cut by the policies of both and without what is the cluster's."""
        words = next((w for s in self.scopes if (w := _words(s, direction))), (outside.ALL,))
        blocks = [
            *outside.blocks_of(self._policies),
            *(BlockPeer(cidr=word) for word in words if word != outside.ALL),
        ]
        made = outside.ranges(words, blocks, self._inside(), self._taken(), self.families)
        return [range_.endpoint() for range_ in made]

    def _inside(self) -> list[str]:
        """Return the CIDRs of the cluster, by both runs."""
        cidrs: dict[str, None] = {}
        for run, state in zip(self.runs, self.states, strict=True):
            ranges = state.ranges
            cidrs |= dict.fromkeys((*ranges.pods, *ranges.nodes, *ranges.services))
            cidrs |= dict.fromkeys(run.manifest["labels"].get("networks", ()))
        return [*cidrs]

    def _taken(self) -> set[str]:
        """Return the addresses of what is in the cluster, by both runs."""
        ends = [e for run in self.runs for e in run.endpoints]
        inside = (e for e in ends if e.kind is not EndpointKind.EXTERNAL)
        return {address for end in inside for address in end.addresses}

    def _ports(
        self, number: int, ranges: Sequence[Endpoint], space: PortSpace
    ) -> tuple[tuple[Port, ...], ...]:
        """Return the ports that a run asks about each of its endpoints, and each range."""
        ends = (*self.runs[number].endpoints, *ranges)
        destinations = [
            index
            for index, end in enumerate(ends)
            if end.kind is not EndpointKind.EXTERNAL or outside.is_range_endpoint(end)
        ]
        scope = self.scopes[number]
        return ports.resolve(scope.ports, ends, destinations, space, whole_outside=True)


def _common(before: Sequence[Port], after: Sequence[Port]) -> tuple[Port, ...]:
    """Return the ports that are asked in both: of a range, those of it that the other has."""
    if before == after:
        return tuple(before)
    ports_of_both = {*before} & {*after}
    for narrow, wide in ((before, after), (after, before)):
        ranges = [port for port in wide if port.last]
        ports_of_both |= {port for port in narrow if any(_lies_in(port, r) for r in ranges)}
    return tuple(sorted(ports_of_both))


def _lies_in(port: Port, wide: Port) -> bool:
    within = wide.number <= port.number and port.sample <= wide.last
    return port.protocol is wide.protocol and within
