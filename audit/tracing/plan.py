"""facts → plan: everything up to the first trace."""

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from audit import scratch
from audit.cover import behind, portspace, represent, services
from audit.cover import classes as legs
from audit.cover import requests as cover
from audit.cover.headless import NO_HEADLESS, Headless, headless
from audit.errors import UsageError
from audit.facts import assemble
from audit.facts.archive import LARGEST
from audit.facts.live.access import Access
from audit.model.facts import ClusterState, Note, Owners
from audit.model.legs import LegPlan
from audit.model.matrix import Matrix
from audit.model.options import Covering, PlaneName
from audit.model.portspace import NO_SPACE, PortSpace
from audit.model.services import ServiceCells
from audit.replay import databases, toolchain
from audit.scope import expand, matrix, ports
from audit.scope.outside import Range
from audit.trace.pods import Pods
from audit.tracing import pods as inpods
from audit.tracing.options import Options, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A cluster read and a scope expanded: everything up to the first trace."""

    state: ClusterState
    engine: toolchain.Toolchain
    matrix: Matrix
    cover: cover.Cover
    legs: tuple[LegPlan, ...]
    """How the cells without a request of their own are composed."""
    owners: Owners
    """Who has which address."""
    notes: tuple[Note, ...]
    pods: Pods | None = None
    """Where traces run, if not on copies here."""
    outside: tuple[Range, ...] = ()
    """The ranges of addresses among the endpoints."""
    services: tuple[ServiceCells, ...] = ()
    """Cells to Services that few traces decide, and which they are."""
    headless: Headless = NO_HEADLESS
    """Services without an address, which are no packet."""
    wide: Matrix | None = None
    """The endpoints and ports that the legs' tables are over, where they are more than asked."""


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Make facts or a plan without looking for cycles, of which they have none, then or later.

    A big cluster is millions of values that live as long as the run: the collector would visit
    them again and again, a fifth of the time it takes to make them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@_without_garbage_collection()
def plan(options: Options, progress: Progress, stack: ExitStack) -> Planned:
    """Read the cluster, expand the scope and choose the traces; nothing is traced.

    The staged databases live until `stack` is closed.
    """
    if options.snapshot is None:
        raise UsageError("manifests have no OVN to trace; ask of them with --planes intent")
    state, engine, pods = read(
        options.snapshot,
        options.ovn_prefix,
        progress,
        stack,
        cluster=options.cluster,
        most_unpacked=options.most_unpacked,
    )
    progress.phase("planning", 0)
    sides = expand.sources_and_destinations(state, options.scope)
    whole = ports.asks_for_all(options.scope.ports)
    resolved = ports.resolve(
        options.scope.ports,
        sides.endpoints,
        sides.destinations.tolist(),
        _port_space(state, options) if whole else NO_SPACE,
    )
    built = matrix.build(sides.endpoints, sides.blocks, resolved, options.scope.family.families)
    owners = state.owners()
    names = headless(state, owners)
    few = options.cover is Covering.LEGS
    vips = services.addresses(built.matrix, names) if few else ()
    behind_services = {
        **services.behind(state.zones.values(), vips),
        **(services.headless_behind(built.matrix, names) if few else {}),
    }
    wide = services.widened(built.matrix, behind_services, owners)
    decomposed = legs.legs(wide, state.zones, vips, state.ways_in)
    if options.cover is Covering.EXHAUSTIVE:
        decomposed = replace(legs.NONE, opaque=decomposed.opaque)
    by_few = services.cells(
        built.matrix,
        wide,
        tuple(zip(decomposed.plans, decomposed.balancing, strict=True)),
        vips,
        behind_services,
        owners,
    )
    return Planned(
        state=_without_flows(state),
        engine=engine,
        matrix=built.matrix,
        cover=_cover(options.cover, built.matrix, decomposed, by_few, names),
        legs=decomposed.plans,
        services=by_few,
        headless=names,
        wide=wide,
        owners=owners,
        pods=pods,
        outside=sides.outside,
        notes=(*state.notes, *built.notes(), *decomposed.notes),
    )


