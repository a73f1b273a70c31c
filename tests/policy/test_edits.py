"""What would have to change: every suggestion opens its cell, and says what else it opens."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.model.endpoints import Port
from audit.model.facts import Policy
from audit.model.packets import Family, Protocol
from audit.policy import edits
from audit.policy.cluster import Cluster
from audit.policy.intent import Intent
from audit.policy.tables import PASSES, STOPS
from tests.policy import literal, test_literal, worlds
from tests.policy.test_scenarios import admin, network, only, space

PARTIES = [p for p in test_literal.PARTIES if ":" not in p.name]
PORTS = [Port(protocol=Protocol.TCP, number=80), Port(protocol=Protocol.UDP, number=8080)]


def question(objects: list[dict[str, Any]], src: int, dst: int, port: int) -> edits.Question:
    world = literal.World(
        namespaces=test_literal.SPACES, nodes=test_literal.NODES, policies=objects
    )
    state = worlds.state(world, PARTIES)
    return edits.Question(
        policies=state.policies,
        endpoints=[worlds.endpoint(party) for party in PARTIES],
        cluster=Cluster.of(state),
        ports=PORTS,
        family=Family.IP4,
        src=src,
        dst=dst,
        port=port,
    )


def outcomes(asked: edits.Question, policies: list[Policy]) -> dict[tuple[int, int, int], int]:
    """Every cell, by an evaluation that the suggestion did not make itself."""
    intent = Intent(policies, asked.endpoints, asked.cluster, asked.ports, asked.family)
    size = range(len(asked.endpoints))
    cells = [c for c in product(size, size, range(len(asked.ports))) if c[0] != c[1]]
    found = intent.decide(*(np.array(column, np.int32) for column in zip(*cells, strict=True)))
    return dict(zip(cells, found.outcome.tolist(), strict=True))


def applied(asked: edits.Question, opening: edits.Opening) -> list[Policy]:
    """Make the edits; of two that concern one policy, both directions' rules."""
    changed = [p for p in asked.policies if p.spec is not None]
    for edit in opening.edits:
        original, current = asked.policies[edit.index].spec, changed[edit.index].spec
        assert original is not None
        assert current is not None
        new = {r.direction for r in edit.spec.rules if r not in original.rules}
        rules = [r for r in current.rules if r.direction not in new]
        rules += [r for r in edit.spec.rules if r.direction in new]
        changed[edit.index] = replace(
            changed[edit.index], spec=replace(edit.spec, rules=tuple(rules))
        )
    return changed


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(test_literal.policy_sets, st.data())
def test_every_suggestion_opens_its_cell_and_counts_what_else(
    objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    asked = question(objects, 0, 1, 0)
    before = outcomes(asked, [*asked.policies])
    blocked = [cell for cell, bits in before.items() if bits == STOPS]
    if not blocked:
        return
    cell = data.draw(st.sampled_from(blocked))
    asked = question(objects, *cell)
    found = edits.openings(asked)
    # What a page lists, uncounted, is in the same order.
    uncounted = edits.openings(asked, count=False)
    assert [each.edits for each in uncounted] == [each.edits for each in found]
    # Whatever stops a packet of a pod can be edited: a rule, or a policy that isolates.
    assert found
    for opening in found:
        after = outcomes(asked, applied(asked, opening))
        assert after[cell] == PASSES
        opened = {c for c, bits in after.items() if bits == PASSES and before[c] != PASSES}
        assert opening.count == len(opened - {cell})
        assert set(opening.also) <= opened - {cell}


def texts(objects: list[dict[str, Any]], src: str, dst: str) -> list[str]:
    names = [f"{p.namespace}/{p.name}" if p.namespace else p.name for p in PARTIES]
    asked = question(objects, names.index(src), names.index(dst), 0)
    return ["; ".join(e.text for e in found.edits) for found in edits.openings(asked)]


def test_the_smallest_change_is_a_port_where_the_peer_is_there_already() -> None:
    rule = {"from": [{"namespaceSelector": {}}], "ports": [{"port": 5432}]}
    objects = [network("allow-db", "a", podSelector={}, ingress=[rule])]
    assert texts(objects, "b/none", "a/db")[0] == (
        "add port tcp/80 to networkpolicy a/allow-db ingress[0]"
    )


def test_small_edits_that_open_nothing_leave_room_for_the_one_that_does() -> None:
    rule = {"to": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 443}]}
    isolating = network("few", "b", podSelector={}, egress=[rule, rule, rule])
    deny = {"action": "Deny", "to": [{"namespaces": {}}]}
    policy = admin("deny-x", 0, "x", egress=[deny])
    policy["spec"]["subject"] = {"namespaces": {"matchLabels": {"env": "dev"}}}
    found = texts([isolating, policy], "b/none", "a/db")
    assert found
    assert all("deny-x" in text for text in found)


def test_a_rule_that_denies_first_is_named_with_its_priority() -> None:
    deny = {"action": "Deny", "from": [{"namespaces": {}}]}
    policy = admin("deny-x", 7, "x", ingress=[deny])
    policy["spec"]["subject"] = {"namespaces": {"matchLabels": {"env": "prod"}}}
    [text] = texts([policy], "b/none", "a/db")
    assert text == (
        "adminnetworkpolicy deny-x (priority 7) wins first: before its ingress[0], allow pods "
        "(all) of namespaces env=dev on tcp/80"
    )


def test_both_sides_are_opened_together() -> None:
    objects = [
        network("in", "a", podSelector={}, policyTypes=["Ingress"]),
        network("out", "b", podSelector={}, policyTypes=["Egress"]),
    ]
    [text] = texts(objects, "b/none", "a/db")
    assert "networkpolicy b/out egress" in text
    assert "networkpolicy a/in ingress" in text


def test_an_open_cell_needs_no_change() -> None:
    assert texts([network("x", "c", podSelector=only("q"), ingress=[])], "b/none", "a/db") == []
    assert space("x")
