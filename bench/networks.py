"""Primary user-defined networks of a generated cluster, one per namespace, layer 3 and layer 2.

The rows are those that OVN-Kubernetes writes for OVN 26.03, IPv4 only: for layer 3 a switch per
node, a join and a transit switch and a cluster router; for layer 2 one switch and one transit
router in every zone; for both a gateway router per node. On the default network a pod keeps a
locked port, which UDNIsolation's ACLs shield.
"""

import dataclasses
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench import addresses
from bench.acls import PolicyRows
from bench.addresses import JOIN, hash_for_ovn, mac_of
from bench.balancers import API_SERVER
from bench.cluster import Cluster, Node, Object, Pod, Service
from bench.identities import (
    EGRESS,
    INGRESS,
    AddressSet,
    PortGroup,
    acl,
    controller_of,
    marks,
    name_of,
)
from bench.ovsdb import Key, Row
from bench.rows import port_row, route, router_port, switch, to_router
from bench.topology import balancer_groups, cluster_groups, node_acl
from bench.workloads import SYSTEM_NAMESPACES

TAKEN = "k8s.ovn.org/primary-user-defined-network"
"""The label of a namespace that has one."""
_JOIN = (ipaddress.IPv4Network("100.65.0.0/16"), ipaddress.IPv6Network("fd99::/64"))
_MASQUERADE = ipaddress.IPv4Network("169.254.0.0/17")
_HAIRPIN = "169.254.0.5"
_FIRST_SWITCH_KEY, _FIRST_ROUTER_KEY = 16711683, 16715777
_SUBNETS = 40
"""Networks whose numbers are so far apart have the same subnet."""
_FIRST_POD = 3
_HOST_PRIORITY, _NO_REROUTE_PRIORITY = 1004, 102
_DENY, _ALLOW = 1000, 1001


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network; `number` is OVN-Kubernetes' id of it, from 1."""

    namespace: str
    number: int

    @property
    def layer2(self) -> bool:
        """Whether it is one switch for all nodes: every second one is."""
        return self.number % 2 == 0

    @property
    def topology(self) -> str:
        """`layer2` or `layer3`."""
        return "layer2" if self.layer2 else "layer3"

    @property
    def name(self) -> str:
        """What `k8s.ovn.org/network` says."""
        return f"{self.namespace}_net"

    @property
    def definition(self) -> str:
        """The NetworkAttachmentDefinition: namespace and name."""
        return f"{self.namespace}/net"

    @property
    def prefix(self) -> str:
        """What the names of its rows begin with."""
        return f"{self.name.replace('-', '.')}_"

    @property
    def port_prefix(self) -> str:
        """What the names of its pods' ports begin with."""
        return f"{self.definition.replace('-', '.').replace('/', '.')}_"

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """Its addresses, which other networks have too."""
        return ipaddress.IPv4Network(f"10.{20 + self.number % _SUBNETS}.0.0/16")

    def part(self, node: Node) -> ipaddress.IPv4Network:
        """Return the addresses of a node's switch."""
        if self.layer2:
            return self.subnet
        return ipaddress.IPv4Network((int(self.subnet.network_address) + (node.index << 8), 24))

    @property
    def masquerade(self) -> tuple[str, str]:
        """What stands for a node's gateway router outside, and for its management port."""
        first = 9 + 2 * self.number
        return str(_MASQUERADE[first]), str(_MASQUERADE[first + 1])

    def ids(self, *, role: bool = False) -> dict[str, str]:
        """Return the `external_ids` of its rows."""
        found = {"k8s.ovn.org/network": self.name, "k8s.ovn.org/topology": self.topology}
        return found | ({"k8s.ovn.org/role": "primary"} if role else {})


