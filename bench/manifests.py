"""A generated cluster as the Lists `kubectl get RESOURCE -A -o json` prints."""

import json
from collections.abc import Iterable, Iterator

from bench import addresses
from bench.balancers import API_SERVER
from bench.cluster import Cluster, Node, Object, Pod, Service
from bench.networks import Network, Networks, annotation

_TIME = "2026-01-01T00:00:00Z"


def lists(cluster: Cluster, networks: Networks) -> Iterator[tuple[str, Object]]:
    """Yield each resource with its List."""
    population, policies = cluster.population, cluster.policies
    families = cluster.size.families
    mirrored = [
        service
        for network in networks.of.values()
        for service in networks.seen_by(network).population.services
    ]
    resources: dict[str, Iterable[Object]] = {
        "namespaces": (_namespace(*item) for item in population.namespaces.items()),
        "nodes": (_node(node, networks) for node in population.nodes),
        "pods": (_pod(pod, families, annotation(networks, pod)) for pod in population.pods),
        "services": (_api(), *(_service(service, families) for service in population.services)),
        "endpointslices": (
            _api_slice(population.nodes[0]),
            *(
                _slice(service, family)
                for service in population.services
                for family in range(families)
            ),
            *map(_mirror, mirrored),
        ),
        "networkpolicies": policies.network,
        "adminnetworkpolicies": policies.admin,
        "baselineadminnetworkpolicies": policies.baseline,
        "egressfirewalls": policies.firewalls,
        "userdefinednetworks": map(_user_defined, networks.of.values()),
        "network-attachment-definitions": map(_definition, networks.of.values()),
    }
    for name, items in resources.items():
        metadata = {"resourceVersion": ""}
        yield (
            name,
            {"apiVersion": "v1", "items": list(items), "kind": "List", "metadata": metadata},
        )


def _metadata(kind: str, name: str, namespace: str = "", **more: object) -> Object:
    found: Object = {"creationTimestamp": _TIME, "name": name}
    if namespace:
        found["namespace"] = namespace
    return found | {"uid": addresses.uuid_of(kind, namespace, name)} | more


def _namespace(name: str, labels: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": _metadata("namespace", name, labels=labels),
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _both(values: Iterable[str]) -> dict[str, str]:
    return dict(zip(("ipv4", "ipv6"), values, strict=False))


def _node(node: Node, networks: Networks) -> Object:
    """Return a Node with the annotations OVN-Kubernetes writes."""
    hosts = addresses.with_prefix(addresses.HOSTS, node.number, node.families)
    gateway = {
        "mode": "shared",
        "bridge-id": "breth0",
        "interface-id": f"breth0_{node.name}",
        "mac-address": node.mac,
        "ip-addresses": list(hosts),
        "next-hops": list(addresses.each(addresses.HOSTS, 1, node.families)),
        "node-port-enable": "true",
        "vlan-id": "0",
    }
    transit = addresses.with_prefix(addresses.TRANSIT, node.number, node.families)
    annotations: dict[str, object] = {
        **({"k8s.ovn.org/layer2-topology-version": "2.0"} if networks.of else {}),
        "k8s.ovn.org/host-cidrs": list(hosts),
        "k8s.ovn.org/l3-gateway-config": {"default": gateway},
        "k8s.ovn.org/node-chassis-id": node.chassis,
        "k8s.ovn.org/node-encap-ips": [node.hosts[0]],
        "k8s.ovn.org/node-id": str(node.number),
        "k8s.ovn.org/node-mgmt-port-mac-addresses": {"default": node.management_mac},
        "k8s.ovn.org/node-primary-ifaddr": _both(hosts),
        "k8s.ovn.org/node-subnets": {
            "default": [str(network) for network in node.networks],
            **{n.name: [str(n.part(node))] for n in networks.of.values() if not n.layer2},
        },
        "k8s.ovn.org/node-transit-switch-port-ifaddr": _both(transit),
        "k8s.ovn.org/remote-zone-migrated": node.name,
        "k8s.ovn.org/zone-name": node.name,
    }
    labels = {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"}
    listed = [{"address": host, "type": "InternalIP"} for host in node.hosts]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _metadata("node", node.name, annotations=_texts(annotations), labels=labels),
        "spec": {},
        "status": {"addresses": [*listed, {"address": node.name, "type": "Hostname"}]},
    }


def _texts(annotations: dict[str, object]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in annotations.items()
    }


def _pod(pod: Pod, families: int, more_networks: Object) -> Object:
    workload = pod.workload
    more: Object = {"labels": dict(pod.labels), "ownerReferences": [_owner(pod)]}
    if not workload.host_network:
        networks = {"default": _network(pod, families)}
        if more_networks:
            del networks["default"]["gateway_ips"]
            networks = {"default": networks["default"] | {"role": "infrastructure-locked"}}
        networks |= more_networks
        more["annotations"] = {"k8s.ovn.org/pod-networks": json.dumps(networks)}
    container: Object = {"image": "registry.local/app:1", "name": "app", "resources": {}}
    if workload.ports:
        container["ports"] = [
            {"containerPort": port.number, "name": port.name, "protocol": port.protocol}
            for port in workload.ports
        ]
    spec: Object = {"containers": [container], "nodeName": pod.node.name}
    if workload.host_network:
        spec["hostNetwork"] = True
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata("pod", pod.name, pod.namespace, **more),
        "spec": spec,
        "status": {
            "hostIP": pod.node.hosts[0],
            "phase": pod.phase,
            "podIP": pod.addresses[0],
            "podIPs": [{"ip": address} for address in pod.addresses],
        },
    }


