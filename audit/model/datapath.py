"""What a node's Open vSwitch is made of: what a replay needs, and what its OpenFlow refers to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """A logical port bound to an interface of a chassis (`Port_Binding` of empty type).

    `version` is `options:iface-id-ver`, which the interface must repeat (ovn-controller(8)).
    """

    port: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chassis:
    """A row of the southbound `Chassis` that its own zone's database describes.

    `node` is its host name, `address` the tunnel endpoint it gave itself. `bridges` are its
    physical networks and the bridge each is on (`ovn-bridge-mappings`); `interconnect` says that
    other zones' chassis are reached by tunnels too (`is-interconn`).
    """

    name: str
    node: str
    zone: str
    address: str
    vifs: tuple[Vif, ...] = ()
    bridges: tuple[tuple[str, str], ...] = ()
    interconnect: bool = False


NOWHERE = Path("/nonexistent")
"""Where the sockets of a switch are that is asked on another machine."""


class Ofport(NamedTuple):
    """An interface of `br-int`: its name and OpenFlow port number."""

    name: str
    number: int


class Wire(NamedTuple):
    """The interface of a replay that stands for a physical network.

    Its name, and the file to which what leaves by it is written.
    """

    name: str
    capture: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A node's running Open vSwitch: where to ask it, and what its ports stand for.

    `vswitchd`, `controller` and `database` are the Unix sockets of ovs-vswitchd's and
    ovn-controller's unixctl and of the switch's OVSDB, if they are here. `vifs` maps logical ports
    to interfaces, `localnets` the logical ports of physical networks to their patch ports, and
    `tunnels` the chassis by name to the tunnel towards each. `encaps` says where each tunnel
    leads (its `remote_ip`). A replay also has `captures`, the files to which what leaves by each
    interface is written, by logical port, and `wires`, where a physical network's logical port
    leads, which may be one for several.
    """

    chassis: Chassis
    vswitchd: Path = NOWHERE
    controller: Path = NOWHERE
    database: Path = NOWHERE
    vifs: Mapping[str, Ofport] = field(default_factory=lambda: MappingProxyType({}))
    localnets: Mapping[str, Ofport] = field(default_factory=lambda: MappingProxyType({}))
    tunnels: Mapping[str, Ofport] = field(default_factory=lambda: MappingProxyType({}))
    encaps: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    captures: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    wires: Mapping[str, Wire] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def node(self) -> str:
        """The node it is on."""
        return self.chassis.node


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipelines:
    """What numbers in the OpenFlow of a zone's chassis stand for.

    `stages` maps a cookie to the stage of the logical flow it is made of: to several where 32 bits
    of a uuid were not enough. `datapaths` maps `metadata`, a datapath's tunnel key, to its name.
    """

    stages: Mapping[int, tuple[str, ...]]
    datapaths: Mapping[int, str]