class Networks:
    """The networks of a cluster, and the cluster as each sees it."""

    def __init__(self, cluster: Cluster) -> None:
        """Give the first tenants' namespaces one each."""
        self._cluster = cluster
        tenants = [n for n in cluster.population.namespaces if n not in SYSTEM_NAMESPACES]
        self.of = {
            namespace: Network(namespace=namespace, number=number)
            for number, namespace in enumerate(tenants[: cluster.size.networks], 1)
        }
        for namespace in self.of:
            cluster.population.namespaces[namespace][TAKEN] = ""

    @cached_property
    def pods(self) -> dict[str, Pod]:
        """The running pods on their networks, by uid."""
        found: dict[str, Pod] = {}
        taken: dict[tuple[int, str], int] = {}
        for pod in self._cluster.population.pods:
            network = self.of.get(pod.namespace)
            if network and pod.networked:
                where = (network.number, "" if network.layer2 else pod.node.name)
                number = taken[where] = taken.get(where, _FIRST_POD - 1) + 1
                address = str(network.part(pod.node)[number])
                found[pod.uid] = dataclasses.replace(
                    pod, addresses=(address,), prefix=network.port_prefix
                )
        return found

    @cached_property
    def default(self) -> Cluster:
        """The cluster as the default network's controller sees it: without these policies."""
        population, policies = self._cluster.population, self._cluster.policies
        services = [s for s in population.services if s.workload.namespace not in self.of]
        return Cluster(
            population=dataclasses.replace(population, services=services),
            policies=dataclasses.replace(
                policies,
                network=[p for p in policies.network if p["metadata"]["namespace"] not in self.of],
                firewalls=[
                    p for p in policies.firewalls if p["metadata"]["namespace"] not in self.of
                ],
            ),
        )

    def seen_by(self, network: Network) -> Cluster:
        """Return the cluster as a network's controller sees it: the network's namespace."""
        population, policies = self._cluster.population, self._cluster.policies
        namespace = network.namespace
        pods = [self.pods[pod.uid] for pod in self._running(namespace)]
        services = [
            dataclasses.replace(s, backends=tuple(self.pods[pod.uid] for pod in s.backends))
            for s in population.services
            if s.workload.namespace == namespace
        ]
        return Cluster(
            population=dataclasses.replace(
                population,
                size=dataclasses.replace(population.size, families=1),
                namespaces={namespace: population.namespaces[namespace]},
                pods=pods,
                services=services,
            ),
            policies=dataclasses.replace(
                policies,
                network=[p for p in policies.network if p["metadata"]["namespace"] == namespace],
                admin=[],
                baseline=[],
                firewalls=[],
            ),
        )

    def _running(self, namespace: str) -> list[Pod]:
        return [pod for pod in self._cluster.pods_of[namespace] if pod.uid in self.pods]

    def locked(self) -> Iterator[Pod]:
        """Yield the pods' locked ports on the default network."""
        for pod in self._cluster.population.pods:
            if pod.uid in self.pods:
                yield pod


def isolation(networks: Networks, node: Node) -> Iterator[Row]:
    """Yield UDNIsolation's port group in a zone, and its ACLs."""
    group = marks("UDNIsolation", "SecondaryPods")
    name = name_of(group)
    host = node.management[0]
    answer = f"(( arp && arp.{{}} == {host} ))"
    acls = [
        _isolating("AllowHostPrimaryUDN", INGRESS, "allow-related", f"(ip4.src=={host})", name),
        _isolating("AllowHostARPPrimaryUDN", INGRESS, "allow", answer.format("spa"), name),
        _isolating("DenyPrimaryUDN", INGRESS, "drop", "", name),
        _isolating("AllowHostARPPrimaryUDN", EGRESS, "allow", answer.format("tpa"), name),
        _isolating("DenyPrimaryUDN", EGRESS, "drop", "", name),
    ]
    yield from acls
    ports = [(pod.node.name, pod.port) for pod in networks.locked()]
    yield PortGroup(group, ports, acls).row(node.name)


def _isolating(name: str, direction: str, action: str, match: str, group: str) -> Row:
    port = "outport" if direction == INGRESS else "inport"
    return acl(
        marks("UDNIsolation", name, direction=direction),
        f"{port} == @{group}" + (f" && {match}" if match else ""),
        direction=direction,
        action=action,
        priority=_ALLOW if match else _DENY,
        tier=0,
    )


