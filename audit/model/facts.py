"""The cluster's facts, as the stages after `facts` see them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from audit.model.components import components
from audit.model.endpoints import MAX_PORT, Attachment, Endpoint, NamedPort, Port
from audit.model.findings import severity_of_note
from audit.model.inventory import Difference, Stock
from audit.model.networks import Network
from audit.model.packets import Protocol
from audit.model.policies import PolicySpec
from audit.model.verdicts import PolicyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence about the facts the reader must know; `subjects` are what it is about."""

    code: str
    text: str
    subjects: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """Return it for run.json."""
        return {
            "code": self.code,
            "text": self.text,
            "subjects": list(self.subjects),
            "severity": str(severity_of_note(self.code)),
        }

    @classmethod
    def of_each(cls, code: str, clause: str, reasons: Mapping[str, str]) -> "tuple[Note, ...]":
        """Return a note about each subject and why; `{}` in the clause is its name."""
        return tuple(
            cls(code=code, text=f"{clause.format(subject)}: {reason}", subjects=(subject,))
            for subject, reason in sorted(reasons.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServiceEndpoint:
    """An address behind one port of a Service, and the port number it serves that on.

    `port` is the Service's own port, as in `Service.ports`; `target` belongs to `address`. A
    headless Service is nothing but these: its name resolves to the addresses, and no one
    translates a port number.
    """

    port: Port
    address: str
    target: int

    def __post_init__(self) -> None:
        if not 0 < self.target <= MAX_PORT:
            raise ValueError(f"port {self.target} is not between 1 and {MAX_PORT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service as Kubernetes declares it; what OVN made of it is in the databases.

    `endpoints` are the ready ones of its EndpointSlices, sorted; empty also where the snapshot
    has no slices. Neither `headless` nor `cluster_ips` is there for an ExternalName, which is a
    name in DNS and nothing in the network.
    """

    namespace: str
    name: str
    headless: bool
    cluster_ips: tuple[str, ...]
    ports: tuple[NamedPort, ...]
    labels: tuple[tuple[str, str], ...]
    endpoints: tuple[ServiceEndpoint, ...] = ()


class Lead(NamedTuple):
    """A pod that an object leads to, by namespace and name, and the port there."""

    namespace: str
    pod: str
    port: Port


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """An object that leads from outside to pods: an Ingress, a Route, a route of the Gateway API.

    `leads` are sorted, each once. `gateways` are the namespaces of the Gateways that a route of
    the Gateway API is attached to: the pods that serve a Gateway may be in its namespace.
    """

    kind: str
    namespace: str
    name: str
    leads: tuple[Lead, ...] = ()
    gateways: tuple[str, ...] = ()

    @property
    def row(self) -> str:
        """The name of its row: `ingress/shop/web`, `httproute/shop/web`."""
        return f"{self.kind.lower()}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """The pods whose packets come from Ingress objects: of a namespace, with these labels.

    Labels hold UNSAID where not all of them are known.
    """

    namespace: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy object: what it means is in `spec`, its text is shown.

    `spec` is None where it was not read, as in a run that comes back from disk.
    """

    ref: PolicyRef
    directions: tuple[str, ...]
    rules: tuple[int, int]
    """How many rules it has, (ingress, egress)."""
    text: str | Callable[[], str]
    """The manifest, or what writes it: of hundreds of thousands few are ever asked for."""
    spec: PolicySpec | None = None

    @property
    def manifest(self) -> str:
        """The object as YAML, without server-written fields."""
        return self.text if isinstance(self.text, str) else self.text()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalPort:
    """A row of the southbound `Port_Binding` with what the northbound says about it.

    `kind` is OVN's port type: empty (a VIF), `patch`, `l3gateway`, `localnet`, `remote` …
    `peer` is the other side of a patch; `namespace` is set for pods' ports. `nad` is the network
    attachment definition that a pod's port on another network than the default one is made of.
    `chassis` is where a port of type `remote` should be.
    """

    name: str
    kind: str
    datapath: str
    tunnel_key: int
    mac: str
    addresses: tuple[str, ...]
    peer: str
    namespace: str
    is_pod: bool
    nad: str = ""
    chassis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acl:
    """A row of the northbound `ACL`, with the Kubernetes object that owns it.

    `direction` and `action` are OVN's; `owner` is `k8s.ovn.org/id` or what stands for it.
    """

    uuid: str
    direction: str
    action: str
    priority: int
    tier: int
    match: str
    owner_type: str
    owner: str
    policy: PolicyRef | None
    policy_direction: str
    rule: int
    namespace_default: str
    """The namespace whose isolation this is, when no single policy owns the ACL."""
    after_lb: bool = False
    """A `from-lport` ACL that is evaluated after load balancing (`options:apply-after-lb`)."""

    @property
    def flow_priority(self) -> int:
        """The priority of its logical flows (northd.c, OVN_ACL_PRI_OFFSET)."""
        return self.priority + 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PortGroup:
    """A row of the northbound `Port_Group`; `policy` when it holds the pods a policy selects."""

    name: str
    ports: frozenset[str]
    policy: PolicyRef | None
    acls: frozenset[str] = frozenset()
    """uuids of its ACLs: in force on every switch that has a port of the group."""


class LogicalFlow(NamedTuple):
    """A row of the southbound `Logical_Flow`, as one datapath has it; sorted by what it says.

    A row of a table that actions look packets up in is written as one too: its stage is the table.
    """

    stage: str
    priority: int
    match: str
    actions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowHint:
    """What ties a logical flow to the northbound row it was made from."""

    uuid: str
    stage: str
    hint: str
    match: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer:
    """A row of the northbound `Load_Balancer`; each VIP is `(address, port, backends)`.

    The address of a `template` is a variable that each chassis fills in, such as its node's.
    """

    owner: str
    protocol: Protocol
    vips: tuple[tuple[str, int, tuple[str, ...]], ...]
    template: bool
    network: str = ""
    """The user-defined network whose switches and routers have it; empty for the default one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One northbound and southbound pair, read: everything tracing and blame need of it.

    `flow_hints` is keyed by the first eight
    hexadecimal digits of the logical flow's uuid, which is all a trace prints, and is one to many.
    """

    name: str
    northbound: Path
    southbound: Path
    northd_version: str
    sequence: str
    """`nb_cfg` of both databases: the state of the zone this run speaks about."""
    switches: Mapping[str, tuple[str, ...]]
    """The subnets of each logical switch: a node's is known by them. A switch of another network
    than the default one has none here, as its subnets may be the same."""
    ports: Mapping[str, LogicalPort]
    by_tunnel_key: Mapping[tuple[str, int], LogicalPort]
    """The same ports by (datapath, tunnel key): what a packet carries from zone to zone."""
    acls: Mapping[str, tuple[Acl, ...]]
    """Keyed by the first eight hexadecimal digits of the ACL's uuid, one to many."""
    port_groups: tuple[PortGroup, ...]
    flow_hints: Mapping[str, tuple[FlowHint, ...]]
    load_balancers: tuple[LoadBalancer, ...]
    address_sets: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Addresses and CIDRs of each address set."""
    switch_acls: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """uuids of the ACLs a switch has itself, not through a port group."""
    source_routes: tuple[tuple[str, str], ...] = ()
    """(network, next hop) of the routes that look at where a packet comes from."""
    networks: Mapping[str, Network] = field(default_factory=lambda: MappingProxyType({}))
    """The network of each logical switch and router that is not of the default one. What is beside
    them may have the same addresses as the default network's, a node's own among them."""
    markers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """How far the zone's parts had come: counters of NB_Global, SB_Global and each chassis."""
    flows: Mapping[str, Sequence[LogicalFlow]] = field(default_factory=lambda: MappingProxyType({}))
    """By datapath, what packets between endpoints can meet there: of the southbound, sorted."""
    service_flows: Mapping[str, tuple[Mapping[str, int], ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By switch, digests of what else packets to each Service's address meet there: in parts, of
    which several switches have some in common."""
    installed_sets: Mapping[str, tuple[str, ...]] | None = None
    """The southbound's address sets, which decide; None where it was not read."""
    installed_groups: Mapping[str, frozenset[str]] | None = None
    """The southbound's port groups and their ports, likewise."""
    stock: Stock = field(default_factory=Stock)
    """Whose its rows are, for who compares them with the objects."""
    chassis: frozenset[str] = frozenset()
    """The nodes that the zone is of, by the names of their chassis."""
    content: str = ""
    """A digest of all in the southbound that a trace can depend on; empty where none was made."""
    torn: bool = False
    """The last transaction of a database file was cut off, and is not part of this."""

    def network_of(self, port: str) -> str:
        """Return the user-defined network that a logical port is on; empty for the default one."""
        there = self.ports.get(port)
        return self.network_at(there.datapath) if there is not None else ""

    def network_at(self, datapath: str) -> str:
        """Return the user-defined network of a switch or router; empty for the default one."""
        network = self.networks.get(datapath)
        return network.name if network is not None else ""

    def joined(self, datapaths: Collection[str]) -> dict[str, frozenset[str]]:
        """Return, for each of these datapaths, itself and all that packets from it can come to."""
        return components(
            datapaths,
            (
                (port.datapath, self.ports[port.peer].datapath)
                for port in self.ports.values()
                if port.peer in self.ports
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WayIn:
    """How a node takes in what the underlay brings for its pods' `subnet`.

    `port` is where such a packet enters OVN: the default network's localnet port, or with
    `by_host` (local gateway mode) the management port, to which the host routes it. None where the
    databases do not say, as of a node that is not in them.
    """

    subnet: str
    node: str
    port: Attachment | None
    by_host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file the facts were read from: its place in the snapshot, size and SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRanges:
    """CIDRs in which addresses lie that no object states; empty where that is not known either.

    The default network's pods, and the management ports by which nodes send to them, are in
    `pods`; nodes are in `nodes`. Neither has an address of `services`.
    """

    pods: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Whose an address is, on each network: the same one may be two pods' on two networks.

    `by_network` has the default network's owners under the empty name.
    """

    by_network: Mapping[str, Mapping[str, Endpoint]]

    def get(self, address: str, network: str = "") -> Endpoint | None:
        """Return who has `address` on a network; None where nobody is known to."""
        return self.by_network.get(network, self.by_network[""]).get(address)


NO_OWNERS = Owners(by_network={"": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """Where somebody wrote something: a file, as its repository names it, and a line from 1.

    `line` is 0 where only the file is known.
    """

    file: str
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """Everything one run knows about a cluster.

    `pods` and `nodes` are endpoints already: attached where the databases have a port for them,
    with an obstacle where they cannot be traced.
    """

    source: str
    pods: tuple[Endpoint, ...]
    nodes: tuple[Endpoint, ...]
    services: tuple[Service, ...]
    namespaces: Mapping[str, tuple[tuple[str, str], ...]]
    """Labels of each namespace."""
    policies: tuple[Policy, ...]
    zones: Mapping[str, Zone]
    notes: tuple[Note, ...] = ()
    inputs: tuple[Input, ...] = ()
    resource_versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Of each List of a live cluster when it was first read, by resource."""
    unread_policies: tuple[str, ...] = ()
    """Policies, or kinds of them, that exist and could not be read: what the objects mean is
    unknown."""
    differences: tuple[Difference, ...] = ()
    """What OVN's databases and the objects do not agree on."""
    lagging: tuple[Difference, ...] = ()
    """What a zone's southbound has otherwise than its northbound."""
    gateways: Mapping[str, Endpoint] = field(default_factory=lambda: MappingProxyType({}))
    """Per node, the localnet port by which external packets enter, as an endpoint's attachment."""
    ways_in: tuple[WayIn, ...] = ()
    """How packets from the underlay get to the pods of each node, by subnet."""
    attached: Mapping[str, Network] = field(default_factory=lambda: MappingProxyType({}))
    """The network that each network attachment definition, `namespace/name`, leads to."""
    joined: bool = False
    """Whether something joins networks that are apart otherwise."""
    complete: bool = True
    """Whether every namespace and node there is is among these: of manifests it is not known."""
    ranges: AddressRanges = AddressRanges()
    """Where addresses lie that are not known."""
    ingresses: tuple[Ingress, ...] = ()
    """What leads from outside to pods; of manifests only."""
    controller: Controller | None = None
    """Whose packets come by it; None where nobody said."""
    source_lines: Mapping[str, SourceLine] = field(default_factory=lambda: MappingProxyType({}))
    """Where objects and rules are written, by their names in findings; of manifests only."""
    cluster: str = ""
    """The uid of namespace kube-system, by which clusters are told apart; empty where not known."""

    def owners(self) -> "Owners":
        """Say who has which address: pods by their own, nodes by the host's."""
        nodes = {address: node for node in self.nodes for address in node.addresses}
        by_network = {"": dict(nodes)}
        pods = (pod for pod in self.pods if not pod.host_network)
        for pod in sorted(pods, key=lambda pod: pod.attachment is not None):
            there = by_network.setdefault(pod.network, dict(nodes))
            there.update(dict.fromkeys(pod.addresses, pod))
        return Owners(by_network=by_network)
