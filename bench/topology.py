"""The rows of one zone that are there whatever runs on it: switches, routers, routes, chassis."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import addresses
from bench.addresses import MASQUERADE, uuid_of
from bench.cluster import Cluster, Node, Pod
from bench.identities import EGRESS, INGRESS, PortGroup, acl, marks, name_of
from bench.ovsdb import Key, Row
from bench.rows import port_row, route, router_port, switch, to_router

_RATE_LIMITERS = {
    "arp": "arp",
    "arp-resolve": "arp-resolve",
    "bfd": "bfd",
    "event-elb": "event-elb",
    "icmp4-error": "icmp4-error",
    "icmp6-error": "icmp6-error",
    "reject": "reject",
    "svc-monitor": "svc-monitor",
    "tcp-reset": "tcp-reset",
}
_ARP_PROXY = "0a:58:a9:fe:01:01 169.254.1.1 fe80::1"
_TRANSIT_KEY = "16711683"
_HOST_ROUTE_PRIORITY = 1004
_MASQUERADE_MACS = ("0a:58:a9:fe:a9:04", "0a:58:1b:ac:71:41")
_ALLOW = 1001
_MULTICAST_DENY, _MULTICAST_ALLOW = 1011, 1012
_MULTICAST = "(ip4.mcast || mldv1 || mldv2 || (ip6.dst[120..127] == 0xff && ip6.dst[116] == 1))"
_MOMENT_S = 1767225600
"""When OVN-Kubernetes is said to have looked last: the beginning of 2026."""
_CHASSIS_CONFIG = {
    "ct-no-masked-label": "true",
    "datapath-type": "system",
    "is-interconn": "true",
    "ls-dpg-column": "true",
    "ovn-bridge-mappings": "physnet:breth0",
    "ovn-ct-lb-related": "true",
    "ovn-enable-lflow-cache": "true",
    "ovn-monitor-all": "true",
    "port-up-notif": "true",
}


class ZoneTopology:
    """The rows of one zone."""

    def __init__(
        self, cluster: Cluster, node: Node, balancers: Mapping[str, Sequence[Key]]
    ) -> None:
        """`balancers` are the load balancers of the node's switch and router, by column owner."""
        self._cluster = cluster
        self._node = node
        self._balancers = balancers
        self._families = cluster.size.families
        self._pods = [p for p in cluster.population.pods if p.networked and p.node is node]

    def rows(self) -> Iterator[Row]:
        """Yield every row but those of policies and of load balancers."""
        yield Row.of("NB_Global", "nb", self._global())
        yield from self._meters()
        yield from self._switches()
        yield from self._router_ports()
        yield from self._cluster_router()
        yield from self._gateway_router()

    def _global(self) -> dict[str, object]:
        name = self._node.name
        options = {
            "e2e_timestamp": str(_MOMENT_S),
            "mac_prefix": "fa:64:89",
            "max_tunid": "16711680",
            "name": name,
        }
        return {"name": name, "options": options}

    def _meters(self) -> Iterator[Row]:
        for name, rate in (("acl-logging", 20), ("rate-limiter", 25)):
            yield Row.of("Meter_Band", name, {"action": "drop", "rate": rate})
        limiters = {f"{name}-rate-limiter": "rate-limiter" for name in _RATE_LIMITERS}
        for name, band in {"acl-logging": "acl-logging", **limiters}.items():
            columns = {"name": name, "unit": "pktps", "fair": True}
            yield Row.of("Meter", name, columns, bands=[("Meter_Band", band)])
        meters = {key: f"{name}-rate-limiter" for key, name in _RATE_LIMITERS.items()}
        yield Row.of("Copp", "ovnkube-default", {"name": "ovnkube-default", "meters": meters})

    def _switches(self) -> Iterator[Row]:
        name = self._node.name
        joins = [to_router(f"jtor-{r}", f"rtoj-{r}") for r in (f"GR_{name}", CLUSTER_ROUTER)]
        yield from switch("join", {}, joins)
        external = port_row(
            f"etor-GR_{name}",
            addresses=[self._node.mac],
            type="router",
            options={
                "exclude-lb-vips-from-garp": "true",
                "nat-addresses": "router",
                "router-port": f"rtoe-GR_{name}",
            },
            up=True,
        )
        options = {"network_name": "physnet"}
        bridge = port_row(f"breth0_{name}", addresses=["unknown"], type="localnet", options=options)
        yield from switch(f"ext_{name}", {}, [external, bridge])
        yield from self._transit()
        yield from self._node_switch()

    def _transit(self) -> Iterator[Row]:
        ports = [self._transit_port(node) for node in self._cluster.population.nodes]
        config = {
            "interconn-ts": "transit_switch",
            "mcast_flood_unregistered": "true",
            "mcast_querier": "false",
            "mcast_snoop": "true",
            "requested-tnl-key": _TRANSIT_KEY,
        }
        yield from switch("transit_switch", config, ports)

    def _transit_port(self, node: Node) -> Row:
        """Return the port of a node on the transit switch: a router's here, else remote."""
        name, key = f"tstor-{node.name}", {"requested-tnl-key": str(node.number)}
        external_ids = {"node": node.name}
        if node is self._node:
            options = key | {"router-port": f"rtots-{node.name}"}
            port = {"addresses": ["router"], "type": "router", "options": options, "up": True}
            return port_row(name, external_ids=external_ids, **port)
        transit = addresses.with_prefix(addresses.TRANSIT, node.number, self._families)
        mac = addresses.mac_of(addresses.at(addresses.TRANSIT[0], node.number))
        return port_row(
            name,
            addresses=[" ".join([mac, *transit])],
            type="remote",
            options=key | {"requested-chassis": node.name},
            external_ids=external_ids,
        )

    def _node_switch(self) -> Iterator[Row]:
        node = self._node
        clusters = " ".join(str(n) for n in addresses.CLUSTER[: self._families])
        router = to_router(
            f"stor-{node.name}", f"rtos-{node.name}", arp_proxy=f"{_ARP_PROXY} {clusters}"
        )
        management = " ".join([node.management_mac, *node.management])
        host = port_row(f"k8s-{node.name}", addresses=[management], up=True)
        gateway = addresses.at(node.networks[0], 1)
        config = {
            "subnet": str(node.networks[0]),
            "mcast_eth_src": addresses.mac_of(gateway),
            "mcast_ip4_src": gateway,
            "mcast_querier": "true",
            "mcast_snoop": "true",
        }
        if self._families > 1:
            config["ipv6_prefix"] = str(node.networks[1].network_address)
            config["mcast_ip6_src"] = addresses.link_local(addresses.mac_of(gateway))
        allowed = [node_acl(node.name, address) for address in node.management]
        yield from allowed
        yield from switch(
            node.name,
            config,
            [router, host, *map(self._pod_port, self._pods)],
            acls=[found.key for found in allowed],
            load_balancer=self._balancers["switch"],
            load_balancer_group=balancer_groups("clusterLBGroup", "clusterSwitchLBGroup"),
        )

    def _pod_port(self, pod: Pod) -> Row:
        own = " ".join([addresses.mac_of(pod.addresses[0]), *pod.addresses])
        return port_row(
            pod.port,
            addresses=[own],
            port_security=[own],
            external_ids={"namespace": pod.namespace, "pod": "true"},
            options={"iface-id-ver": pod.uid, "requested-chassis": self._node.name},
            up=True,
        )

    def _router_ports(self) -> Iterator[Row]:
        node, families = self._node, self._families
        gateways = [addresses.at(network, 1) for network in node.networks]
        subnets = zip(gateways, node.networks, strict=True)
        chassis = f"rtos-{node.name}-{node.chassis}"
        columns = {"name": chassis, "chassis_name": node.chassis, "priority": 1}
        yield Row.of("Gateway_Chassis", chassis, columns)
        yield router_port(
            f"rtos-{node.name}",
            [f"{address}/{network.prefixlen}" for address, network in subnets],
            columns={"options": {"gateway_mtu": "1400"}},
            gateway_chassis=[("Gateway_Chassis", chassis)],
        )
        for name, plan, number, extra in (
            (f"rtoj-{CLUSTER_ROUTER}", addresses.JOIN, 1, {}),
            (f"rtoj-GR_{node.name}", addresses.JOIN, node.number, {"gateway_mtu": "1400"}),
            (f"rtots-{node.name}", addresses.TRANSIT, node.number, {"mcast_flood": "true"}),
        ):
            networks = addresses.with_prefix(plan, number, families)
            yield router_port(name, networks, columns={"options": extra} if extra else {})
        external = {"external_ids": {"gateway-physical-ip": "yes"}, "mac": node.mac}
        hosts = addresses.with_prefix(addresses.HOSTS, node.number, families)
        yield router_port(f"rtoe-GR_{node.name}", hosts, columns=external)

    def _cluster_router(self) -> Iterator[Row]:
        node = self._node
        policies = [
            Row.of("Logical_Router_Policy", host, _host_route(node.name, host, management))
            for host, management in zip(node.hosts, node.management, strict=True)
        ]
        routes = list(self._cluster_routes())
        yield from (*policies, *routes)
        ports = (f"rtoj-{CLUSTER_ROUTER}", f"rtos-{node.name}", f"rtots-{node.name}")
        columns = {
            "name": CLUSTER_ROUTER,
            "external_ids": {"k8s-cluster-router": "yes"},
            "options": {"always_learn_from_arp_request": "false", "mcast_relay": "true"},
        }
        yield Row.of(
            "Logical_Router",
            CLUSTER_ROUTER,
            columns,
            copp=[("Copp", "ovnkube-default")],
            ports=[("Logical_Router_Port", port) for port in ports],
            policies=[policy.key for policy in policies],
            static_routes=[route.key for route in routes],
        )

    def _cluster_routes(self) -> Iterator[Row]:
        """Yield the way to each gateway router, to each other node, and out by the own gateway."""
        joins = addresses.each(addresses.JOIN, self._node.number, self._families)
        for join, network in zip(joins, self._node.networks, strict=True):
            yield route(CLUSTER_ROUTER, join, join)
            yield route(CLUSTER_ROUTER, str(network), join, policy="src-ip")
        for node in self._cluster.population.nodes:
            if node is self._node:
                continue
            marked = {"ic-node": node.name, "k8s.ovn.org/network": "default"}
            transit = addresses.each(addresses.TRANSIT, node.number, self._families)
            joined = addresses.each(addresses.JOIN, node.number, self._families)
            for network, join, via in zip(node.networks, joined, transit, strict=True):
                for prefix in (str(network), addresses.host_prefix(join)):
                    yield route(CLUSTER_ROUTER, prefix, via, external_ids=marked)

    def _gateway_router(self) -> Iterator[Row]:
        node, name = self._node, f"GR_{self._node.name}"
        translations, routes = list(self._translations()), list(self._gateway_routes())
        yield from (*translations, *routes, *self._masquerades())
        hosts = {"physical_ip": node.hosts[0], "physical_ips": ",".join(node.hosts)}
        options = {
            "always_learn_from_arp_request": "false",
            "chassis": node.chassis,
            "dynamic_neigh_routers": "false",
            "lb_force_snat_ip": "router_ip",
            "mac_binding_age_threshold": "300",
            "snat-ct-zone": "0",
        }
        ports = (f"rtoj-{name}", f"rtoe-{name}")
        yield Row.of(
            "Logical_Router",
            name,
            {"name": name, "external_ids": hosts, "options": options},
            copp=[("Copp", "ovnkube-default")],
            ports=[("Logical_Router_Port", port) for port in ports],
            nat=[translation.key for translation in translations],
            static_routes=[route.key for route in routes],
            load_balancer=self._balancers["router"],
            load_balancer_group=balancer_groups("clusterLBGroup", "clusterRouterLBGroup"),
        )

    def _translations(self) -> Iterator[Row]:
        joins = addresses.each(addresses.JOIN, self._node.number, self._families)
        for host, join, network in zip(self._node.hosts, joins, addresses.CLUSTER, strict=False):
            for inside in (join, str(network)):
                columns = {
                    "external_ip": host,
                    "external_port_range": "32768-60999",
                    "logical_ip": inside,
                    "options": {"stateless": "false"},
                    "type": "snat",
                }
                yield Row.of("NAT", inside, columns)

    def _gateway_routes(self) -> Iterator[Row]:
        router, port = f"GR_{self._node.name}", f"rtoe-GR_{self._node.name}"
        anywhere = ("0.0.0.0/0", "::/0")[: self._families]
        for family, everything in enumerate(anywhere):
            inside, join = str(addresses.CLUSTER[family]), addresses.at(addresses.JOIN[family], 1)
            yield route(router, inside, join)
            outside = addresses.at(addresses.HOSTS[family], 1)
            yield route(router, everything, outside, output_port=port)
            marked = {"k8s.ovn.org/node-masquerade-subnet": ""}
            to_host = {"output_port": port, "external_ids": marked}
            via = addresses.at(MASQUERADE[family], 4)
            yield route(router, str(MASQUERADE[family]), via, **to_host)

    def _masquerades(self) -> Iterator[Row]:
        for family, mac in enumerate(_MASQUERADE_MACS[: self._families]):
            columns = {
                "ip": addresses.at(MASQUERADE[family], 4),
                "logical_port": f"rtoe-GR_{self._node.name}",
                "mac": mac,
                "override_dynamic_mac": True,
            }
            yield Row.of("Static_MAC_Binding", mac, columns)


