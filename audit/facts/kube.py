"""Kubernetes objects as the API prints them → what the audit needs of them. Pure.

Input is the `items` of Lists, as `kubectl get -A -o json` prints them or the API returns them. An
object that no API server would print is a FieldError; what is legal and of no use to an audit (a
port of another protocol, an annotation that is no JSON) is passed over.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.facts.addresses import network
from audit.facts.documents import documents
from audit.facts.fields import Field, FieldError
from audit.model.endpoints import (
    MAX_PORT,
    PING,
    Attachment,
    Endpoint,
    EndpointKind,
    NamedPort,
    Port,
)
from audit.model.facts import Service, ServiceEndpoint
from audit.model.networks import DEFAULT, Role
from audit.model.packets import WITH_PORTS, Protocol

Object = Mapping[str, Any]

FINISHED = frozenset({"Succeeded", "Failed"})
"""Pod phases after which a pod keeps its `status.podIP` and has no network."""

POLICY_RESOURCES = {
    "networkpolicies": "NetworkPolicy",
    "multi-networkpolicies": "MultiNetworkPolicy",
    "adminnetworkpolicies": "AdminNetworkPolicy",
    "baselineadminnetworkpolicies": "BaselineAdminNetworkPolicy",
    "clusternetworkpolicies": "ClusterNetworkPolicy",
    "egressfirewalls": "EgressFirewall",
}
"""Resources whose objects decide packets, with their kinds."""

_SERVICE_NAME = "kubernetes.io/service-name"
"""The label that ties an EndpointSlice to its Service. The mirrored slices of user-defined
networks have another one, `k8s.ovn.org/service-name`, and so are not taken for these."""
_POD_NETWORKS = "k8s.ovn.org/pod-networks"
_NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status"
_OPEN_PORTS = "k8s.ovn.org/open-default-ports"
_MANAGEMENT_MACS = "k8s.ovn.org/node-mgmt-port-mac-addresses"
_MANAGEMENT_MAC = "k8s.ovn.org/node-mgmt-port-mac-address"
_NODE_SUBNETS = "k8s.ovn.org/node-subnets"
_HYBRID_SUBNET = "k8s.ovn.org/hybrid-overlay-node-subnet"
_NODE_CHASSIS = "k8s.ovn.org/node-chassis-id"
_HOST_CIDRS = "k8s.ovn.org/host-cidrs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A pod's interface on a user-defined network, as OVN-Kubernetes' annotation describes it.

    `nad` is the network attachment definition that it is made of, `addresses` are bare.
    """

    nad: str
    role: Role
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What Kubernetes says about a pod."""

    namespace: str
    name: str
    node: str
    phase: str
    terminating: bool
    host_network: bool
    addresses: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    workload: str
    declared: tuple[NamedPort, ...]
    primary_network: str
    """Name of the user-defined network that is this pod's primary one; empty for the default."""
    interfaces: tuple[Interface, ...] = ()
    """On user-defined networks, sorted."""
    foreign: tuple[str, ...] = ()
    """Networks of interfaces that OVN-Kubernetes did not make, as Multus reports them."""
    assigned: tuple[str, ...] = ()
    """Addresses on the default network that OVN-Kubernetes' annotation gives the pod."""
    assigned_mac: str = ""
    requested: tuple[str, ...] = ()
    """Network attachment definitions that it asks Multus for, as `namespace/name`."""
    opened: tuple[Port, ...] = ()
    """Ports of it that are open on the default network, though that is not its primary one."""
    machine: str = ""
    """The virtual machine that KubeVirt runs in it."""
    created: str = ""
    """When it was made, in RFC 3339."""
    took_over: bool = False
    """The machine was migrated to this pod, and runs in it."""

    def endpoint(
        self, addresses: tuple[str, ...], attachment: Attachment | None, obstacle: str
    ) -> Endpoint:
        """Return the pod as an endpoint, on the default network unless that is replaced."""
        return Endpoint(
            kind=EndpointKind.POD,
            namespace=self.namespace,
            name=self.name,
            node=self.node,
            addresses=addresses,
            labels=self.labels,
            workload=self.workload,
            host_network=self.host_network,
            declared=self.declared,
            attachment=attachment,
            obstacle=obstacle,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What Kubernetes says about a node, and OVN-Kubernetes' annotations on it."""

    name: str
    addresses: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    subnets: tuple[str, ...]
    management_macs: frozenset[str]
    hybrid_subnets: tuple[str, ...] = ()
    """Subnets of a node that hybrid overlay joins to the cluster, and that has no OVN."""
    hybrid: bool = False
    """Whether it is made for the hybrid overlay, as Windows nodes are: no OVN runs there."""
    chassis: str = ""
    """The name of its chassis in OVN, by annotation."""
    host_addresses: tuple[str, ...] = ()
    """All addresses of its host that OVN-Kubernetes knows, its InternalIPs among them."""


Slices = Mapping[tuple[str, str], Sequence[Object]]
"""EndpointSlices by their Service's namespace and name."""


def labels_of(item: Object) -> tuple[tuple[str, str], ...]:
    """Return an object's labels, sorted."""
    return tuple(sorted(Field(item)["metadata"]["labels"].texts().items()))


def namespace(item: Object) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Read a Namespace: its name and labels."""
    return Field(item)["metadata"]["name"].required(), labels_of(item)


def pod(item: Object) -> PodFacts:
    """Read a Pod."""
    root = Field(item)
    metadata, spec, status = root["metadata"], root["spec"], root["status"]
    networks = _annotation(root, _POD_NETWORKS)
    assigned, assigned_mac = _assigned(networks)
    return PodFacts(
        namespace=metadata["namespace"].required(),
        name=metadata["name"].required(),
        node=spec["nodeName"].text(),
        phase=status["phase"].text(),
        terminating=bool(metadata["deletionTimestamp"].text()),
        host_network=spec["hostNetwork"].flag(),
        addresses=_pod_addresses(status),
        labels=labels_of(item),
        workload=_workload(root),
        declared=_declared(spec),
        primary_network=_primary_network(networks),
        interfaces=_interfaces(networks),
        foreign=_foreign(networks, _annotation(root, _NETWORK_STATUS)),
        assigned=assigned,
        assigned_mac=assigned_mac,
        requested=_requested(root, metadata["namespace"].required()),
        opened=_opened(metadata["annotations"][_OPEN_PORTS].text()),
        machine=metadata["labels"][_MACHINE].text(),
        created=metadata["creationTimestamp"].text(),
        took_over=bool(metadata["annotations"][_TOOK_OVER].text()),
    )


_MACHINE = "vm.kubevirt.io/name"
_TOOK_OVER = "kubevirt.io/migration-target-ready-timestamp"
"""KubeVirt's label and annotation (staging/src/kubevirt.io/api/core/v1/types.go)."""


_REQUESTED = "k8s.v1.cni.cncf.io/networks"


def _requested(root: Field, namespace: str) -> tuple[str, ...]:
    """Return what an annotation of Multus' asks for: JSON, or names with commas between them."""
    text = root["metadata"]["annotations"][_REQUESTED].text()
    listed = _annotation(root, _REQUESTED)
    if isinstance(listed, list):
        pairs = [(e.get("namespace"), e.get("name")) for e in listed if isinstance(e, dict)]
    else:
        words = (word.strip().partition("@")[0].rpartition("/") for word in text.split(","))
        pairs = [(space, name) for space, _, name in words]
    return tuple(sorted({f"{space or namespace}/{name}" for space, name in pairs if name}))


def _opened(text: str) -> tuple[Port, ...]:
    """Return what an annotation opens: YAML, of which OVN-Kubernetes takes all or none."""
    try:
        return tuple(
            sorted(
                PING
                if (protocol := entry["protocol"].required()) == Protocol.ICMP
                else _port(Protocol(protocol), entry["port"])
                for entry in Field(next(iter(documents(text)), None)).each()
            )
        )
    except ValueError:
        return ()


def _assigned(networks: Any) -> tuple[tuple[str, ...], str]:  # noqa: ANN401 - parsed JSON
    """Return a pod's addresses and MAC on the default network; one address was a plain string."""
    default = networks.get(DEFAULT) if isinstance(networks, dict) else None
    if not isinstance(default, dict):
        return (), ""
    return _annotated(default), str(default.get("mac_address", "")).lower()


def _annotated(interface: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses that the annotation gives an interface."""
    listed = interface.get("ip_addresses") or [interface.get("ip_address")]
    return tuple(
        address.partition("/")[0]
        for address in (listed if isinstance(listed, list) else ())
        if isinstance(address, str) and network(address)
    )


def _interfaces(networks: Any) -> tuple[Interface, ...]:  # noqa: ANN401 - parsed JSON
    """Return a pod's interfaces beside the one on the default network."""
    primary = _primary_network(networks)
    return tuple(
        Interface(
            nad=str(nad),
            role=Role.PRIMARY if nad == primary else Role.SECONDARY,
            addresses=_annotated(interface),
        )
        for nad, interface in sorted(networks.items() if isinstance(networks, dict) else ())
        if nad != DEFAULT and isinstance(interface, dict)
    )


_OVN_KUBERNETES = "ovn-kubernetes"
"""What Multus calls the interface on the default network."""


def _foreign(networks: Any, status: Any) -> tuple[str, ...]:  # noqa: ANN401 - parsed JSON
    """Return the networks of a pod's interfaces that are not OVN-Kubernetes' own."""
    if not isinstance(networks, dict) or not isinstance(status, list):
        return ()
    reported = {
        str(entry.get("name", ""))
        for entry in status
        if isinstance(entry, dict) and not entry.get("default")
    }
    return tuple(sorted(reported - {*networks, _OVN_KUBERNETES, ""}))


def _pod_addresses(status: Field) -> tuple[str, ...]:
    """Return `status.podIPs`, or the one `podIP` where there is no list."""
    listed = [ip["ip"] for ip in status["podIPs"].each()] or [status["podIP"]]
    return tuple(ip.address() for ip in listed if ip.value)


def _declared(spec: Field) -> tuple[NamedPort, ...]:
    """Return the ports of the containers that run together: sidecars too, not other init ones.

    An init container with restartPolicy Always is a sidecar; the others have ended when the pod
    runs. A name stands for the first port of a protocol that has it, as in Kubernetes' FindPort.
    """
    sidecars = (
        container
        for container in spec["initContainers"].each()
        if container["restartPolicy"].text() == "Always"
    )
    ports, first = set[NamedPort](), dict[tuple[str, Protocol], NamedPort]()
    for container in (*spec["containers"].each(), *sidecars):
        for port in container["ports"].each():
            named = _named_port(port, "containerPort")
            if named is None:
                continue
            meant = first.setdefault((named.name, named.port.protocol), named)
            ports.add(named if meant == named else replace(named, name=""))
    return tuple(sorted(ports, key=lambda declared: (declared.port, declared.name)))


def _named_port(port: Field, number: str) -> NamedPort | None:
    """Read a port of a container or a Service; None for a protocol that is not audited."""
    protocol = protocol_of(port)
    if protocol is None:
        return None
    return NamedPort(name=port["name"].text(), port=_port(protocol, port[number]))


def protocol_of(port: Field) -> Protocol | None:
    """Return a port's protocol, TCP unless it says otherwise; None for one OVN does not match."""
    text = port["protocol"].text("TCP").lower()
    return Protocol(text) if text in WITH_PORTS else None


def _port(protocol: Protocol, number: Field) -> Port:
    return Port(protocol=protocol, number=port_number(number))


def port_number(field: Field) -> int:
    """Return the number of a port; FieldError when no port has it."""
    number = field.number()
    if not 0 < number <= MAX_PORT:
        raise FieldError(f"{field.path}: port {number} is not between 1 and {MAX_PORT}")
    return number


def _workload(root: Field) -> str:
    """Return `Kind/name` of what made the pod; a ReplicaSet of a Deployment is that Deployment.

    A static pod is its own workload, though its mirror is owned by the node. A CronJob's pod
    belongs to the Job: only the Job, which is not read, names the CronJob that made it.
    """
    metadata = root["metadata"]
    owners = [o for o in metadata["ownerReferences"].each() if o["controller"].flag()]
    if not owners or owners[0]["kind"].text() == "Node":
        return f"Pod/{metadata['name'].required()}"
    kind, name = owners[0]["kind"].required(), owners[0]["name"].required()
    template = metadata["labels"]["pod-template-hash"].text()
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return f"Deployment/{name.removesuffix(f'-{template}')}"
    return f"{kind}/{name}"


def _annotation(root: Field, key: str) -> Any:  # noqa: ANN401 - annotations hold any JSON
    """Return an annotation parsed as JSON; None when it is absent or is no JSON."""
    text = root["metadata"]["annotations"][key].text()
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _primary_network(networks: Any) -> str:  # noqa: ANN401 - parsed JSON
    """Return the user-defined network with role `primary`, if the pod has one.

    In a pod of a primary user-defined network the `default` entry has the role
    `infrastructure-locked`; before roles existed the default network was always primary.
    """
    if not isinstance(networks, dict):
        return ""
    for name, settings in networks.items():
        role = settings.get("role", "") if isinstance(settings, dict) else ""
        if name != "default" and role == "primary":
            return str(name)
        if name == "default" and role == "infrastructure-locked":
            return _other_than_default(networks)
    return ""


def _other_than_default(networks: Mapping[str, Any]) -> str:
    """Return the network that has role `primary` beside a locked default one, or any other."""
    others = sorted(str(name) for name in networks if name != "default")
    primary = [
        name
        for name in others
        if isinstance(networks[name], dict) and networks[name].get("role") == "primary"
    ]
    return next(iter([*primary, *others]), "an unnamed user-defined network")


def node(item: Object) -> NodeFacts:
    """Read a Node."""
    root = Field(item)
    cidrs = _annotation(root, _HOST_CIDRS)
    internal = tuple(
        address["address"].address()
        for address in root["status"]["addresses"].each()
        if address["type"].text() == "InternalIP"
    )
    listed_cidrs = cidrs if isinstance(cidrs, list) else []
    hosts = (c.partition("/")[0] for c in listed_cidrs if isinstance(c, str) and network(c))
    return NodeFacts(
        name=root["metadata"]["name"].required(),
        addresses=internal,
        labels=labels_of(item),
        subnets=_node_subnets(_annotation(root, _NODE_SUBNETS)),
        management_macs=_management_macs(root),
        hybrid_subnets=tuple(
            subnet
            for subnet in root["metadata"]["annotations"][_HYBRID_SUBNET].text().split(",")
            if network(subnet)
        ),
        hybrid=_HYBRID_SUBNET in root["metadata"]["annotations"].texts()
        or root["metadata"]["labels"].texts().get("kubernetes.io/os") == "windows",
        chassis=root["metadata"]["annotations"][_NODE_CHASSIS].text(),
        host_addresses=tuple(dict.fromkeys((*internal, *hosts))),
    )


_HYBRID_SUBNET = "k8s.ovn.org/hybrid-overlay-node-subnet"
"""OVN-Kubernetes gives it to nodes that it does not run on itself, and to no others."""


def _node_subnets(subnets: Any) -> tuple[str, ...]:  # noqa: ANN401 - parsed JSON
    """Return the default network's subnets of a node; one was a plain string before dual stack."""
    default = subnets.get("default") if isinstance(subnets, dict) else None
    listed = default if isinstance(default, list) else [default]
    return tuple(subnet for subnet in listed if isinstance(subnet, str) and network(subnet))


def service(item: Object, slices: Slices | None = None) -> Service:
    """Read a Service, with the endpoints that `slices` give for it."""
    root = Field(item)
    metadata, spec = root["metadata"], root["spec"]
    where = metadata["namespace"].required(), metadata["name"].required()
    # One ClusterIP was a plain string before dual stack; `None` is how a headless Service says so.
    written = [*spec["clusterIPs"].each()] or [spec["clusterIP"]]
    ports = tuple(
        named for port in spec["ports"].each() if (named := _named_port(port, "port")) is not None
    )
    return Service(
        namespace=where[0],
        name=where[1],
        headless=spec["type"].text() != "ExternalName" and written[0].value == "None",
        cluster_ips=tuple(ip.address() for ip in written if ip.value not in (None, "", "None")),
        ports=ports,
        labels=labels_of(item),
        endpoints=_endpoints(ports, (slices or {}).get(where, ())),
    )


def slice_service(item: Object) -> tuple[str, str] | None:
    """Return the namespace and name of the Service an EndpointSlice is for; None without label."""
    metadata = Field(item)["metadata"]
    name = metadata["labels"][_SERVICE_NAME].text()
    return (metadata["namespace"].required(), name) if name else None


def _management_macs(root: Field) -> frozenset[str]:
    macs = _annotation(root, _MANAGEMENT_MACS)
    listed = str(macs.get("default", "")) if isinstance(macs, dict) else ""
    single = root["metadata"]["annotations"][_MANAGEMENT_MAC].text()
    return frozenset(mac.lower() for mac in (listed, single) if mac)


def _endpoints(ports: Sequence[NamedPort], slices: Iterable[Object]) -> tuple[ServiceEndpoint, ...]:
    """Return the ready addresses behind each port of a Service.

    A slice's port belongs to the Service's port of the same name and protocol, the unnamed one to
    the unnamed. Slices of host names (addressType FQDN) hold no addresses.
    """
    numbers: dict[tuple[str, Protocol | None], Port] = {
        (port.name, port.port.protocol): port.port for port in ports
    }
    endpoints = set()
    for root in map(Field, slices):
        if root["addressType"].text() not in ("IPv4", "IPv6"):
            continue
        addresses = [address for e in root["endpoints"].each() for address in _ready(e)]
        for port in root["ports"].each():
            served = numbers.get((port["name"].text(), protocol_of(port)))
            # Without a number a slice's port is every port, and no one target.
            if served is None or port["port"].value is None:
                continue
            target = port_number(port["port"])
            endpoints |= {ServiceEndpoint(port=served, address=a, target=target) for a in addresses}
    return tuple(sorted(endpoints))


def _ready(endpoint: Field) -> tuple[str, ...]:
    """Return the address of an endpoint that is ready, or does not say (discovery.k8s.io/v1).

    Of several addresses only the first is used, as kube-proxy and OVN-Kubernetes do.
    """
    if not endpoint["conditions"]["ready"].flag(default=True):
        return ()
    return tuple(address.address() for address in [*endpoint["addresses"].each()][:1])