class NetworkRows:
    """The rows of one network, of which those of policies and services are made once."""

    def __init__(self, networks: Networks, network: Network) -> None:
        """Translate the policies and services of its namespace."""
        self._network = network
        self._cluster = networks.seen_by(network)
        with controller_of(network.name):
            policies = PolicyRows(self._cluster)
            groups = cluster_groups(
                self._cluster, network.prefix, _HAIRPIN, routers=not network.layer2
            )
        self._groups = [*groups, *policies.groups]
        hairpins = [found for group in groups for found in group.acls]
        self._served = AddressSet(1, "EgressIP", "egressip-served-pods", network=network.name)
        balancers = [_balancer(network, s) for s in self._cluster.population.services if s.backends]
        keys = [row.key for row in balancers]
        kinds = {"clusterLBGroup": keys, "clusterSwitchLBGroup": [], "clusterRouterLBGroup": []}
        for kind, members in kinds.items():
            name = network.prefix + kind
            found = Row.of("Load_Balancer_Group", name, {"name": name}, load_balancer=members)
            balancers.append(found)
        self._shared = [*policies.shared(), *hairpins, *balancers, *self._served.rows()]

    def rows(self, node: Node) -> Iterator[Row]:
        """Yield the rows of a zone."""
        yield from self._shared
        yield from (group.row(node.name) for group in self._groups)
        yield from self._layer2(node) if self._network.layer2 else self._layer3(node)

    def _pod_port(self, pod: Pod, node: Node, number: int) -> Row:
        own = " ".join([mac_of(pod.addresses[0]), *pod.addresses])
        options = {"iface-id-ver": pod.uid, "requested-chassis": pod.node.chassis}
        if self._network.layer2:
            options["requested-tnl-key"] = str(10 + number)
        return port_row(
            pod.port,
            addresses=[own],
            port_security=[own],
            external_ids={
                "k8s.ovn.org/nad": self._network.definition,
                **self._network.ids(),
                "namespace": pod.namespace,
                "pod": "true",
            },
            options=options,
            up=True,
            **({} if pod.node is node else {"type": "remote"}),
        )

    def _switch(self, name: str, node: Node, router: Row, config: dict[str, str]) -> Iterator[Row]:
        """Yield the switch that pods are on, with the host's port."""
        network, part = self._network, self._network.part(node)
        host = str(part[2])
        management = port_row(
            f"k8s-{network.prefix}{node.name}", addresses=[f"{mac_of(host)} {host}"], up=True
        )
        pods = [
            self._pod_port(pod, node, number)
            for number, pod in enumerate(self._cluster.population.pods)
            if network.layer2 or pod.node is node
        ]
        with controller_of(network.name):
            allowed = node_acl(name, host)
        yield allowed
        yield from switch(
            name,
            {"subnet": str(part), "mcast_snoop": "true", **config},
            [router, management, *pods],
            network.ids(role=True),
            acls=[allowed.key],
            load_balancer_group=self._balancers("clusterLBGroup", "clusterSwitchLBGroup"),
        )

    def _balancers(self, *names: str) -> list[Key]:
        return balancer_groups(*(self._network.prefix + name for name in names))

    def _layer3(self, node: Node) -> Iterator[Row]:
        network, prefix = self._network, self._network.prefix
        name, router = prefix + node.name, f"{prefix}ovn_cluster_router"
        gateway = f"GR_{name}"
        first = str(network.part(node)[1])
        config = {"mcast_querier": "true", "mcast_eth_src": mac_of(first), "mcast_ip4_src": first}
        yield from self._switch(name, node, to_router(f"stor-{name}", f"rtos-{name}"), config)
        joins = [to_router(f"jtor-{r}", f"rtoj-{r}") for r in (gateway, router)]
        yield from switch(f"{prefix}join", {}, joins, network.ids())
        nodes = self._cluster.population.nodes
        config = _stretched(f"{prefix}transit_switch", _FIRST_SWITCH_KEY + network.number)
        ports = [self._transit_port(other, node) for other in nodes]
        yield from switch(f"{prefix}transit_switch", config, ports, network.ids(role=True))
        joined, transit = _at(_JOIN, node.number), _at(addresses.TRANSIT, node.number)
        yield router_port(f"rtoj-{gateway}", joined, {"external_ids": network.ids()})
        yield router_port(f"rtoj-{router}", _at(_JOIN, 1), {"external_ids": network.ids()})
        yield router_port(f"{prefix}rtots-{node.name}", transit, {})
        yield from self._to_switch(f"rtos-{name}", node, {})
        ports_of = (f"rtoj-{router}", f"{prefix}rtots-{node.name}", f"rtos-{name}")
        routes = list(self._routes3(router, node))
        yield from self._cluster_router(router, f"rtos-{name}", node, ports_of, routes)
        inside = route(gateway, str(network.subnet), addresses.at(_JOIN[0], 1))
        yield from self._gateway(gateway, node, f"rtoj-{gateway}", inside, "router_ip")

    def _transit_port(self, other: Node, node: Node) -> Row:
        prefix, key = self._network.prefix, {"requested-tnl-key": str(other.number)}
        name, ids = f"{prefix}tstor-{other.name}", {"node": other.name}
        if other is node:
            options = key | {"router-port": f"{prefix}rtots-{other.name}"}
            own = {"addresses": ["router"], "type": "router", "options": options, "up": True}
            return port_row(name, external_ids=ids, **own)
        address = addresses.at(addresses.TRANSIT[0], other.number)
        return port_row(
            name,
            addresses=[" ".join([mac_of(address), *_at(addresses.TRANSIT, other.number)])],
            type="remote",
            options=key | {"requested-chassis": other.chassis},
            external_ids=ids,
            up=True,
        )

    def _routes3(self, router: str, node: Node) -> Iterator[Row]:
        network = self._network
        for family, join in enumerate(addresses.each(_JOIN, node.number, 2)):
            yield route(router, join, join, external_ids=network.ids())
            for other in self._cluster.population.nodes:
                if other is not node:
                    via = addresses.at(addresses.TRANSIT[family], other.number)
                    ids = {"ic-node": other.name, "k8s.ovn.org/network": network.name}
                    there = addresses.host_prefix(addresses.at(_JOIN[family], other.number))
                    yield route(router, there, via, external_ids=ids)
                    if family == 0:
                        yield route(router, str(network.part(other)), via, external_ids=ids)
        join = addresses.at(_JOIN[0], node.number)
        for subnet in (network.part(node), network.subnet):
            yield route(router, str(subnet), join, policy="src-ip", external_ids=network.ids())
        host = str(network.part(node)[2])
        yield route(router, API_SERVER[0], host, policy="dst-ip", external_ids=network.ids())

    def _layer2(self, node: Node) -> Iterator[Row]:
        network, prefix = self._network, self._network.prefix
        name, router = f"{prefix}ovn_layer2_switch", f"{prefix}transit_router"
        gateway = f"GR_{prefix}{node.name}"
        config = _stretched(name, _FIRST_SWITCH_KEY + network.number)
        leading = to_router(f"stotr-{name}", f"trtos-{name}")
        yield from self._switch(name, node, leading, config)
        yield from self._to_switch(f"trtos-{name}", node, {"requested-tnl-key": "1"})
        ports, routes = [f"trtos-{name}"], list[Row]()
        for other in self._cluster.population.nodes:
            yield self._transit_router_port(other, node)
            ports.append(f"trtor-GR_{prefix}{other.name}")
            join, (_, beyond) = addresses.at(_JOIN[0], other.number), _link(other)
            routes.append(route(router, join, beyond, external_ids=network.ids()))
        own, beyond = _link(node)
        networks = [*_at(_JOIN, node.number), f"{beyond}/31"]
        given = {"external_ids": network.ids(), "peer": f"trtor-{gateway}"}
        yield router_port(f"rtotr-{gateway}", networks, given)
        subnet = str(network.subnet)
        routes.append(route(router, subnet, beyond, policy="src-ip", external_ids=network.ids()))
        inside = route(gateway, subnet, own, output_port=f"rtotr-{gateway}")
        host = str(network.subnet[2])
        api = route(router, API_SERVER[0], host, policy="dst-ip", external_ids=network.ids())
        key = {"requested-tnl-key": str(_FIRST_ROUTER_KEY + network.number)}
        port = f"trtos-{name}"
        yield from self._cluster_router(router, port, node, ports, [*routes, api], key)
        forced = " ".join(addresses.each(_JOIN, node.number, 2))
        yield from self._gateway(gateway, node, f"rtotr-{gateway}", inside, forced)

    def _transit_router_port(self, other: Node, node: Node) -> Row:
        """Return the transit router's port to a node's gateway router: remote, but for the own."""
        gateway = f"GR_{self._network.prefix}{other.name}"
        options = {"requested-tnl-key": str(10 + other.number)}
        given: dict[str, object] = {"external_ids": self._network.ids()}
        if other is node:
            given["peer"] = f"rtotr-{gateway}"
        else:
            options["requested-chassis"] = other.chassis
        return router_port(
            f"trtor-{gateway}", [f"{_link(other)[0]}/31"], {**given, "options": options}
        )

    def _to_switch(self, port: str, node: Node, options: dict[str, str]) -> Iterator[Row]:
        """Yield the router's port to the pods' switch, which is bound to the node."""
        part = self._network.part(node)
        name = f"{port}-{node.chassis}"
        columns = {"name": name, "chassis_name": node.chassis, "priority": 1}
        yield Row.of("Gateway_Chassis", name, columns)
        yield router_port(
            port,
            [f"{part[1]}/{part.prefixlen}"],
            {"options": {"gateway_mtu": "1400", **options}},
            gateway_chassis=[("Gateway_Chassis", name)],
        )

    def _cluster_router(
        self,
        name: str,
        port: str,
        node: Node,
        ports: Sequence[str],
        routes: Sequence[Row],
        options: dict[str, str] | None = None,
    ) -> Iterator[Row]:
        network, host = self._network, str(self._network.part(node)[2])
        policies = list(self._policies(port, node, host))
        columns = {
            "type": "snat",
            "external_ip": network.masquerade[1],
            "external_port_range": "32768-60999",
            "logical_ip": str(network.part(node)),
            "logical_port": port,
            "match": f"eth.dst == {mac_of(host)}",
            "options": {"stateless": "false"},
            "external_ids": network.ids(),
        }
        translation = Row.of("NAT", f"{name} management", columns)
        yield from (*policies, *routes, translation)
        given = {"always_learn_from_arp_request": "false", "mcast_relay": "true"}
        columns = {
            "name": name,
            "external_ids": {"k8s-cluster-router": "yes", **network.ids()},
            "options": options or given,
        }
        yield Row.of(
            "Logical_Router",
            name,
            columns,
            copp=[("Copp", "ovnkube-default")],
            ports=[("Logical_Router_Port", port) for port in ports],
            policies=[row.key for row in policies],
            nat=[translation.key],
            static_routes=[row.key for row in routes],
        )

    def _policies(self, port: str, node: Node, host: str) -> Iterator[Row]:
        """Yield the way to the own host, and what EgressIPs leave alone."""
        subnet, served = self._network.subnet, self._served.names[0]
        sources = f"(ip4.src == ${served} || ip4.src == ${hash_for_ovn(_ALL_SERVED)})"
        for to in (node.hosts[0], self._network.masquerade[0]):
            match = f'inport == "{port}" && ip4.dst == {to} /* {self._network.prefix} */'
            reroute = {"action": "reroute", "nexthops": [host]}
            yield self._policy(self._network.ids(), _HOST_PRIORITY, match, **reroute)
        nodes = f"{sources} && ip4.dst == ${hash_for_ovn(_NODES)}"
        kept = [
            ("reply-traffic", "pkt.mark == 42", {}),
            ("Pod-To-Pod", f"ip4.src == {subnet} && ip4.dst == {subnet}", {}),
            ("Pod-To-Join", f"ip4.src == {subnet} && ip4.dst == {JOIN[0]}", {}),
            ("Pod-To-Node", nodes, {"options": {"pkt_mark": "1008"}}),
        ]
        for name, match, more in kept:
            keys = {"ip_family": "ip4", "network": self._network.name}
            priority = str(_NO_REROUTE_PRIORITY)
            ids = marks("EgressIP", f"EIP-No-Reroute-{name}", priority=priority, **keys)
            yield self._policy(ids, _NO_REROUTE_PRIORITY, match, action="allow", **more)

    def _policy(
        self, external_ids: dict[str, str], priority: int, match: str, **columns: object
    ) -> Row:
        given = {"external_ids": external_ids, "priority": priority, "match": match, **columns}
        return Row.of("Logical_Router_Policy", f"{self._network.prefix} {match}", given)

    def _gateway(self, name: str, node: Node, port: str, inside: Row, forced: str) -> Iterator[Row]:
        network, outside = self._network, f"rtoe-{name}"
        ids, own = network.ids(), network.masquerade[0]
        joined = addresses.at(_JOIN[0], node.number)
        hosts = [*addresses.with_prefix(addresses.HOSTS, node.number, 1), f"{own}/32"]
        yield router_port(outside, hosts, {"mac": node.mac, "external_ids": ids})
        translations = [
            Row.of(
                "NAT",
                f"{name} {what}",
                {
                    "type": "snat",
                    "external_ip": own,
                    "external_port_range": "32768-60999",
                    "logical_ip": what,
                    "options": {"stateless": "false"},
                    "external_ids": ids,
                },
            )
            for what in (joined, str(network.subnet))
        ]
        out = {"output_port": outside, "external_ids": ids}
        masked = str(_MASQUERADE[4])
        routes = [
            inside,
            route(name, "0.0.0.0/0", addresses.at(addresses.HOSTS[0], 1), **out),
            route(name, str(_MASQUERADE), masked, **out),
        ]
        yield from (*translations, *routes)
        binding = {
            "ip": masked,
            "logical_port": outside,
            "mac": mac_of(masked),
            "override_dynamic_mac": True,
        }
        yield Row.of("Static_MAC_Binding", name, binding)
        bridge = port_row(
            f"breth0_{name.removeprefix('GR_')}",
            addresses=["unknown"],
            type="localnet",
            options={"network_name": "physnet"},
            external_ids=ids,
        )
        options = {"router-port": outside}
        leading = port_row(
            f"etor-{name}", addresses=[node.mac], type="router", options=options, up=True
        )
        external = f"ext_{name.removeprefix('GR_')}"
        yield from switch(external, {}, [leading, bridge], network.ids(role=True))
        physical = f"{node.hosts[0]},{own}"
        columns = {
            "name": name,
            "external_ids": {
                **network.ids(role=True),
                "physical_ip": node.hosts[0],
                "physical_ips": physical,
            },
            "options": {
                "always_learn_from_arp_request": "false",
                "chassis": node.chassis,
                "disable_garp_rarp": "true",
                "dynamic_neigh_routers": "false",
                "lb_force_snat_ip": forced,
                "mac_binding_age_threshold": "300",
            },
        }
        yield Row.of(
            "Logical_Router",
            name,
            columns,
            copp=[("Copp", "ovnkube-default")],
            ports=[("Logical_Router_Port", one) for one in (port, outside)],
            nat=[row.key for row in translations],
            static_routes=[row.key for row in routes],
            load_balancer_group=self._balancers("clusterLBGroup", "clusterRouterLBGroup"),
        )