CLUSTER_ROUTER = "ovn_cluster_router"


def balancer_groups(*names: str) -> list[Key]:
    """Return the keys of load balancer groups."""
    return [("Load_Balancer_Group", name) for name in names]


def _host_route(node: str, host: str, management: str) -> dict[str, object]:
    """Return the policy that sends what is for the own host to its management port."""
    field = "ip6" if ":" in host else "ip4"
    return {
        "action": "reroute",
        "match": f'inport == "rtos-{node}" && {field}.dst == {host} /* {node} */',
        "nexthops": [management],
        "priority": _HOST_ROUTE_PRIORITY,
    }


def node_acl(node: str, address: str) -> Row:
    """Return the ACL by which a node's own host reaches its pods."""
    field = "ip6" if ":" in address else "ip4"
    return acl(
        marks("NetpolNode", node, ip=address),
        f"{field}.src=={address}",
        direction=INGRESS,
        action="allow-related",
        priority=_ALLOW,
    )


def cluster_groups(
    cluster: Cluster, prefix: str = "", hairpin: str = "169.254.169.5", *, routers: bool = True
) -> list[PortGroup]:
    """Return the port groups of the whole cluster, with ACLs of service hairpins and multicast.

    Ports of a user-defined network are those whose names have its `prefix`. Not every topology has
    `routers` at the switches of nodes.
    """
    sources = (f"ip4.src == {hairpin}", "ip6.src == fd69::5")[: cluster.size.families]
    match = f"({' || '.join(sources)})" if len(sources) > 1 else sources[0]
    acls = [
        acl(
            marks("NetpolDefault", "allow-hairpinning", direction=direction),
            match,
            direction=direction,
            action="allow-related",
            priority=_ALLOW,
        )
        for direction in (INGRESS, EGRESS)
    ]
    nodes = cluster.population.nodes
    hosts = [(node.name, f"k8s-{prefix}{node.name}") for node in nodes]
    to_routers = [(node.name, f"stor-{prefix}{node.name}") for node in nodes if routers]
    cluster_ids, router_ids = (
        marks("Cluster", name) for name in ("clusterPortGroup", "clusterRtrPortGroup")
    )
    denials = [_multicast("DefaultDeny", side) for side in (INGRESS, EGRESS)]
    between = [
        _multicast("AllowInterNode", side, name_of(router_ids)) for side in (INGRESS, EGRESS)
    ]
    return [
        PortGroup(cluster_ids, hosts, [*acls, *denials]),
        PortGroup(router_ids, to_routers, between),
    ]


