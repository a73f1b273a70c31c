"""facts → plan: everything up to the first trace."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audit.facts import assemble
from audit.model.endpoints import Endpoint
from audit.model.facts import ClusterState, Note
from audit.model.legs import LegPlan
from audit.model.matrix import Matrix
from audit.pipeline.options import Covering, Options, Progress
from audit.plan import cover, expand, legs, matrix, ports, represent
from audit.plan.headless import Headless, headless
from audit.replay import databases, toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A cluster read and a scope expanded: everything up to the first trace."""

    state: ClusterState
    engine: toolchain.Toolchain
    matrix: Matrix
    cover: cover.Cover
    legs: tuple[LegPlan, ...]
    """How the cells without a request of their own are composed."""
    owners: Mapping[str, Endpoint]
    """Who has which address."""
    notes: tuple[Note, ...]


def plan(options: Options, progress: Progress, stack: ExitStack) -> Planned:
    """Read the cluster, expand the scope and choose the traces; nothing is traced.

    The staged databases live until `stack` is closed.
    """
    state, engine = read(options.snapshot, options.ovn_prefix, progress, stack)
    versions = {zone.name: zone.northd_version for zone in state.zones.values()}
    progress.phase("planning", 0)
    sides = expand.sources_and_destinations(state, options.scope)
    resolved = ports.resolve(options.scope.ports, sides.endpoints, sides.destinations.tolist())
    built = matrix.build(sides.endpoints, sides.blocks, resolved, options.scope.family.families)
    owners = owners_of(state)
    decomposed = legs.NONE
    if options.cover is not Covering.EXHAUSTIVE:
        decomposed = legs.legs(built.matrix, state.zones)
    return Planned(
        state=state,
        engine=engine,
        matrix=built.matrix,
        cover=_cover(options.cover, built.matrix, decomposed.plans, headless(state, owners)),
        legs=decomposed.plans,
        owners=owners,
        notes=(*state.notes, *_unknown_versions(versions), *built.notes(), *decomposed.notes),
    )


def read(
    snapshot: Path, ovn_prefix: Path | None, progress: Progress, stack: ExitStack
) -> tuple[ClusterState, toolchain.Toolchain]:
    """Read a cluster, and choose an OVN that is not older than any of its databases."""
    candidates = toolchain.find(ovn_prefix)
    newest = max(candidates, key=lambda found: found.version, default=None)
    if newest is None:
        toolchain.choose(candidates, {})  # raises, with what to install
    assert newest is not None  # noqa: S101 - choose() raised
    progress.phase("reading the snapshot", 0)
    workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-facts-")))
    state = assemble.load(snapshot, workdir, databases.OvsdbTool(programs=newest))
    versions = {zone.name: zone.northd_version for zone in state.zones.values()}
    return state, toolchain.choose(candidates, versions)


def _cover(
    covering: Covering, of: Matrix, plans: Sequence[LegPlan], names: Headless
) -> cover.Cover:
    """Choose the requests: for every cell, for what legs need, or for none."""
    match covering:
        case Covering.EXHAUSTIVE:
            return cover.exhaustive(of, names)
        case Covering.PREDICT:
            return cover.predict_only(of)
        case Covering.LEGS:
            asked = np.ones(len(of), dtype=np.bool_)
            for plan in plans:
                asked[plan.composed] = False
            for plan in plans:
                asked[represent.choose(of, plan)] = True
            return replace(cover.exhaustive(of, names, only=asked), name=str(covering))


def _unknown_versions(versions: Mapping[str, str]) -> Iterator[Note]:
    """Say which zones do not tell which OVN made them: their engine could not be checked."""
    silent = tuple(sorted(zone for zone, version in versions.items() if not version))
    if silent:
        text = (
            f"{len(silent)} zones do not say which ovn-northd made them; the newest OVN at hand "
            "was used, and what it could not parse was counted"
        )
        yield Note(code="northd-version-unknown", text=text, subjects=silent)


def owners_of(state: ClusterState) -> dict[str, Endpoint]:
    """Map addresses to who has them: pods by their own, nodes by the host's."""
    owners = {address: node for node in state.nodes for address in node.addresses}
    for pod in state.pods:
        if not pod.host_network:
            owners.update(dict.fromkeys(pod.addresses, pod))
    return owners
