"""Random packets through a zone's logical flows twice: by `audit.flows` and by `ovn-trace`.

What is drawn is made of the zone itself: its ports, MACs and addresses, those that its flows name,
and some that nobody has. Most packets are such as the cluster has (pods, nodes, services, outside;
requests and replies), some are not: a stranger's MAC, another network's address, any port.
"""

import ipaddress
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from audit.flows import southbound
from audit.flows.batch import Packet
from audit.flows.evaluate import Evaluator
from audit.flows.log import Answers, Kind
from audit.flows.southbound import Port, Southbound
from audit.model.packets import ConntrackState
from audit.replay.databases import serve
from audit.replay.tables import Tables
from audit.replay.toolchain import Toolchain
from audit.trace import tree
from audit.trace.daemon import TraceDaemon
from audit.trace.local import Copies
from audit.trace.unixctl import RefusedError

_MAC = re.compile(r"(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:])")
_IP4 = re.compile(r"(?<![\w.:])\d+(?:\.\d+){3}(?![\w.])")
_IP6 = re.compile(
    r"(?<![\w:])(?:[0-9a-f]{1,4}:){1,7}(?::|[0-9a-f]{1,4})(?::?[0-9a-f]{1,4})*(?![\w:])"
)
_L4 = re.compile(r"\b(tcp|udp|sctp)\.(?:src|dst) == (\d+)")
_VIP = re.compile(r"(\[?[0-9a-f.:]+\]?):(\d+)")
_PROTOCOLS = ("tcp", "tcp", "udp", "sctp", "icmp", "icmp6")
_OUTSIDE = {4: ("8.8.8.8", "198.51.100.7"), 6: ("2001:db8::7", "2606:4700::1111")}

Token = tuple[str, str]
"""A line of a trace: `flow` and the beginning of its uuid, `output` and a port, `missed`…"""


