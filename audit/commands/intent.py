"""The intent plane in a run: beside the others, or alone."""

import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit import scratch
from audit.cover import portspace
from audit.facts import applying, manifests, objects
from audit.facts.inventory import findings as inventory_findings
from audit.model.blocks import Blocks, Layout
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import ClusterState, Note
from audit.model.findings import MOST_SUBJECTS, Finding
from audit.model.matrix import Cells, CellVerdicts, Matrix, passing, proven, where_known
from audit.model.portspace import NO_SPACE
from audit.model.verdicts import CODE, NO_VERDICT, PolicyRef, Verdict
from audit.policy import blocks as by_class
from audit.policy import deviations, findings
from audit.policy import inventory as explaining
from audit.policy.cluster import Controllers
from audit.policy.intent import IntentVerdicts, evaluate
from audit.scope import expand, matrix, ports
from audit.scope.outside import Range
from audit.tracing.options import Options, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """Objects read and a scope expanded, without OVN."""

    state: ClusterState
    layout: Layout
    notes: tuple[Note, ...]
    outside: tuple[Range, ...] = ()
    """The ranges of addresses among the endpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the objects say, joined with what else was asked, and the findings."""

    verdicts: CellVerdicts
    findings: tuple[Finding, ...]
    compared: int | None = None
    """How many cells the objects and OVN both decide; None where only one of them was asked."""
    differing: int = 0

    def fields(self, state: ClusterState, others: Sequence[Finding] = ()) -> dict[str, Any]:
        """Return what run.json says of it: the findings, with those of `others`; labels."""
        compared = None
        if self.compared is not None:
            compared = {"cells": self.differing, "of": self.compared}
        return fields(state, (*others, *self.findings), compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAlone:
    """What the objects say, by class, and the findings."""

    blocks: Blocks
    findings: tuple[Finding, ...]


def fields(
    state: ClusterState, reported: Sequence[Finding], compared: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return what run.json says of findings, and of what the objects and OVN agree on.

    And labels: what policies refer to, for explaining.
    """
    return {
        "findings": [finding.fields(MOST_SUBJECTS) for finding in reported],
        "intent": compared,
        "labels": labels(state),
    }


def labels(state: ClusterState) -> dict[str, Any]:
    """Return what policies ask for and no table has: labels of namespaces and nodes.

    And how far these are known, and where addresses lie that are not.
    """
    return {
        "complete": state.complete,
        "ranges": asdict(state.ranges),
        "networks": _networks(state),
        "attached": {nad: network.name for nad, network in state.attached.items()},
        "controllers": _controllers(state),
        "namespaces": {name: dict(pairs) for name, pairs in state.namespaces.items()},
        "nodes": {node.name: dict(node.labels) for node in state.nodes},
    }


def _controllers(state: ClusterState) -> dict[str, Any] | None:
    """Return in which namespaces controllers may be; None where nothing is known to lead in."""
    if state.complete:
        return None
    controllers = Controllers.of(state)
    return {
        "namespace": controllers.namespace,
        "away": {row: sorted(spaces) for row, spaces in controllers.away.items()},
    }


def _networks(state: ClusterState) -> list[str]:
    """Return the subnets of the cluster's switches, those side by side as one: none is outside."""
    cidrs = {
        c for zone in state.zones.values() for subnets in zone.switches.values() for c in subnets
    }
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in sorted(cidrs)]
    four = ipaddress.collapse_addresses(n for n in networks if n.version == 4)  # noqa: PLR2004
    six = ipaddress.collapse_addresses(n for n in networks if n.version == 6)  # noqa: PLR2004
    return [*map(str, four), *map(str, six)]


def plan(options: Options, progress: Progress, stack: ExitStack) -> Intended:
    """Read objects and expand the scope."""
    progress.phase("reading the objects", 0)
    if options.kustomization:
        made = manifests.build(options.kustomization, options.surroundings)
        state = objects.load_manifests(made)
    elif options.snapshot is None:
        state = objects.load_manifests(manifests.read(options.manifests, options.surroundings))
    else:
        workdir = stack.enter_context(scratch.directory("facts"))
        state = objects.load_snapshot(options.snapshot, workdir, most=options.most_unpacked)
        if options.change:
            state = applying.changed(state, options.change)
    sides = expand.sources_and_destinations(state, options.scope, outside=options.snapshot is None)
    space = portspace.with_policies(NO_SPACE, state.policies, state.pods)
    resolved = ports.resolve(
        options.scope.ports, sides.endpoints, sides.destinations.tolist(), space, whole_outside=True
    )
    families = options.scope.family.families
    built = matrix.outline(sides.endpoints, sides.blocks, resolved, families, sides.paths)
    return Intended(
        state=state,
        layout=built.matrix,
        notes=(*state.notes, *built.notes()),
        outside=sides.outside,
    )


def alone(intended: Intended, progress: Progress) -> JudgedAlone:
    """Decide every cell by the objects only, by class."""
    progress.phase("evaluating policies", 0)
    state, layout = intended.state, intended.layout
    blocks = by_class.evaluate(layout, state)
    reported = (
        *findings.about_ingress(*_coming_in(blocks)),
        *findings.about_enforcement(state.policies),
        *_hygiene(state, layout.endpoints),
    )
    return JudgedAlone(blocks=blocks, findings=reported)


def _coming_in(blocks: Blocks) -> tuple[Matrix, IntentVerdicts]:
    """Return the cells of what leads from outside to pods: few, for each leads to its own pods."""
    ends = enumerate(blocks.endpoints)
    rows = [index for index, end in ends if end.kind is EndpointKind.INGRESS]
    cells = Cells.joined([blocks.none, *blocks.parts(rows)])
    return cells.matrix(blocks.endpoints, blocks.ports), IntentVerdicts(
        verdict=cells.verdict, reason=cells.reason, blame=cells.blame, blames=tuple(blocks.blames)
    )


def beside(of: Matrix, state: ClusterState, verdicts: CellVerdicts, progress: Progress) -> Judged:
    """Compare what the objects say with what OVN does, cell by cell.

    Policies are OVN's to enforce: what a node's datapath does otherwise than OVN decided is drift
    of its own, and counts as OVN's word only where there is no other.
    """
    progress.phase("evaluating policies", 0)
    intent = evaluate(of, state)
    done = ovn_verdicts(verdicts)
    drift = _drift(intent, done)
    cells = np.flatnonzero(drift == 1)
    passes = passing(done[cells])
    by_objects = _decided_by_objects(state, verdicts, cells)
    causes = deviations.explain(of, state, cells, passes, by_objects)
    blamed = [_policy(intent, cell) for cell in cells.tolist()]
    decided = [_decided(verdicts, cell) for cell in cells.tolist()]
    why = explaining.explain(of, cells, passes, decided, state.differences)
    explained = [state.differences[number] if number >= 0 else None for number in why.tolist()]
    drift_findings = findings.about_drift(of, causes, passes, blamed, explained)
    return Judged(
        verdicts=replace(verdicts, intent=intent.verdict, drift=_either(drift, verdicts.drift)),
        findings=(*drift_findings, *inventory(state), *_hygiene(state, of.endpoints)),
        compared=int((drift != NO_VERDICT).sum()),
        differing=len(cells),
    )


def unasked(state: ClusterState, verdicts: CellVerdicts) -> Judged:
    """Return what is found without asking what the objects mean: what of them is not in OVN."""
    return Judged(verdicts=verdicts, findings=inventory(state))


def inventory(state: ClusterState) -> tuple[Finding, ...]:
    """Return what OVN's databases and the objects do not agree on, a finding of each kind.

    So is what a southbound has otherwise than its northbound.
    """
    return inventory_findings.findings((*state.differences, *state.lagging))


def _decided_by_objects(
    state: ClusterState, verdicts: CellVerdicts, cells: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which cells OVN does not decide by a policy that is no object of the cluster's."""
    refs = {policy.ref for policy in state.policies}
    strange = [
        index
        for index, blame in enumerate(verdicts.blames)
        if blame.policy is not None and blame.policy not in refs
    ]
    return ~np.isin(verdicts.blame[cells], strange)


def _policy(intent: IntentVerdicts, cell: int) -> str:
    index = int(intent.blame[cell])
    return str(intent.blames[index].policy) if index >= 0 else ""


def _decided(verdicts: CellVerdicts, cell: int) -> tuple[PolicyRef, ...]:
    """Return the policies that share in what OVN decides about a cell."""
    index = int(verdicts.blame[cell])
    blame = verdicts.blames[index] if index >= 0 else None
    if blame is None:
        return ()
    return blame.policies or ((blame.policy,) if blame.policy else ())


def _hygiene(state: ClusterState, ends: Sequence[Endpoint]) -> tuple[Finding, ...]:
    return findings.about_policies(state, _outside(ends))


def _outside(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    return [e for e in endpoints if e.kind in (EndpointKind.EXTERNAL, EndpointKind.INGRESS)]


def ovn_verdicts(verdicts: CellVerdicts) -> NDArray[np.uint8]:
    """Return what OVN decides of each cell: the logical plane's word, the datapath's without it."""
    logical = verdicts.logical
    if logical is None:
        return verdicts.verdict
    return np.where(proven(logical), logical, verdicts.verdict)


def _drift(intent: IntentVerdicts, done: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 1 where the objects and OVN disagree, NO_VERDICT where they cannot be compared.

    What the objects allow and OVN has no way for is not compared: no policy speaks of routes.
    """
    allowed, passes = intent.passes(), passing(done)
    no_way = done == CODE[Verdict.UNROUTABLE]
    comparable = proven(intent.verdict) & proven(done) & ~(allowed & no_way)
    return where_known(comparable, allowed != passes)


def _either(first: NDArray[np.uint8], second: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return 1 where either comparison says so, NO_VERDICT where neither could be made."""
    if second is None:
        return first
    some = (first == 1) | (second == 1)
    comparable = (first != NO_VERDICT) | (second != NO_VERDICT)
    return where_known(comparable, some)