_ALL_SERVED = "default-network-controller:EgressIP:egressip-served-pods:v4:default"
_NODES = "default-network-controller:EgressIP:node-ips:v4:default"


def served_sets(nodes: Sequence[Node]) -> Iterator[Row]:
    """Yield the address sets that every network's router policies name."""
    for text, members in ((_ALL_SERVED, []), (_NODES, [node.hosts[0] for node in nodes])):
        name = hash_for_ovn(text)
        columns = {"name": name, "external_ids": {"k8s.ovn.org/id": text}, "addresses": members}
        yield Row.of("Address_Set", name, columns)


def _link(node: Node) -> tuple[str, str]:
    """Return the addresses between a transit router and a node's gateway router, in this order."""
    first, second = (addresses.at(addresses.TRANSIT[0], 2 * node.number + n) for n in (0, 1))
    return first, second


def _at(plan: addresses.Plan, number: int) -> tuple[str, ...]:
    return addresses.with_prefix(plan, number, 2)


def _stretched(name: str, key: int) -> dict[str, str]:
    """Return the `other_config` of a switch with a part in every zone."""
    return {
        "interconn-ts": name,
        "mcast_flood_unregistered": "true",
        "mcast_querier": "false",
        "mcast_snoop": "true",
        "requested-tnl-key": str(key),
    }