def _owner(pod: Pod) -> Object:
    """Return what controls a pod: of a Deployment its ReplicaSet."""
    kind, name = pod.workload.kind, pod.workload.name
    if kind == "Deployment":
        kind, name = "ReplicaSet", f"{name}-{pod.labels['pod-template-hash']}"
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": kind,
        "name": name,
        "uid": addresses.uuid_of(kind, pod.namespace, name),
    }


def _network(pod: Pod, families: int) -> Object:
    """Return the pod's entry in the annotation OVN-Kubernetes writes."""
    routes, own = list[Object](), list[str]()
    for family, network in enumerate(pod.node.networks):
        gateway = addresses.at(network, 1)
        own.append(f"{pod.addresses[family]}/{network.prefixlen}")
        plans = (addresses.CLUSTER, addresses.SERVICES, addresses.JOIN)
        routes += [{"dest": str(plan[family]), "nextHop": gateway} for plan in plans]
    found: Object = {
        "ip_addresses": own,
        "mac_address": addresses.mac_of(pod.addresses[0]),
        "gateway_ips": [addresses.at(network, 1) for network in pod.node.networks],
        "routes": routes,
    }
    if families == 1:
        found |= {"ip_address": own[0], "gateway_ip": found["gateway_ips"][0]}
    return found | {"role": "primary"}


def _service(service: Service, families: int) -> Object:
    ports: list[Object] = []
    for number, port in service.ports:
        entry: Object = {
            "name": port.name,
            "port": number,
            "protocol": port.protocol,
            "targetPort": port.number,
        }
        if service.node_port and not ports:
            entry["nodePort"] = service.node_port
        ports.append(entry)
    ips = list(service.ips(families))
    namespace = service.workload.namespace
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata("service", service.name, namespace, labels=_app(service)),
        "spec": {
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4", "IPv6"][:families],
            "ports": ports,
            "selector": _app(service),
            "sessionAffinity": "None",
            "type": "NodePort" if service.node_port else "ClusterIP",
        },
    }


def _app(service: Service) -> dict[str, str]:
    """Return the labels a service selects its workload by."""
    return {"app": service.workload.labels["app"]}


def _slice(service: Service, family: int) -> Object:
    namespace = service.workload.namespace
    kind = ("IPv4", "IPv6")[family]
    labels = {"kubernetes.io/service-name": service.name}
    endpoints = [
        {
            "addresses": [pod.addresses[family]],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": pod.node.name,
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": namespace, "uid": pod.uid},
        }
        for pod in service.backends
    ]
    ports = [
        {"name": port.name, "port": port.number, "protocol": port.protocol}
        for _, port in service.ports
    ]
    name = f"{service.name}-{kind.lower()}"
    return {
        "addressType": kind,
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": endpoints,
        "kind": "EndpointSlice",
        "metadata": _metadata("endpointslice", name, namespace, labels=labels),
        "ports": ports,
    }


def _mirror(service: Service) -> Object:
    """Return the EndpointSlice that OVN-Kubernetes makes of one, with addresses of a network."""
    found = _slice(service, 0)
    name = f"{service.name}-udn"
    labels = {
        "endpointslice.kubernetes.io/managed-by": "endpointslice-mirror-controller.k8s.ovn.org",
        "k8s.ovn.org/service-name": service.name,
    }
    namespace = service.workload.namespace
    return found | {"metadata": _metadata("endpointslice", name, namespace, labels=labels)}


def _user_defined(network: Network) -> Object:
    subnet = str(network.subnet)
    spec: Object = {"topology": network.topology.capitalize()}
    if network.layer2:
        spec["layer2"] = {"role": "Primary", "subnets": [subnet]}
    else:
        spec["layer3"] = {"role": "Primary", "subnets": [{"cidr": subnet, "hostSubnet": 24}]}
    return {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "UserDefinedNetwork",
        "metadata": _metadata("userdefinednetwork", "net", network.namespace),
        "spec": spec,
    }


def _definition(network: Network) -> Object:
    config = {
        "cniVersion": "1.1.0",
        "name": network.name,
        "netAttachDefName": network.definition,
        "role": "primary",
        "subnets": str(network.subnet) + ("" if network.layer2 else "/24"),
        "topology": network.topology,
        "type": "ovn-k8s-cni-overlay",
    }
    annotations = {
        "k8s.ovn.org/network-id": str(network.number),
        "k8s.ovn.org/network-name": network.name,
    }
    metadata = _metadata("nad", "net", network.namespace, annotations=annotations)
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
        "spec": {"config": json.dumps(config)},
    }


def _api() -> Object:
    """Return the service of the API server itself."""
    ip, number, target = API_SERVER
    port = {"name": "https", "port": number, "protocol": "TCP", "targetPort": target}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata("service", "kubernetes", "default"),
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [port], "type": "ClusterIP"},
    }


def _api_slice(node: Node) -> Object:
    endpoint = {"addresses": [node.hosts[0]], "conditions": {"ready": True}}
    labels = {"kubernetes.io/service-name": "kubernetes"}
    return {
        "addressType": "IPv4",
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": [endpoint],
        "kind": "EndpointSlice",
        "metadata": _metadata("endpointslice", "kubernetes", "default", labels=labels),
        "ports": [{"name": "https", "port": API_SERVER[2], "protocol": "TCP"}],
    }