@dataclass(slots=True)
class World:
    """What packets of a zone are made of."""

    zone: Southbound
    own: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """Each port's MAC and addresses."""
    macs: list[str] = field(default_factory=list)
    addresses: dict[int, list[str]] = field(default_factory=dict)
    vips: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, tables: Tables) -> "World":
        """Read what there is."""
        zone = southbound.read(tables)
        world = cls(zone)
        for row in tables.rows("Port_Binding", ("logical_port", "mac")):
            words = " ".join(_many(row["mac"])).split()
            if words and _MAC.fullmatch(words[0]):
                addresses = tuple(word.split("/")[0] for word in words[1:])
                world.own[row["logical_port"]] = words[0], addresses
        texts = "\n".join(f"{flow.match} {flow.actions}" for flow in zone.flows)
        world.macs = sorted(set(_MAC.findall(texts)) | {mac for mac, _ in world.own.values()})
        sets = [
            address
            for row in tables.rows("Address_Set", ("addresses",))
            for address in _many(row["addresses"])
        ]
        listed = {*_IP4.findall(texts), *_IP6.findall(texts), *(s.split("/")[0] for s in sets)}
        read = sorted(filter(None, map(_address, listed)), key=str)
        owned = [a for _, addresses in world.own.values() for a in addresses]
        for version in (4, 6):
            found = [str(a) for a in read if a.version == version]
            world.addresses[version] = (
                found
                + 2 * [a for a in owned if ipaddress.ip_address(a).version == version]
                + list(_OUTSIDE[version])
            )
        vips = [v for row in tables.rows("Load_Balancer", ("vips",)) for v in row["vips"]]
        for vip in sorted(vips):
            if whole := _VIP.fullmatch(vip):
                address = whole[1].strip("[]")
                pair = address, int(whole[2])
                world.vips.setdefault(ipaddress.ip_address(address).version, []).append(pair)
        numbers = {int(number) for _, number in _L4.findall(texts)}
        world.ports = sorted(numbers | {80, 443, 53, 8080, 9})
        return world

    def draw(self, rng: random.Random) -> Packet:
        """Draw a packet."""
        port = self._a_port(rng)
        mac, addresses = self.own.get(port.name, ("", ()))
        wild = rng.random() < 0.2
        version = self._a_version(rng, addresses)
        source = [a for a in addresses if ipaddress.ip_address(a).version == version]
        if not source or (wild and rng.random() < 0.5):
            source = self.addresses[version]
        protocol = rng.choice(_PROTOCOLS)
        if protocol.startswith("icmp"):
            protocol = "icmp" if version == 4 else "icmp6"
        to, number = self._a_destination(rng, version)
        numbers = [rng.choice((52888, 40000, rng.randrange(1, 65536))), number]
        if rng.random() < 0.3:
            numbers.reverse()
        echo = protocol.startswith("icmp")
        return Packet(
            inport=port.name,
            eth_src=mac if mac and not wild else rng.choice(self.macs),
            eth_dst=self._next_hop(rng, port, to),
            ip_src=rng.choice(source),
            ip_dst=to,
            protocol=protocol,
            src_port=0 if echo else numbers[0],
            dst_port=0 if echo else numbers[1],
            ttl=64 if rng.random() < 0.95 else rng.choice((1, 2, 63, 255)),
        )

    def _a_port(self, rng: random.Random) -> Port:
        """Draw a port: mostly a pod's or a node's."""
        kinds = {"": 12, "localnet": 2, "remote": 2, "patch": 1, "l3gateway": 1}
        ports = [port for port in self.zone.by_number if port.kind in kinds]
        weights = [kinds[port.kind] for port in ports]
        return rng.choices(ports, weights)[0]

    def _a_version(self, rng: random.Random, addresses: Sequence[str]) -> int:
        versions = [ipaddress.ip_address(a).version for a in addresses]
        usable = [v for v in versions or (4, 6) if self.addresses.get(v)]
        return rng.choice(usable or [4])

    def _a_destination(self, rng: random.Random, version: int) -> tuple[str, int]:
        if version in self.vips and rng.random() < 0.3:
            address, port = rng.choice(self.vips[version])
            return address, port if rng.random() < 0.9 else rng.choice(self.ports)
        port = rng.choice(self.ports) if rng.random() < 0.9 else rng.randrange(1, 65536)
        return rng.choice(self.addresses[version]), port

    def _next_hop(self, rng: random.Random, port: Port, to: str) -> str:
        """Draw a MAC: of the address's port there, of a router's port there, or any."""
        if rng.random() < 0.05:
            return rng.choice(self.macs)
        here = self.zone.datapaths[port.datapath].ports.values()
        for other in here:
            mac, addresses = self.own.get(other.name, ("", ()))
            if mac and to in addresses and rng.random() < 0.9:
                return mac
        routers = [
            self.own[other.peer.name][0]
            for other in here
            if other.peer is not None and other.peer.name in self.own
        ]
        if port.name in self.own and port.peer is not None:
            return self.own[port.name][0]  # into a router by its own port
        return rng.choice(routers or self.macs)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _many(value: object) -> Iterable[str]:
    return value if isinstance(value, (list, tuple)) else (str(value),)


_OUTPUT = re.compile(r'/\* output to "(?P<port>.*)", type "[^"]*" \*/')


def tokens(text: str) -> list[Token]:
    """Return what a trace says, in its order. TraceSyntaxError where it is no trace."""
    return list(_tokens(tree.parse(text)))


def _tokens(block: tree.Block) -> Iterator[Token]:
    for step in block.steps:
        match step:
            case tree.Table(uuid=uuid):
                yield ("flow", uuid) if uuid else ("missed", "")
            case tree.Fork(block=inner):
                yield from _tokens(inner)
            case tree.Action(text=text) if output := _OUTPUT.fullmatch(text):
                yield "output", output["port"]
            case tree.Action(text=text) if text.startswith("/* omitting output"):
                yield "turned", ""
            case tree.Action(text=text) if text.startswith("*** output to"):
                yield "nowhere", ""
            case _:
                pass


