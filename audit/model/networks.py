"""Networks: the default one, which every pod is on, and user-defined ones beside it."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT = "default"
"""What the default network is called where it has to be named (`k8s.ovn.org/network`)."""

LOCALNET = "localnet"
"""The topology of a network that is joined to a physical one."""

STRETCHED = frozenset({"layer2", LOCALNET})
"""Topologies with one switch for all nodes, a part of it in each zone (`k8s.ovn.org/topology`)."""


class Role(StrEnum):
    """What a network is to a pod, as OVN-Kubernetes' annotation spells it.

    A pod has one primary network, which its traffic takes. Where that is a user-defined one, the
    pod's port on the default network is `infrastructure-locked`: for its node and for opened ports.
    """

    PRIMARY = "primary"
    LOCKED = "infrastructure-locked"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A user-defined network, as the rows of its switches and routers describe it.

    `topology` is `layer3`, `layer2` or `localnet`; empty where no row says it.
    """

    name: str
    topology: str = ""
    role: Role = Role.SECONDARY
