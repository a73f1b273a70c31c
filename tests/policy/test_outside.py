"""What two sets of policies say of the outside is what the literal evaluator says, by cell."""

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.model.changes import OutsideChanges
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.packets import Family, Protocol
from audit.model.policies import Direction
from audit.model.verdicts import PASSES, Reason, Verdict
from audit.policy import outside
from audit.policy.outside import Side
from tests.policy import literal, worlds
from tests.policy.test_literal import HOSTED, NODES, PARTIES, PORTS, SPACES, policy_sets

PODS = [party for party in PARTIES if party.kind == "pod"]
BEYOND = [
    worlds.outside(address)
    for address in ("203.0.113.7", "198.51.100.1", "10.0.1.200", "2001:db8::7", "2001:dba::1")
]
FAMILIES = {Family.IP4: 4, Family.IP6: 6}
ASKED = tuple(sorted(Port(protocol=Protocol(p.lower()), number=n) for p, n in PORTS))
_Change = tuple[str, str, str, bool]


def compared(
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    pods: list[tuple[Endpoint, Endpoint]],
    ports: tuple[Port, ...] = ASKED,
) -> OutsideChanges:
    states = [
        worlds.state(literal.World(namespaces=SPACES, nodes=NODES, policies=objects), PARTIES)
        for objects in (before, after)
    ]
    sides = [
        Side(
            direction=direction,
            pods=pods,
            ranges=[worlds.endpoint(party) for party in BEYOND],
            ports=[ports] * len(pods),
        )
        for direction in Direction
    ]
    return outside.compare((states[0], states[1]), sides, tuple(Family), lambda *_: ("why",))


def literally(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Counter[_Change]:
    """Return what gets through in one and not in the other: (from, to, port, whether after)."""
    found = Counter[_Change]()
    for one in PODS:
        for beyond in BEYOND:
            version = 6 if ":" in beyond.name else 4
            for src, dst in ((one, beyond), (beyond, one)):
                for protocol, number in PORTS:
                    packet = literal.Packet(
                        src=src, dst=dst, protocol=protocol, port=number, family=version
                    )
                    passes = [
                        literal.allowed(
                            literal.World(
                                namespaces=SPACES, nodes=NODES, policies=objects, host_pods=HOSTED
                            ),
                            packet,
                        )
                        for objects in (before, after)
                    ]
                    if passes[0] != passes[1]:
                        one_end, other = (worlds.endpoint(end).belongs_to for end in (src, dst))
                        found[one_end, other, f"{protocol.lower()}/{number}", passes[1]] += 1
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy_sets, st.integers(0, 12), st.integers(0, 12), st.sampled_from([1, -1]))
def test_every_change_is_one_and_no_other_is(
    objects: list[dict[str, Any]], first: int, count: int, order: int
) -> None:
    before, after = [objects, [*objects[:first], *objects[first + count + 1 :]]][::order]
    ends = [worlds.endpoint(party) for party in PODS]
    found = compared(before, after, [(end, end) for end in ends])
    told = Counter[_Change]()
    for path in found.paths:
        assert path.cells == len(path.ports)
        assert (path.before in PASSES) != (path.after in PASSES)
        for port in path.ports:
            told[path.src, path.dst, port, path.after in PASSES] += 1
    assert told == literally(before, after)
    assert found.decided == found.compared == 2 * len(PODS) * len(BEYOND) * len(PORTS)
    assert {path.because for path in found.paths} <= {("why",)}


def _firewall(cidr: str) -> list[dict[str, Any]]:
    rules = [{"type": "Deny", "to": {"cidrSelector": cidr}}]
    firewall = {"kind": "EgressFirewall", "metadata": {"namespace": "a", "name": "p"}}
    return [{**firewall, "spec": {"egress": rules}}]


def test_pods_of_a_workload_are_one_path_that_counts_them() -> None:
    """Also where they are of different classes: another policy tells their labels apart."""
    ends = [
        Endpoint(
            kind=EndpointKind.POD,
            namespace="a",
            name=f"web-{number}",
            workload="Deployment/web",
            addresses=(f"10.0.1.{number}",),
        )
        for number in (10, 11, 12)
    ]
    found = compared(
        _firewall("203.0.113.0/24"), _firewall("198.51.100.0/24"), [(e, e) for e in ends]
    )
    (opened,), (closed,) = found.opened, found.closed
    for path in (opened, closed):
        assert (path.src, path.cells) == ("deployment a/web", len(ends) * len(PORTS))
    assert (opened.dst, closed.dst) == ("external 203.0.113.7", "external 198.51.100.1")
    assert (opened.was, opened.after) == ("egressfirewall a/p egress[0] (policy-deny)", "exits")


def test_what_policies_cannot_be_applied_to_is_undecided_and_its_end_a_change() -> None:
    end = worlds.endpoint(PODS[0])
    held = Endpoint(
        kind=end.kind,
        namespace=end.namespace,
        name=end.name,
        addresses=end.addresses,
        labels=end.labels,
        obstacle=Reason.CHANGED_MEANWHILE,
    )
    still = compared(_firewall("203.0.113.0/24"), _firewall("198.51.100.0/24"), [(held, held)])
    assert (still.paths, still.decided) == ((), 0)
    assert still.compared == 2 * len(BEYOND) * len(PORTS)
    freed = compared(_firewall("203.0.113.0/24"), _firewall("203.0.113.0/24"), [(held, end)])
    assert {path.before for path in freed.paths} == {Verdict.UNTRACED}
    assert sum(path.cells for path in freed.paths) == freed.compared