class Expected:
    """Whether a trace is one of those that an evaluator foresaw."""

    def __init__(self, evaluator: Evaluator, answers: Answers) -> None:
        self._answers = answers
        self._silent = evaluator.silent
        self._flows = evaluator.southbound.flows
        self._ports = evaluator.southbound.by_number

    def allows(self, packet: int, trace: Sequence[Token]) -> bool:
        """Say whether a packet's trace may be this."""
        return len(trace) in self._after(packet, trace, frozenset({0}))

    def _after(self, branch: int, trace: Sequence[Token], at: frozenset[int]) -> frozenset[int]:
        """Return where a trace may be once a branch has met all that it meets."""
        chosen: set[int] = set()
        choices = False
        for event in self._answers.events(branch):
            match event.kind:
                case Kind.FLOW:
                    at = self._met(self._answers.log.met[event.number], trace, at)
                case Kind.COPY:
                    at = self._after(event.number, trace, at)
                case Kind.CHOICE:
                    choices = True
                    chosen |= self._after(event.number, trace, at)
                case Kind.REFUSED:
                    return frozenset()
                case _:
                    name = self._ports[event.number].name if event.kind is Kind.OUTPUT else ""
                    token = event.kind.name.lower(), name
                    at = frozenset(i + 1 for i in at if trace[i : i + 1] == [token])
        return frozenset(chosen) if choices else at

    def _met(
        self, flows: Sequence[int], trace: Sequence[Token], at: frozenset[int]
    ) -> frozenset[int]:
        shown = {self._flows[number].uuid[:8] for number in flows if number not in self._silent}
        after = {
            i + 1 for i in at if i < len(trace) and trace[i][0] == "flow" and trace[i][1] in shown
        }
        return frozenset(after if len(shown) == len(flows) else after | at)

    def shown(self, packet: int) -> Iterator[str]:
        """Yield what was foreseen, for whoever looks at a difference."""
        for event in self._answers.everything(packet):
            if event.kind is Kind.FLOW:
                met = self._answers.log.met[event.number]
                if self._silent.isdisjoint(met):
                    flow = self._flows[met[0]]
                    yield (
                        f"{flow.uuid[:8]} {flow.stage} {flow.priority} {flow.match} "
                        f"{{{flow.actions}}} ({len(met)})"
                    )
            elif event.kind is Kind.OUTPUT:
                yield f"output {self._ports[event.number].name}"
            else:
                yield f"{event.kind.name} {event.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A packet, what was foreseen of it, and its trace."""

    packet: Packet
    state: ConntrackState
    refused: str
    equal: bool
    trace: str
    foreseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """A zone's database as `ovn-trace` reads it."""

    programs: Toolchain
    database: Path

    def compare(
        self, evaluator: Evaluator, packets: Sequence[Packet], state: ConntrackState
    ) -> Iterator[Compared]:
        """Trace packets and compare."""
        answers = evaluator.run(packets, state)
        expected = Expected(evaluator, answers)
        copies = Copies(
            programs=self.programs, serve=_Served(self.programs), databases={"z": self.database}
        )
        with copies.open("z") as launch:
            daemon = TraceDaemon(launch, state=state)
            try:
                for index, packet in enumerate(packets):
                    refused = answers.refused(index)
                    text = "" if refused else _traced(daemon, packet)
                    equal = not refused and _parsed(expected, index, text)
                    yield Compared(
                        packet=packet,
                        state=state,
                        refused=refused,
                        equal=equal,
                        trace=text,
                        foreseen=() if equal else tuple(expected.shown(index)),
                    )
            finally:
                daemon.stop()


def _parsed(expected: Expected, index: int, text: str) -> bool:
    try:
        return expected.allows(index, tokens(text))
    except tree.TraceSyntaxError:
        return False


def _traced(daemon: TraceDaemon, packet: Packet) -> str:
    try:
        return daemon.trace(packet.expression)
    except RefusedError as error:
        return str(error)


@dataclass(frozen=True, slots=True)
class _Served:
    programs: Toolchain

    def __call__(self, database: Path, rundir: Path) -> AbstractContextManager[Path]:
        return serve(self.programs, database, rundir)


def read(database: Path) -> Tables:
    """Return a southbound database's tables."""
    return Tables.of(database, "OVN_Southbound")