def _balancer(network: Network, service: Service) -> Row:
    owner = f"{service.workload.namespace}/{service.name}"
    protocol = service.ports[0][1].protocol
    vips = {
        f"{service.ips(1)[0]}:{number}": ",".join(
            f"{pod.addresses[0]}:{port.number}" for pod in service.backends
        )
        for number, port in service.ports
        if port.protocol == protocol
    }
    name = f"{network.prefix}Service_{owner}_{protocol}_cluster"
    columns = {
        "name": name,
        "external_ids": {
            "k8s.ovn.org/kind": "Service",
            "k8s.ovn.org/network": network.name,
            "k8s.ovn.org/owner": owner,
            "k8s.ovn.org/role": "primary",
        },
        "options": {
            "event": "false",
            "hairpin_snat_ip": f"{_HAIRPIN} fd69::5",
            "neighbor_responder": "none",
            "reject": "true",
            "skip_snat": "false",
        },
        "protocol": protocol.lower(),
        "vips": vips,
    }
    return Row.of("Load_Balancer", name, columns)


def annotation(networks: Networks, pod: Pod) -> Object:
    """Return the entries of a pod's user-defined networks in OVN-Kubernetes' annotation."""
    there = networks.pods.get(pod.uid)
    if there is None:
        return {}
    network = networks.of[pod.namespace]
    part = network.part(pod.node)
    gateway, own = str(part[1]), f"{there.addresses[0]}/{part.prefixlen}"
    plans = (network.subnet, addresses.SERVICES[0], _JOIN[0])
    entry: Object = {
        "ip_addresses": [own],
        "mac_address": mac_of(there.addresses[0]),
        "gateway_ips": [gateway],
        "routes": [{"dest": str(plan), "nextHop": gateway} for plan in plans],
        "ip_address": own,
        "gateway_ip": gateway,
        "role": "primary",
    }
    return {network.definition: entry}
