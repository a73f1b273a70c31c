"""On clusters made by the real controllers, the objects say what `ovn-trace` was seen to say.

Where they do not, the cause is a known deviation of OVN-Kubernetes. Each is counted, so that a
cause that explains more or less than it did is noticed.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from audit.facts import assemble
from audit.policy import deviations
from audit.policy.intent import evaluate
from audit.replay import databases
from audit.replay.toolchain import Toolchain
from audit.scope import expand, matrix, ports, scope
from tests import parity

KNOWN = {
    "ovn-23.03-central": {"named-port-opens-protocol": 40},
    "ovn-25.03-interconnect": {
        "named-port-opens-protocol": 36,
        "number-hides-protocol": 4,
        "admin-named-port-leaks": 2,
    },
    "upgrade-before": {},
    "upgrade-after": {},
}


@pytest.mark.ovn
@pytest.mark.parametrize("name", parity.POD_ANSWERS)
def test_objects_say_what_ovn_does_but_for_known_deviations(
    name: str, tmp_path: Path, toolchain: Toolchain
) -> None:
    answers = parity.read_answers(name)
    state = assemble.load(parity.SNAPSHOTS[name], tmp_path, databases.OvsdbTool(programs=toolchain))
    asked = scope.from_flags(
        ports=sorted({f"{a['protocol']}/{a['port']}" for a in answers}),
        family=parity.families(answers),
    )
    sides = expand.sources_and_destinations(state, asked)
    resolved = ports.resolve(asked.ports, sides.endpoints, sides.destinations.tolist())
    built = matrix.build(sides.endpoints, sides.blocks, resolved, asked.family.families).matrix
    found = dict(parity.places(built))
    cells = np.array(
        [found[a["src"], a["dst"], a["family"], a["protocol"], a["port"]] for a in answers]
    )
    delivered = np.array([a["delivered"] == "1" for a in answers])
    intended = evaluate(built, state).passes()[cells]
    differ = intended != delivered
    causes = deviations.explain(built, state, cells[differ], delivered[differ])
    counted = Counter(
        "+".join(causes.causes[cause]) if cause >= 0 else "drift" for cause in causes.cause.tolist()
    )
    assert counted == KNOWN[name]
    assert len(answers) >= 4900
