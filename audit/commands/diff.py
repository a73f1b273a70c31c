"""Two runs, or two directories of manifests → what is different between them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit import __version__
from audit.commands import outside as beyond
from audit.compare import common, diff
from audit.cover import portspace
from audit.errors import ScopeError
from audit.facts import manifests, objects
from audit.facts.manifests import Surroundings
from audit.model.changes import ChangedCells, ChangedPaths, Changes
from audit.model.endpoints import EndpointKind
from audit.model.facts import ClusterState, Policy
from audit.model.matrix import Matrix
from audit.model.portspace import NO_SPACE, PortSpace
from audit.model.recorded import Recorded
from audit.policy import compare
from audit.policy.intent import evaluate
from audit.report import changes
from audit.report.formats import sarif
from audit.scope import expand, matrix, membership, outside, ports
from audit.scope.ports import DECLARED
from audit.scope.scope import FamilyChoice, Scope
from audit.store.layout import read_manifest
from audit.store.reader import open_recorded
from audit.tracing.options import Progress

Lines = Mapping[str, Sequence[str | int]]
"""By object, rule or namespace, the file and the line where it is written."""


def compare_manifests(
    before: str, after: str, scope: Scope, around: Surroundings, progress: Progress
) -> tuple[Changes, Lines]:
    """Evaluate both over the same scope, and compare them cell by cell.

    `around` is what is said of the cluster of both that the manifests do not have. Where objects
    are written is returned, too; of one that both have, where it is in `after`.
    """
    states = []
    for source in (before, after):
        progress.phase(f"reading {source}", 0)
        states.append(objects.load_manifests(manifests.read(source, around)))
    earlier, later = states
    # One and the same for both, so that ranges of ports and of addresses are the same too.
    policies = (*earlier.policies, *later.policies)
    space = portspace.with_policies(NO_SPACE, policies, (*earlier.pods, *later.pods))
    progress.phase("evaluating policies", 0)
    with _naming(before):
        left = _matrix(earlier, scope, space, policies)
    with _naming(after):
        right = _matrix(later, scope, space, policies)
    verdicts = (evaluate(left, earlier), evaluate(right, later))
    lines = {
        subject: (source.file, source.line)
        for subject, source in (*earlier.source_lines.items(), *later.source_lines.items())
    }
    return compare.compare((earlier, later), (left, right), verdicts), lines


def _matrix(
    state: ClusterState, scope: Scope, space: PortSpace, policies: Sequence[Policy]
) -> Matrix:
    sides = expand.sources_and_destinations(state, scope, outside=True, policies=policies)
    resolved = ports.resolve(
        scope.ports, sides.endpoints, sides.destinations.tolist(), space, whole_outside=True
    )
    families = scope.family.families
    return matrix.build(sides.endpoints, sides.blocks, resolved, families, sides.paths).matrix


def diff_runs(
    before: Path, after: Path, progress: Progress, *, by_policies: bool = True
) -> Changes:
    """Compare two finished runs cell by cell, and explain what changed.

    With `by_policies`, what their policies alone say of the outside that no cell holds is beside
    it, on its own: not of two runs of the same objects.
    """
    return _compared(before, after, progress, by_policies=by_policies)[0]


def mark_runs(before: Path, after: Path, progress: Progress) -> tuple[Changes, ChangedCells]:
    """Compare as `diff_runs`, and mark how the later run's cells changed: a byte per cell."""
    differences, marks = _compared(before, after, progress, by_policies=True)
    return differences, ChangedCells(
        since=differences.before,
        cells=marks,
        sentences=changes.sentences(differences),
        paths=differences,
        outside=differences.outside or ChangedPaths(paths=()),
    )


def _compared(
    before: Path, after: Path, progress: Progress, *, by_policies: bool
) -> tuple[Changes, NDArray[np.uint8]]:
    earlier, later = (open_recorded(path) for path in (before, after))
    if plane := common.plane(earlier.manifest, later.manifest):
        earlier, later = (open_recorded(path, plane) for path in (before, after))
    progress.phase("comparing", len(later.endpoints))
    marks = np.zeros(len(later.cells), np.uint8)
    selected = _selected(earlier, later), _selected(later, earlier)
    shared = common.restricted(earlier, later, selected)
    differences = diff.compare(earlier, later, progress.advance, marks, shared)
    if not by_policies:
        return differences, marks
    progress.phase("evaluating policies for the outside", 0)
    return replace(differences, outside=beyond.compare(earlier, later, shared)), marks


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Have an error about a scope name the manifests it does not fit."""
    try:
        yield
    except ScopeError as error:
        raise ScopeError(f"{source}: {error}") from error


def _selected(run: Recorded, other: Recorded) -> NDArray[np.bool_]:
    """Say of each endpoint of a run whether the scope of the other has such."""
    scope, other_scope = _scope(run), _scope(other)
    if other_scope is None or scope == other_scope:
        return np.ones(len(run.endpoints), np.bool_)
    ranges = any(outside.is_range_endpoint(e) for e in other.endpoints)
    ingresses = bool((other.manifest.get("labels") or {}).get("controllers"))
    return np.array(
        [
            membership.selects(
                other_scope,
                e,
                run.namespace_labels(e.namespace),
                ranges=ranges,
                ingresses=ingresses and _leads_into(run, index, other_scope),
            )
            for index, e in enumerate(run.endpoints)
        ],
        np.bool_,
    )


def _leads_into(run: Recorded, index: int, scope: Scope) -> bool:
    """Tell whether an Ingress or its like leads to pods that a scope has as destinations."""
    if run.endpoints[index].kind is not EndpointKind.INGRESS:
        return False
    pods = (run.endpoints[dst] for dst in np.unique(run.cells.of_source(index).dst).tolist())
    return any(membership.sides(scope, pod, run.namespace_labels(pod.namespace))[1] for pod in pods)


def _scope(run: Recorded) -> Scope | None:
    """Return the scope of a run without its ports; None where the run does not say it."""
    if not run.manifest.get("scope"):
        return None
    return replace(beyond.scope_of(run), ports=(DECLARED,), family=FamilyChoice.IP4)


def lines_of(run: Path) -> Lines:
    """Return where the objects of a run are written; none of a run that is of no manifests."""
    recorded: Lines = read_manifest(run).get("source_lines") or {}
    return recorded


def as_sarif(changed: Changes, lines: Lines) -> str:
    """Return what changed as a SARIF log."""
    return sarif.changes_sarif(changed, lines, __version__)


markdown, plain = changes.markdown, changes.plain
