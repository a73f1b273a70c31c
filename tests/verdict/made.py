"""Facts, tasks and hops made by hand, small enough to be seen through."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Attachment, Endpoint, EndpointKind
from audit.model.facts import Acl, FlowHint, LoadBalancer, LogicalPort, Owners, PortGroup, Zone
from audit.model.legs import Composable
from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.tasks import keyed
from audit.model.traces import AclMatch, Hop, HopEnd, TraceTask
from audit.model.verdicts import PolicyRef

FLOW = Microflow(
    inport="shop_a",
    eth_src="0a:58:0a:80:00:05",
    eth_dst="0a:58:0a:80:00:01",
    ip_src="10.128.0.5",
    ip_dst="10.128.0.6",
    protocol=Protocol.TCP,
    src_port=52888,
    dst_port=80,
)
SWITCH, ROUTER, TRANSIT = "worker", "ovn_cluster_router", "transit_switch"


def _changed(empty: dict[str, Any], fields: Mapping[str, object]) -> dict[str, Any]:
    return {**empty, **fields}


def task(**fields: object) -> TraceTask:
    """Return the request from shop/a to shop/b, changed."""
    empty: dict[str, Any] = {
        "key": "",
        "zone": "worker",
        "state": ConntrackState.REQUEST,
        "microflow": FLOW,
        "target": "shop_b",
    }
    return keyed(TraceTask(**_changed(empty, fields)))


def hop(end: HopEnd, **fields: object) -> Hop:
    """Return a hop on the source's switch."""
    return Hop(end=end, **_changed({"datapath": SWITCH, "outport": "shop_b"}, fields))


def match(action: str, stage: str = "ls_out_acl_eval", **fields: object) -> AclMatch:
    """Return what an ACL stage said."""
    given: dict[str, Any] = {"datapath": SWITCH, "logical_flow": "f1000000", "priority": 2000}
    return AclMatch(stage=stage, action=action, **_changed(given, fields))


def port(name: str, **fields: object) -> LogicalPort:
    """Return a port: a pod's, unless told otherwise."""
    empty: dict[str, Any] = {
        "kind": "",
        "datapath": SWITCH,
        "tunnel_key": 1,
        "mac": "0a:58:0a:80:00:05",
        "addresses": (),
        "peer": "",
        "namespace": "shop",
        "is_pod": True,
    }
    return LogicalPort(name=name, **_changed(empty, fields))


def acl(uuid: str = "ac100000-0000", **fields: object) -> Acl:
    """Return an ingress ACL that drops."""
    empty: dict[str, Any] = {
        "direction": "to-lport",
        "action": "drop",
        "priority": 1000,
        "tier": 2,
        "match": "outport == @pg",
        "owner_type": "NetworkPolicy",
        "owner": f"owner of {uuid}",
        "policy": None,
        "policy_direction": "ingress",
        "rule": -1,
        "namespace_default": "",
    }
    return Acl(uuid=uuid, **_changed(empty, fields))


def hint(uuid: str, of: Acl, stage: str = "ls_out_acl_eval", text: str = "") -> FlowHint:
    """Return the flow that northd made from an ACL."""
    return FlowHint(
        uuid=uuid, stage=stage, hint=of.uuid[:8], match=text or f"reg8 == 2 && ({of.match})"
    )


def ref(name: str, namespace: str = "shop", kind: str = "NetworkPolicy") -> PolicyRef:
    """Return the name of a policy."""
    return PolicyRef(kind=kind, namespace=namespace, name=name)


def group(policy: PolicyRef | None, *ports: str) -> PortGroup:
    """Return the port group of the pods a policy selects."""
    return PortGroup(name=f"a{hash(policy)}", ports=frozenset(ports), policy=policy)


def zone(
    name: str = "worker",
    *,
    ports: Iterable[LogicalPort] = (),
    acls: Iterable[Acl] = (),
    hints: Iterable[FlowHint] = (),
    groups: Iterable[PortGroup] = (),
    balancers: Iterable[LoadBalancer] = (),
) -> Zone:
    """Return a zone that holds these."""
    listed = tuple(ports)
    known: dict[str, tuple[Acl, ...]] = {}
    for one in acls:
        known[one.uuid[:8]] = (*known.get(one.uuid[:8], ()), one)
    flows: dict[str, tuple[FlowHint, ...]] = {}
    for flow in hints:
        flows[flow.uuid[:8]] = (*flows.get(flow.uuid[:8], ()), flow)
    fields: dict[str, Any] = {
        "name": name,
        "northbound": Path("nb.db"),
        "southbound": Path("sb.db"),
        "northd_version": "25.03.1",
        "sequence": "1",
        "switches": MappingProxyType({}),
        "ports": {one.name: one for one in listed},
        "by_tunnel_key": {(one.datapath, one.tunnel_key): one for one in listed},
        "acls": known,
        "port_groups": tuple(groups),
        "flow_hints": flows,
        "load_balancers": tuple(balancers),
    }
    return Zone(**fields)


def pod(name: str, address: str, node: str = "worker", **fields: object) -> Endpoint:
    """Return a pod of namespace shop, attached to its node's switch in its node's zone."""
    digits = address.replace(":", ".").split(".")[-1]
    attached = Attachment(
        zone=node,
        switch=node,
        port=f"shop_{name}",
        mac=f"0a:58:0a:80:00:{int(digits, 16) % 256:02x}",
        gateway_mac=f"0a:58:0a:80:{len(node):02x}:01",
        addresses=(address,),
    )
    empty: dict[str, Any] = {
        "namespace": "shop",
        "node": node,
        "addresses": (address,),
        "attachment": attached,
    }
    return Endpoint(kind=EndpointKind.POD, name=name, **_changed(empty, fields))


def owners(*endpoints: Endpoint) -> Owners:
    """Say who has which address, each on its network."""
    by_network: dict[str, dict[str, Endpoint]] = {"": {}}
    for endpoint in endpoints:
        there = by_network.setdefault(endpoint.network, {})
        there.update(dict.fromkeys(endpoint.addresses, endpoint))
    return Owners(by_network=by_network)


def composable(host: NDArray[np.bool_], ports: int) -> Composable:
    """Return that all packets have legs but those between hosts."""
    everybody = np.ones(len(host), dtype=np.bool_)
    nowhere = np.zeros((len(host), ports), dtype=np.bool_)
    return Composable(understood=everybody, host=host, balanced=nowhere, limits=())
