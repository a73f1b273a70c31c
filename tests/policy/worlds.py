"""The same small world twice: for the literal evaluator, and as the facts the audit works on."""

from collections.abc import Mapping, Sequence
from typing import Any

from audit.facts import policyobjects
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import ClusterState, Policy
from audit.model.packets import Protocol
from tests.policy import literal
from tests.policy.literal import Party

Object = Mapping[str, Any]


def pod(
    namespace: str,
    name: str,
    addresses: Sequence[str],
    *,
    node: str = "n1",
    labels: Mapping[str, str] | None = None,
    ports: Sequence[tuple[str, str, int]] = (),
) -> Party:
    return Party(
        kind="pod",
        name=name,
        namespace=namespace,
        node=node,
        labels=labels or {},
        receives=tuple(addresses),
        sends=tuple(addresses),
        ports=tuple(ports),
    )


def host_pod(namespace: str, name: str, node: Party, labels: Mapping[str, str]) -> Party:
    return Party(
        kind="host-pod",
        name=name,
        namespace=namespace,
        node=node.name,
        labels=labels,
        receives=node.receives,
        sends=node.sends,
        ports=(("http", "TCP", 80),),
    )


def node(
    name: str, receives: Sequence[str], sends: Sequence[str], labels: Mapping[str, str]
) -> Party:
    return Party(
        kind="node",
        name=name,
        node=name,
        labels=labels,
        receives=tuple(receives),
        sends=tuple(sends),
    )


def outside(address: str) -> Party:
    return Party(kind="outside", name=address, receives=(address,), sends=(address,))


_KINDS = {
    "pod": EndpointKind.POD,
    "host-pod": EndpointKind.POD,
    "node": EndpointKind.NODE,
    "outside": EndpointKind.EXTERNAL,
}


def endpoint(party: Party) -> Endpoint:
    host = party.kind in ("node", "host-pod")
    attached = Attachment(
        zone=party.node, switch=party.node, port="", mac="", gateway_mac="", addresses=party.sends
    )
    return Endpoint(
        kind=_KINDS[party.kind],
        namespace=party.namespace,
        name=party.name,
        node=party.node,
        addresses=party.receives,
        labels=tuple(sorted(party.labels.items())),
        host_network=host,
        declared=tuple(
            NamedPort(name=name, port=Port(protocol=Protocol(protocol.lower()), number=number))
            for name, protocol, number in party.ports
        ),
        attachment=attached,
    )


def policies(objects: Sequence[Object]) -> tuple[Policy, ...]:
    return tuple(policyobjects.policy(item, item["kind"]) for item in objects)


def state(world: literal.World, parties: Sequence[Party]) -> ClusterState:
    made = [endpoint(party) for party in parties]
    return ClusterState(
        source="a test",
        pods=tuple(e for e in made if e.kind is EndpointKind.POD),
        nodes=tuple(e for e in made if e.kind is EndpointKind.NODE),
        services=(),
        namespaces={
            name: tuple(sorted(labels.items())) for name, labels in world.namespaces.items()
        },
        policies=policies(world.policies),
        zones={},
    )
