"""Scope and cluster → which endpoints are rows and which are columns.

Without anything, every pod is both. The flags for both sides (`--namespace`, `--selector`,
`--namespace-selector`) pair the pods they match with each other; `--with-peers` pairs these with
every other endpoint besides, in both directions. A `--from-…` or `--to-…` flag describes its side
completely: that side is the union of what such flags select, and the other stays what it was.

A name that does not exist and a selector that selects nothing are errors: an audit of nothing would
come out clean. The message looks for the typo.
"""

import dataclasses
import functools
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.errors import ScopeError
from audit.model.endpoints import Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import ClusterState, Policy, Service
from audit.model.networks import Role
from audit.model.policies import BlockPeer
from audit.model.selectors import EVERYTHING, UNSAID, Operator, Requirement, Selector
from audit.model.verdicts import Reason
from audit.scope import names, ports
from audit.scope import outside as ranging
from audit.scope.matrix import Block, Path
from audit.scope.named import Directory
from audit.scope.names import EVERY, is_address
from audit.scope.scope import Scope
from audit.scope.suggestions import did_you_mean, nearest

T = TypeVar("T")

MAX_NAMED = 5
"""More namespaces than this are counted in a message, not listed."""

_KIND_ORDER = {kind: order for order, kind in enumerate(EndpointKind)}
_ROLE_ORDER = {role: order for order, role in enumerate(Role)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The endpoints of a run, sorted by kind, namespace and name, and the blocks they form."""

    endpoints: tuple[Endpoint, ...]
    blocks: tuple[Block, ...]
    outside: tuple[ranging.Range, ...] = ()
    """The ranges among them, by name."""
    paths: tuple[Path, ...] = ()
    """What objects of the cluster lead from outside to pods among them."""

    @property
    def sources(self) -> NDArray[np.int32]:
        """The indices of all rows, sorted."""
        return np.unique(np.concatenate([block.sources for block in self.blocks]))

    @property
    def destinations(self) -> NDArray[np.int32]:
        """The indices of all columns, sorted."""
        return np.unique(np.concatenate([block.destinations for block in self.blocks]))


def sources_and_destinations(
    state: ClusterState,
    scope: Scope,
    *,
    outside: bool = False,
    policies: Iterable[Policy] | None = None,
) -> Sides:
    """Return the rows and columns `scope` means in the cluster of `state`.

    With `outside` a side of which the scope says nothing of its own has the outside besides, as
    ranges. These are cut where `policies` do, which are the cluster's unless others are given. So
    are rows of what leads from outside to the pods that are columns.
    ScopeError when a namespace, node or service does not exist, and when something that was asked
    for selects nothing.
    """
    state = on_networks(state, scope.networks)
    cluster = _Cluster(state)
    ranges = _Ranges(cluster, scope, state.policies if policies is None else policies)
    into = ranges.senders(outside=outside)
    out = ranges.receivers(outside=outside)
    if scope.with_peers:
        subjects = _both_sides(cluster, scope)
        chosen = {endpoint.key for endpoint in subjects}
        senders = [*state.pods, *state.nodes]
        # The blocks share no cell: the pairs with our source, then those with our destination only.
        sides = _sides(
            [
                (subjects, [*senders, *cluster.services.values(), *out]),
                ([*(peer for peer in senders if peer.key not in chosen), *into], subjects),
            ],
            _leads(state, scope, subjects, outside=outside),
        )
        return dataclasses.replace(sides, outside=ranges.made())
    sources = _sources(cluster, scope) if scope.given("from_") else _both_sides(cluster, scope)
    columns = _destinations(cluster, scope) if scope.given("to_") else _both_sides(cluster, scope)
    # From outside to outside is nothing of the cluster's.
    pairs = [(sources, [*columns, *out]), (into, columns)]
    nonempty = [(rows, ends) for rows, ends in pairs if rows and ends]
    if not nonempty:
        raise ScopeError(
            "both sides are ranges outside; name pods, nodes or services as one of them"
        )
    leads = _leads(state, scope, columns, outside=outside)
    return dataclasses.replace(_sides(nonempty, leads), outside=ranges.made())


def on_networks(state: ClusterState, networks: Collection[str]) -> ClusterState:
    """Return a cluster with its pods on some networks only; on all where none is named.

    A network may be called as the object that made it: `blue/net`, or `net` of a cluster-wide one.
    """
    if not networks:
        return state
    existing = {pod.network_name for pod in state.pods} - {""}
    chosen = set()
    for name in networks:
        network = next(
            (spelling for spelling in names.spellings(name) if spelling in existing), None
        )
        if network is None:
            raise ScopeError(f"no pod is on a network {name!r}{did_you_mean(name, existing)}")
        chosen.add(network)
    pods = tuple(pod for pod in state.pods if pod.network_name in chosen)
    return dataclasses.replace(state, pods=pods)


class _Lead(NamedTuple):
    """A row of what leads from outside, with a pod that it leads to."""

    row: Endpoint
    pod: Endpoint
    ports: tuple[Port, ...]


def _leads(
    state: ClusterState, scope: Scope, columns: Iterable[Endpoint], *, outside: bool
) -> list[_Lead]:
    """Return what leads from outside to pods among the columns, on the ports that are asked for."""
    described = bool(scope.given("from_"))
    if not ranging.from_everywhere(scope.from_ips, described=described, outside=outside):
        return []
    primary = (e for e in columns if e.kind is EndpointKind.POD and e.role is Role.PRIMARY)
    pods = {(pod.namespace, pod.name): pod for pod in primary}
    pod_ports: dict[tuple[str, str, str], list[Port]] = {}
    for ingress in state.ingresses:
        for lead in ingress.leads:
            pod = pods.get((lead.namespace, lead.pod))
            if pod is not None and ports.asks_for(scope.ports, pod, lead.port):
                pod_ports.setdefault((ingress.row, lead.namespace, lead.pod), []).append(lead.port)
    labels = ((UNSAID, UNSAID),) if state.controller is None else state.controller.labels
    row_ports: dict[str, set[Port]] = {}
    for (row, _, _), led_to in pod_ports.items():
        row_ports.setdefault(row, set()).update(led_to)
    rows = {
        row: Endpoint(
            kind=EndpointKind.INGRESS,
            name=row,
            labels=labels,
            declared=tuple(NamedPort(name="", port=port) for port in sorted(led_to)),
            obstacle=Reason.NO_ADDRESS,
        )
        for row, led_to in row_ports.items()
    }
    return [
        _Lead(rows[row], pods[space, name], tuple(led_to))
        for (row, space, name), led_to in pod_ports.items()
    ]


class _Cluster:
    """The endpoints a scope can name, by name."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.nodes = {node.name: node for node in state.nodes}
        unlisted = any(
            note.code == "list-missing" and "endpointslices" in note.subjects
            for note in state.notes
        )
        self.services = {
            f"{s.namespace}/{s.name}": service_endpoint(s, unlisted=unlisted)
            for s in state.services
        }

    def named(self, word: str, *, sending: bool) -> list[Endpoint]:
        """Return the endpoints that a word means, as `audit.scope.named` reads it."""
        directory = self._senders if sending else self._receivers
        return [directory.endpoints[index] for index in directory.find(word).tolist()]

    @functools.cached_property
    def _senders(self) -> Directory:
        endpoints = (*self.state.pods, *self.state.nodes, *self.services.values())
        return Directory(endpoints, holder="cluster", sending=True)

    @functools.cached_property
    def _receivers(self) -> Directory:
        return Directory(self._senders.endpoints, holder="cluster")

    def at(self, address: str) -> Endpoint | None:
        """Return the endpoint whose address this is; a node goes before pods on its network.

        A headless Service has none of its own: its addresses are its pods'.
        """
        on_pod_network = (pod for pod in self.state.pods if not pod.host_network)
        # An address may be a pod's on each of two networks: the default one's is meant.
        pods = sorted(on_pod_network, key=lambda pod: bool(pod.network))
        services = [
            self.services[f"{s.namespace}/{s.name}"] for s in self.state.services if not s.headless
        ]
        return next(
            (
                endpoint
                for endpoint in (*services, *self.state.nodes, *pods)
                if address in map(_canonical, endpoint.addresses)
            ),
            None,
        )


def endpoint_at(state: ClusterState, address: str) -> Endpoint:
    """Return whose address this is, in its canonical spelling; the outside's when nobody's."""
    return _reached_at(_Cluster(state), address)


def _reached_at(cluster: _Cluster, address: str) -> Endpoint:
    external = Endpoint(kind=EndpointKind.EXTERNAL, name=address, addresses=(address,))
    return cluster.at(address) or external


def named(state: ClusterState, src: str, dst: str) -> tuple[Sequence[Endpoint], Sequence[Endpoint]]:
    """Return what two words mean in a cluster, as a source and as a destination."""
    cluster = _Cluster(state)
    return _senders(cluster, src), _receivers(cluster, dst)


def service(state: ClusterState, namespace: str, name: str) -> Endpoint:
    """Return a Service that exists, as a destination."""
    return _Cluster(state).services[f"{namespace}/{name}"]


def service_endpoint(service: Service, *, unlisted: bool = False) -> Endpoint:
    """Return a Service as a destination; one without an address has an obstacle instead.

    A headless Service is reached at the addresses of its endpoints, which are not known from a
    cluster whose EndpointSlices are `unlisted`.
    """
    addresses = service.cluster_ips
    missing = Reason.NO_ADDRESS
    if service.headless:
        addresses = tuple(sorted({behind.address for behind in service.endpoints}))
        missing = Reason.ENDPOINTS_UNKNOWN if unlisted else Reason.SERVICE_WITHOUT_ENDPOINTS
    return Endpoint(
        kind=EndpointKind.SERVICE,
        namespace=service.namespace,
        name=service.name,
        addresses=addresses,
        labels=service.labels,
        declared=service.ports,
        obstacle="" if addresses else missing.value,
    )


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _both_sides(cluster: _Cluster, scope: Scope) -> Sequence[Endpoint]:
    return _pods(cluster, scope.namespaces, scope.selector, scope.namespace_selector)


def _sources(cluster: _Cluster, scope: Scope) -> list[Endpoint]:
    sources = _nodes(cluster, scope.from_nodes)
    if scope.given("from_namespaces", "from_selector"):
        sources += _narrowed(cluster, scope, scope.from_namespaces, scope.from_selector)
    for address in scope.from_ips:
        if not ranging.is_range(address):
            sources += _senders_at(cluster, address)
    for word in scope.from_endpoints:
        sources += _senders(cluster, word)
    return sources


def _nodes(cluster: _Cluster, named: Sequence[str]) -> list[Endpoint]:
    if EVERY not in named:
        return [_existing(cluster.nodes, name, "node") for name in named]
    if not cluster.nodes:
        raise ScopeError("there is no node")
    return [*cluster.nodes.values()]


def _senders(cluster: _Cluster, word: str) -> list[Endpoint]:
    """Return who sends, by a word."""
    if is_address(word):
        return _senders_at(cluster, _canonical(word))
    return cluster.named(word, sending=True)


def _receivers(cluster: _Cluster, word: str) -> list[Endpoint]:
    """Return who is sent to, by a word."""
    if is_address(word):
        return [_reached_at(cluster, _canonical(word))]
    return cluster.named(word, sending=False)


def _destinations(cluster: _Cluster, scope: Scope) -> list[Endpoint]:
    destinations = _nodes(cluster, scope.to_nodes)
    if scope.given("to_namespaces", "to_selector"):
        destinations += _narrowed(cluster, scope, scope.to_namespaces, scope.to_selector)
    for name in scope.to_services:
        destinations += _services(cluster, name)
    destinations += [
        _reached_at(cluster, address) for address in scope.to_ips if not ranging.is_range(address)
    ]
    for word in scope.to_endpoints:
        destinations += _receivers(cluster, word)
    return destinations


def _narrowed(
    cluster: _Cluster, scope: Scope, namespaces: Sequence[str], selector: Selector | None
) -> list[Endpoint]:
    """Return the pods of one side: its own flags in place of those for both sides."""
    return _pods(
        cluster,
        namespaces or scope.namespaces,
        scope.selector if selector is None else selector,
        EVERYTHING if namespaces else scope.namespace_selector,
    )


def _senders_at(cluster: _Cluster, address: str) -> list[Endpoint]:
    """Return who sends from `address`: an endpoint, or the outside, entering by every gateway."""
    inside = cluster.at(address)
    if inside is not None and inside.kind is EndpointKind.SERVICE:
        raise ScopeError(f"{address} is {inside.key}, and a service sends nothing; name its pods")
    if inside is not None:
        return [inside]
    if not cluster.state.gateways:
        raise ScopeError(f"no gateway is known by which packets from {address} could enter")
    return _entering(cluster, address, address)


def _entering(cluster: _Cluster, name: str, address: str) -> list[Endpoint]:
    """Return what sends from an address outside, at each gateway by which its packets enter."""
    return [
        dataclasses.replace(
            gateway,
            kind=EndpointKind.EXTERNAL,
            namespace="",
            name=name,
            node=node,
            addresses=(address,),
            attachment=gateway.attachment
            and dataclasses.replace(gateway.attachment, addresses=(address,)),
        )
        for node, gateway in cluster.state.gateways.items()
    ]


class _Ranges:
    """The outside as ranges, as far as a scope asks for it."""

    def __init__(self, cluster: _Cluster, scope: Scope, policies: Iterable[Policy]) -> None:
        self._cluster = cluster
        self._scope = scope
        self._policies = policies
        words = (*scope.from_ips, *scope.to_ips)
        # Cut alike on both sides, so that a range of one name is one range.
        self._words = [word for word in words if "/" in word]
        self._made: dict[str, ranging.Range] = {}

    def made(self) -> tuple[ranging.Range, ...]:
        """Return the ranges of both sides, each once, by name."""
        return tuple(self._made[name] for name in sorted(self._made))

    def senders(self, *, outside: bool) -> list[Endpoint]:
        """Return the rows: entering by every gateway, where gateways are known."""
        ranges = self._of(self._scope.from_ips, default=outside and not self._scope.given("from_"))
        if ranges and self._cluster.state.zones and not self._cluster.state.gateways:
            raise ScopeError("no gateway is known by which packets from outside could enter")
        if not self._cluster.state.gateways:
            return [range_.endpoint() for range_ in ranges]
        return [
            endpoint
            for range_ in ranges
            for endpoint in _entering(self._cluster, range_.name, range_.address)
        ]

    def receivers(self, *, outside: bool) -> list[Endpoint]:
        """Return the columns."""
        ranges = self._of(self._scope.to_ips, default=outside and not self._scope.given("to_"))
        return [range_.endpoint() for range_ in ranges]

    def _of(self, given: Sequence[str], *, default: bool) -> tuple[ranging.Range, ...]:
        words = [word for word in given if ranging.is_range(word)]
        if default:
            words = [ranging.ALL]
        if not words:
            return ()
        made = ranging.ranges(words, *self._cut, self._scope.family.families)
        self._made |= {range_.name: range_ for range_ in made}
        return made

    @functools.cached_property
    def _cut(self) -> tuple[list[BlockPeer], list[str], set[str]]:
        """By what the address space is cut, and the networks and addresses of the cluster.

        Every flow of every zone is read for it: once, for both sides.
        """
        state = self._cluster.state
        ranges = state.ranges
        taken = {
            *(a for end in (*state.pods, *state.nodes) for a in end.addresses),
            *(a for service in state.services for a in service.cluster_ips),
        }
        cuts, inside = ranging.of_zones(state.zones.values(), taken)
        blocks = [
            *ranging.blocks_of(self._policies),
            *(BlockPeer(cidr=cidr) for cidr in (*self._words, *cuts)),
        ]
        networks = [*ranges.pods, *ranges.nodes, *ranges.services, *inside.networks]
        return blocks, networks, taken | inside.addresses


def _services(cluster: _Cluster, name: str) -> list[Endpoint]:
    namespace, _, service = name.partition("/")
    if namespace != "*":
        _existing(cluster.state.namespaces, namespace, "namespace")
    if service != "*":
        return [_existing(cluster.services, name, "service")]
    services = [s for s in cluster.services.values() if namespace in ("*", s.namespace)]
    if not services:
        where = "the cluster" if namespace == "*" else f"namespace {namespace}"
        raise ScopeError(f"{where} has no services")
    return services


def _existing(existing: Mapping[str, T], name: str, kind: str) -> T:
    if name not in existing:
        raise ScopeError(f"{kind} {name!r} does not exist{did_you_mean(name, existing)}")
    return existing[name]


def _pods(
    cluster: _Cluster,
    namespaces: Sequence[str],
    selector: Selector,
    namespace_selector: Selector = EVERYTHING,
) -> list[Endpoint]:
    """Return the pods in the namespaces that are named and selected, and whose labels match."""
    all_labels = {name: dict(labels) for name, labels in cluster.state.namespaces.items()}
    namespaces = () if EVERY in namespaces else namespaces
    named = {name: _existing(all_labels, name, "namespace") for name in namespaces} or all_labels
    chosen = {name for name, labels in named.items() if namespace_selector.matches(labels)}
    if not all_labels:
        raise ScopeError("there is no namespace, and so no pod")
    if not chosen:
        where = _among("among", named) if namespaces else ""
        raise ScopeError(_nothing(f"namespace{where}", namespace_selector, named.values()))
    labelled = [(pod, dict(pod.labels)) for pod in cluster.state.pods if pod.namespace in chosen]
    pods = [pod for pod, labels in labelled if selector.matches(labels)]
    if not pods:
        where = _among("in", chosen) if len(chosen) < len(all_labels) else ""
        if not labelled:
            raise ScopeError(f"there is no pod{where}")
        raise ScopeError(_nothing(f"pod{where}", selector, [labels for _, labels in labelled]))
    return pods


def _among(word: str, namespaces: Collection[str]) -> str:
    """Name a few namespaces at the end of a phrase, or count many."""
    if len(namespaces) > MAX_NAMED:
        return f" {word} the {len(namespaces)} namespaces in scope"
    return f" {word} {', '.join(sorted(namespaces))}"


def _nothing(what: str, selector: Selector, objects: Iterable[Mapping[str, str]]) -> str:
    """Say that no object has what `selector` asks for, and which selector was probably meant."""
    label_sets = list(objects)
    corrected = Selector(
        requirements=tuple(_corrected(wanted, label_sets) for wanted in selector.requirements)
    )
    helps = corrected != selector and any(map(corrected.matches, label_sets))
    return f"no {what} has {selector}" + (f"; did you mean {corrected}?" if helps else "")


def _corrected(wanted: Requirement, objects: Sequence[Mapping[str, str]]) -> Requirement:
    """Return `wanted` with its key and values replaced by the nearest that exist."""
    keys = {key for labels in objects for key in labels}
    key = wanted.key if wanted.key in keys else nearest(wanted.key, keys) or wanted.key
    values = {labels[key] for labels in objects if key in labels}
    if wanted.operator is not Operator.IN:
        return dataclasses.replace(wanted, key=key)
    fit = tuple(v if v in values else nearest(v, values) or v for v in wanted.values)
    return dataclasses.replace(wanted, key=key, values=fit)


def _by_network(
    sources: Sequence[Endpoint], columns: Sequence[Endpoint]
) -> Iterator[tuple[list[Endpoint], list[Endpoint]]]:
    """Yield the pairs that can send to each other: on a secondary network only who is on it."""
    by_network: dict[str, tuple[list[Endpoint], list[Endpoint]]] = {"": ([], [])}
    for side, endpoints in enumerate((sources, columns)):
        for endpoint in endpoints:
            apart = endpoint.network if endpoint.role is Role.SECONDARY else ""
            by_network.setdefault(apart, ([], []))[side].append(endpoint)
    return ((rows, ends) for rows, ends in by_network.values() if rows and ends)


def _sides(
    pairs: Sequence[tuple[Sequence[Endpoint], Sequence[Endpoint]]], leads: Sequence[_Lead]
) -> Sides:
    pairs = [pair for both in pairs for pair in _by_network(*both)]
    unique = {e.key: e for sources, columns in pairs for e in (*sources, *columns)}
    unique |= {lead.row.key: lead.row for lead in leads}
    endpoints = sorted(unique.values(), key=_sort_key)
    index = {endpoint.key: position for position, endpoint in enumerate(endpoints)}
    return Sides(
        endpoints=tuple(endpoints),
        blocks=tuple(
            Block(sources=_indices(sources, index), destinations=_indices(columns, index))
            for sources, columns in pairs
        ),
        paths=tuple(
            Path(source=index[lead.row.key], destination=index[lead.pod.key], ports=lead.ports)
            for lead in leads
        ),
    )


def _sort_key(endpoint: Endpoint) -> tuple[int, str, str, str, int, str]:
    """Return by what endpoints are sorted: a pod's networks stand together, the primary first."""
    role = _ROLE_ORDER[endpoint.role]
    named = (endpoint.namespace, endpoint.name, endpoint.node)
    return (_KIND_ORDER[endpoint.kind], *named, role, endpoint.network)


def _indices(endpoints: Sequence[Endpoint], index: Mapping[str, int]) -> NDArray[np.int32]:
    return np.array(sorted({index[endpoint.key] for endpoint in endpoints}), dtype=np.int32)
