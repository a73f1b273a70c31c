"""What OVN-Kubernetes' own ACLs are for, in words.

An ACL that no policy owns has an id such as `default-network-controller:NetpolNode:worker:fd01::2`.
Its second part is the owner type, its third what it is about; what follows may hold the separator
too (IPv6 addresses), and is not read.
"""

_OWN = "OVN-Kubernetes' own ACL"
_PURPOSES = {
    "NetpolNode": "that lets a node reach its own pods",
    "NetpolDefault": "that lets a pod reach itself by a Service",
    "MulticastCluster": "for multicast in the whole cluster",
    "MulticastNS": "for multicast in namespace {about}",
    "AdvertisedNetwork": "that keeps advertised networks apart",
    "ClusterNetworkConnect": "between connected networks",
    "NetpolNamespace": "that isolates pods of namespace {about}",
}
"""Of each owner type (OVN-Kubernetes, db_object_types.go)."""
_DEFAULT_DENY = ("_ingressDefaultDeny", "_egressDefaultDeny")
_LEAST_PARTS = 2


_OPEN_PORT = "OpenPort-"


def isolation(networks: str) -> str:
    """Return what keeps user-defined networks from the default one, the same on every plane."""
    return f"isolation of {networks} from the default network"


def _of_isolation(about: str) -> str:
    """Return what one of the ACLs at locked ports is for (OVN-Kubernetes, udn_isolation.go)."""
    if about.startswith("Allow"):
        return f"{_OWN} that lets a node reach its own pods of user-defined networks"
    if about.startswith(_OPEN_PORT):
        pod = about.removeprefix(_OPEN_PORT)
        return f"{_OWN} for the ports that pod {pod} opens on the default network"
    return isolation("user-defined networks")


def words(owner: str) -> str:
    """Return what an ACL of OVN-Kubernetes is for; what is no id of one is returned as it is."""
    if owner.endswith(_DEFAULT_DENY):  # as those of before April 2023 are named
        return f"{_OWN} that isolates pods of namespace {owner.partition('_')[0]}"
    parts = owner.split(":")
    if len(parts) < _LEAST_PARTS:
        return owner
    about = parts[2] if len(parts) > _LEAST_PARTS else ""
    if parts[1] == "UDNIsolation":
        return _of_isolation(about)
    purpose = _PURPOSES.get(parts[1])
    if purpose is None:
        return f"{_OWN} of type {parts[1]}"
    return f"{_OWN} {purpose.format(about=about)}"
