"""Two runs, or two directories of manifests → what is different between them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.compare import diff
from audit.cover import portspace
from audit.facts import manifests, objects
from audit.facts.manifests import Surroundings
from audit.model.changes import ChangedCells, Changes
from audit.model.facts import ClusterState, Policy
from audit.model.matrix import Matrix
from audit.model.portspace import NO_SPACE, PortSpace
from audit.policy import compare
from audit.policy.intent import evaluate
from audit.report import changes
from audit.scope import expand, matrix, ports
from audit.scope.scope import Scope
from audit.store import cells
from audit.tracing.options import Progress


def diff_manifests(
    before: str, after: str, scope: Scope, around: Surroundings, progress: Progress
) -> Changes:
    """Evaluate both over the same scope, and compare them cell by cell.

    `around` is what is said of the cluster of both that the manifests do not have.
    """
    states = []
    for place in (before, after):
        progress.phase(f"reading {place}", 0)
        states.append(objects.load_manifests(manifests.read(place, around)))
    one, two = states
    # One and the same for both, so that ranges of ports are the same too.
    space = portspace.with_policies(
        NO_SPACE, (*one.policies, *two.policies), (*one.pods, *two.pods)
    )
    progress.phase("evaluating policies", 0)
    policies = (*one.policies, *two.policies)
    left, right = (_matrix(state, scope, space, policies) for state in states)
    verdicts = (evaluate(left, one), evaluate(right, two))
    return compare.compare((one, two), (left, right), verdicts)


def _matrix(
    state: ClusterState, scope: Scope, space: PortSpace, policies: Sequence[Policy]
) -> Matrix:
    sides = expand.sources_and_destinations(state, scope, outside=True, policies=policies)
    resolved = ports.resolve(
        scope.ports, sides.endpoints, sides.destinations.tolist(), space, whole_outside=True
    )
    return matrix.build(sides.endpoints, sides.blocks, resolved, scope.family.families).matrix


def diff_runs(before: Path, after: Path, progress: Progress) -> Changes:
    """Compare two finished runs cell by cell, and explain what changed."""
    return _compared(before, after, progress)[0]


def mark_runs(before: Path, after: Path, progress: Progress) -> tuple[Changes, ChangedCells]:
    """Compare as `diff_runs`, and mark the later run's cells that changed: a byte per cell."""
    found, marks = _compared(before, after, progress)
    return found, ChangedCells(since=found.before, cells=marks, said=changes.sentences(found))


def _compared(before: Path, after: Path, progress: Progress) -> tuple[Changes, NDArray[np.bool_]]:
    earlier, later = (cells.open_recorded(path) for path in (before, after))
    progress.phase("comparing", len(later.endpoints))
    marks = np.zeros(int(later.manifest["counts"]["cells"]), np.bool_)
    return diff.compare(earlier, later, progress.advance, marks), marks


markdown, plain = changes.markdown, changes.plain
