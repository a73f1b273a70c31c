"""A named port in an admin ingress rule hits whom it lists, wherever its subject has a pod.

By hand from how OVN-Kubernetes compiles it: no `outport`, the subject's pods of the zone and all
peers listed, the ACL in force on each switch that holds a pod of the subject.
"""

from typing import Any

import numpy as np
import pytest

from audit.model.endpoints import Port
from audit.model.matrix import Matrix
from audit.model.packets import Protocol
from audit.policy import deviations
from audit.policy.deviations import Deviation
from audit.policy.intent import evaluate
from audit.policy.leaks import evaluate_leaking
from tests.policy import literal, worlds
from tests.policy.test_scenarios import admin, network, space
from tests.policy.worlds import pod

HTTP = [("http", "TCP", 80)]
NAMES = ["subject", "near", "far", "farther", "silent"]
PODS = [
    pod("x", "subject", ["10.0.1.1"], ports=HTTP),
    pod("y", "near", ["10.0.1.2"], ports=HTTP),
    pod("y", "far", ["10.0.2.2"], node="n2", ports=HTTP),
    pod("y", "farther", ["10.0.2.3"], node="n2", ports=HTTP),
    pod("y", "silent", ["10.0.1.5"]),
]
NAMED = {"from": [{"namespaces": space("y")}], "ports": [{"namedPort": "http"}]}
DENY, ALLOW = ({"action": action, **NAMED} for action in ("Deny", "Allow"))


def judged(objects: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Return what is stopped as it is meant, and as it is enforced."""
    spaces = {name: {"ns": name} for name in "xy"}
    world = literal.World(namespaces=spaces, nodes={}, policies=objects)
    state = worlds.state(world, PODS)
    endpoints = tuple(worlds.endpoint(party) for party in PODS)
    pairs = [(s, d) for s in range(len(PODS)) for d in range(len(PODS)) if s != d]
    src, dst = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    matrix = Matrix(
        endpoints=endpoints,
        ports=(Port(protocol=Protocol.TCP, number=80),),
        src=src,
        dst=dst,
        family=np.zeros(len(pairs), np.int8),
        port=np.zeros(len(pairs), np.int32),
    )
    meant = evaluate(matrix, state).passes()
    done = evaluate_leaking(matrix, state, state.policies)
    differ = np.flatnonzero(meant != done)
    causes = deviations.explain(matrix, state, differ, done[differ])
    assert all(Deviation.ADMIN_NAMED_PORT in causes.causes[c] for c in causes.cause.tolist())

    def stopped(passes: Any) -> set[str]:
        found = [pair for pair, good in zip(pairs, passes.tolist(), strict=True) if not good]
        return {f"{NAMES[s]}>{NAMES[d]}" for s, d in found}

    return stopped(meant), stopped(done)


MEANT = {"near>subject", "far>subject", "farther>subject", "silent>subject"}


@pytest.mark.parametrize(
    ("objects", "meant", "more"),
    [
        # On n1, where the subject is: peers to peers there, and from there on the way out.
        (
            [admin("wall", 5, "x", ingress=[DENY])],
            MEANT,
            {"far>near", "farther>near", "silent>near"}
            | {"near>far", "near>farther", "silent>far", "silent>farther"},
        ),
        # What goes first still goes first; nothing leaks from a rule without a name.
        (
            [
                admin("open", 4, "x", ingress=[{"action": "Allow", "from": NAMED["from"]}]),
                admin("wall", 5, "x", ingress=[DENY]),
            ],
            set(),
            {"far>near", "farther>near", "silent>near"}
            | {"near>far", "near>farther", "silent>far", "silent>farther"},
        ),
        # The policy of a namespace that has no pod is in force nowhere.
        ([admin("wall", 5, "q", ingress=[DENY])], set(), set()),
    ],
)
def test_a_denial_hits_peers_too(
    objects: list[dict[str, Any]], meant: set[str], more: set[str]
) -> None:
    assert judged(objects) == (meant, meant | more)


def test_an_allowance_lets_in_what_a_policy_stops() -> None:
    objects = [
        admin("door", 5, "x", ingress=[ALLOW]),
        network("shut", "y", podSelector={}, policyTypes=["Ingress"]),
    ]
    meant, done = judged(objects)
    assert meant - done == {"far>near", "farther>near", "silent>near"}
    assert done < meant