def _multicast(kind: str, direction: str, group: str = "") -> Row:
    """Return an ACL of `--enable-multicast`: nobody's, but what goes between nodes of a group."""
    external_ids = marks("MulticastCluster", kind, direction=direction)
    external_ids["type"] = external_ids.pop("k8s.ovn.org/name")
    port = "outport" if direction == INGRESS else "inport"
    return acl(
        external_ids,
        f"{port} == @{group} && {_MULTICAST}" if group else _MULTICAST,
        direction=direction,
        action="allow" if group else "drop",
        priority=_MULTICAST_ALLOW if group else _MULTICAST_DENY,
    )


def chassis_rows(cluster: Cluster, own: Node) -> Iterator[Row]:
    """Yield what ovn-controller writes into the southbound database: chassis and encapsulations."""
    for node in cluster.population.nodes:
        local = node is own
        encap = {
            "chassis_name": node.chassis,
            "ip": node.hosts[0],
            "options": {"csum": "true"},
            "type": "geneve",
        }
        yield Row.of("Encap", node.name, encap)
        config = {"is-remote": "true"} if not local else _CHASSIS_CONFIG | {"is-remote": "false"}
        columns = {"name": node.chassis, "hostname": node.name, "other_config": config}
        yield Row.of("Chassis", node.name, columns, encaps=[("Encap", node.name)])
        if local:
            private = {
                "name": node.chassis,
                "nb_cfg": 1,
                "nb_cfg_timestamp": _MOMENT_S * 1000,
            }
            yield Row.of("Chassis_Private", node.name, private, chassis=[("Chassis", node.name)])


def bindings(cluster: Cluster, own: Node) -> Iterator[Mapping[str, Any]]:
    """Yield the operations by which ovn-controller binds the ports of a zone to chassis."""
    local = ["uuid", uuid_of(own.name, "Chassis", own.name)]
    for kind in ("", "l3gateway", "chassisredirect"):
        yield {
            "op": "update",
            "table": "Port_Binding",
            "where": [["type", "==", kind]],
            "row": {"chassis": local, "up": True},
        }
    for node in cluster.population.nodes:
        there = ["uuid", uuid_of(own.name, "Chassis", node.name)]
        for column, value in (("logical_port", f"tstor-{node.name}"), ("requested_chassis", there)):
            if node is not own:
                yield {
                    "op": "update",
                    "table": "Port_Binding",
                    "where": [[column, "==", value], ["type", "==", "remote"]],
                    "row": {"chassis": there},
                }
