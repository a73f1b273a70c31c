"""Two directories of manifests → what the change between them opens and closes."""

from audit.facts import manifests, objects
from audit.model.changes import Changes
from audit.model.facts import ClusterState
from audit.model.matrix import Matrix
from audit.pipeline.options import Progress
from audit.plan import expand, matrix, ports
from audit.plan.scope import Scope
from audit.policy import compare
from audit.policy.intent import IntentVerdicts, evaluate
from audit.report import changes


def diff_manifests(before: str, after: str, scope: Scope, progress: Progress) -> Changes:
    """Evaluate both over the same scope, and compare them cell by cell."""
    one, two = (_evaluated(place, scope, progress) for place in (before, after))
    return compare.compare((one[0], two[0]), (one[1], two[1]), (one[2], two[2]))


def _evaluated(
    place: str, scope: Scope, progress: Progress
) -> tuple[ClusterState, Matrix, IntentVerdicts]:
    progress.phase(f"evaluating {place}", 0)
    state = objects.load_manifests(manifests.read(place))
    sides = expand.sources_and_destinations(state, scope)
    resolved = ports.resolve(scope.ports, sides.endpoints, sides.destinations.tolist())
    built = matrix.build(sides.endpoints, sides.blocks, resolved, scope.family.families).matrix
    return state, built, evaluate(built, state)


markdown = changes.markdown