def _without_flows(state: ClusterState) -> ClusterState:
    """Forget logical flows, when it is known what of them does not fit the northbound.

    The cover is made of them, and no trace looks at these copies, which of a large cluster are most
    of what a run would keep in memory.
    """
    lagging = behind.differences(state.zones)
    nothing: Mapping[str, Any] = MappingProxyType({})
    zones = {
        name: replace(zone, flows=nothing, service_flows=nothing)
        for name, zone in state.zones.items()
    }
    return replace(state, zones=MappingProxyType(zones), lagging=lagging)


def read(
    snapshot: Path,
    ovn_prefix: Path | None,
    progress: Progress,
    stack: ExitStack,
    *,
    cluster: Access | None = None,
    most_unpacked: int = LARGEST,
) -> tuple[ClusterState, toolchain.Toolchain, Pods | None]:
    """Read a cluster, and choose an OVN that is not older than any of its databases.

    With `cluster` that is the pods' own, whose daemons the last of these reaches.
    """
    candidates = toolchain.find(ovn_prefix) if cluster is None else []
    newest = max(candidates, key=lambda candidate: candidate.version, default=inpods.NO_ENGINE)
    progress.phase("reading the snapshot", 0)
    workdir = stack.enter_context(scratch.directory("facts"))
    with _without_garbage_collection():
        tool = databases.OvsdbTool(programs=newest)
        state = assemble.load(snapshot, workdir, tool, most=most_unpacked)
    if cluster is not None:
        progress.phase("reaching the pods", 0)
        reached = inpods.reach(cluster, snapshot, state.zones, ovn_prefix)
        state = replace(state, notes=(*state.notes, *reached.notes))
        return state, reached.engine, reached.pods
    versions = {zone.name: zone.northd_version for zone in state.zones.values()}
    engine = toolchain.choose(candidates, versions)
    notes = (*state.notes, *_unknown_versions(versions, engine))
    return replace(state, notes=notes), engine, None


def _port_space(state: ClusterState, options: Options) -> PortSpace:
    """Return what tells ports apart, on every plane that is asked."""
    space = portspace.space(state.zones.values())
    if PlaneName.INTENT in options.planes:
        return portspace.with_policies(space, state.policies, state.pods)
    return space


def _cover(
    covering: Covering,
    of: Matrix,
    decomposed: legs.Legs,
    by_few: Sequence[ServiceCells],
    names: Headless,
) -> cover.Cover:
    """Choose the requests: for every cell, for what legs need, or for none."""
    if covering is Covering.PREDICT:
        return cover.predict_only(of)
    if covering is Covering.EXHAUSTIVE:
        return cover.exhaustive(of, names, opaque=decomposed.opaque)
    requested = np.ones(len(of), dtype=np.bool_)
    for plan in decomposed.plans:
        requested[plan.composed] = False
    for plan in decomposed.plans:
        requested[represent.choose(of, plan)] = True
        if covering is Covering.PAIRS:
            requested[represent.choose_pairs(of, plan)] = True
    for some in by_few:
        requested[some.cells] = False
        requested[some.asked()] = True
    chosen = cover.exhaustive(of, names, only=requested, opaque=decomposed.opaque)
    return replace(chosen, name=str(covering))


def _unknown_versions(versions: Mapping[str, str], engine: toolchain.Toolchain) -> Iterator[Note]:
    """Say which zones do not tell which OVN made them: their engine could not be checked."""
    silent = tuple(sorted(zone for zone, version in versions.items() if not version))
    if silent:
        text = (
            f"{len(silent)} zones do not say which ovn-northd made them; OVN {engine.version} was "
            "used, the newest at hand, and it can read all their logical flows"
        )
        yield Note(code="northd-version-unknown", text=text, subjects=silent)
