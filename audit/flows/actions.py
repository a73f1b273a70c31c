"""Logical flows' actions, parsed: what each does to a packet, as `ovn-trace` does it. Pure.

The language is in ovn-sb(5) under Logical_Flow, `actions`, and in OVN's lib/actions.c; releases
23.03 to 26.03. What an action does not change of what a packet meets is `Nothing`: it commits to
conntrack, learns, logs, samples, or is what `ovn-trace` passes over. What is not known is
`Unknown`, and a packet that comes to it is refused. An action may ask for what a packet must be
(`ct_next` for IP): a flow's match is joined with that.
"""

import functools
import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from audit.flows.constants import constant
from audit.flows.expressions import TRUE, Expression, every, parse
from audit.flows.fields import FIELDS, KEPT, Slice
from audit.flows.symbols import SYMBOLS
from audit.flows.syntax import BLANK, CONSTANTS, MatchError, Token, tokens


@dataclass(frozen=True, slots=True)
class Nothing:
    """What does not change what a packet meets."""

    name: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is not understood."""

    text: str


@dataclass(frozen=True, slots=True)
class Next:
    """Go on in a table, None the next one, of a pipeline, None the flow's own."""

    table: int | None = None
    pipeline: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Go to the egress pipeline, or from there out of the port."""


@dataclass(frozen=True, slots=True)
class Load:
    """Set a field to a number; `slot` is which of the flow's numbers, where they are apart."""

    to: Slice
    value: int
    slot: int = -1


@dataclass(frozen=True, slots=True)
class LoadPort:
    """Set `inport` or `outport`."""

    to: Slice
    name: str


@dataclass(frozen=True, slots=True)
class Move:
    """Copy a field to another; the two are exchanged with `both`."""

    to: Slice
    source: Slice
    both: bool = False


@dataclass(frozen=True, slots=True)
class Decrement:
    """Take one from `ip.ttl`."""


@dataclass(frozen=True, slots=True)
class Push:
    """Put a field on the stack; from there into one with `pop`."""

    of: Slice
    pop: bool = False


@dataclass(frozen=True, slots=True)
class Track:
    """Ask conntrack and go on in the next table; where `once`, only what was not asked yet.

    `fresh` forgets what conntrack had said.
    """

    fresh: bool
    once: bool


@dataclass(frozen=True, slots=True)
class Translate:
    """`ct_dnat` or `ct_snat`, to an address or back."""

    to_destination: bool
    address: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """What a load balancer may choose; port 0 leaves the packet's."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Balance:
    """`ct_lb_mark`: go on with one of the backends."""

    backends: tuple[Backend, ...] = ()


@dataclass(frozen=True, slots=True)
class Forget:
    """`ct_clear`."""


@dataclass(frozen=True, slots=True)
class Select:
    """Set a field to any of some numbers, and go on in the next table."""

    to: Slice
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nested:
    """Actions on a packet that is made of this one, as with `clone` or `arp`."""

    kind: str
    actions: "tuple[Action, ...]"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Send a copy to a port."""

    port: str


@dataclass(frozen=True, slots=True)
class GetMac:
    """Set `eth.dst` to a neighbour's, or to zeros."""

    port: Slice
    address: Slice


@dataclass(frozen=True, slots=True)
class LookUp:
    """Set a bit to whether a neighbour (with that MAC, if it is asked) is known."""

    to: Slice
    port: Slice
    address: Slice
    mac: Slice | None


@dataclass(frozen=True, slots=True)
class GetFdb:
    """Set a field to the port that a MAC was learnt at, or a bit to whether it is `port`."""

    to: Slice
    mac: Slice
    port: Slice | None = None


@dataclass(frozen=True, slots=True)
class PortSecurity:
    """Set a bit to whether port security stops the packet, at its `inport` or `outport`."""

    to: Slice
    ingress: bool


@dataclass(frozen=True, slots=True)
class Hairpin:
    """Set a bit to whether a load balancer sent the packet back to where it comes from."""

    to: Slice
    reply: bool


@dataclass(frozen=True, slots=True)
class SaveState:
    """Set a field to what conntrack said."""

    to: Slice


Action = (
    Nothing
    | Unknown
    | Next
    | Output
    | Load
    | LoadPort
    | Move
    | Decrement
    | Push
    | Track
    | Translate
    | Balance
    | Forget
    | Select
    | Nested
    | Mirror
    | GetMac
    | LookUp
    | GetFdb
    | PortSecurity
    | Hairpin
    | SaveState
)


@dataclass(frozen=True, slots=True)
class Actions:
    """What a flow does, and what a packet must be for it."""

    steps: tuple[Action, ...]
    needs: Expression = TRUE


_IGNORED = frozenset(
    {
        *("commit_ecmp_nh", "commit_lb_aff", "ct_snat_to_vip", "flood_remote", "fwd_group"),
        *("handle_bfd_msg", "handle_dhcpv6_reply", "handle_svc_check", "igmp", "log"),
        *("mac_cache_use", "put_arp", "put_fdb", "put_nd", "sample", "set_meter", "set_queue"),
        *("bind_vport", "trigger_event"),
    }
)
"""Actions that change nothing a packet meets, or that `ovn-trace` does not execute."""
_UNCHANGED = frozenset(
    {
        *("check_pkt_larger", "chk_ecmp_nh", "chk_ecmp_nh_mac", "chk_lb_aff", "ct_nw_dst"),
        *("ct_ip6_dst", "get_remote_fdb"),
    }
)
"""Functions whose field `ovn-trace` leaves as it is."""
_ANSWERED = {
    **dict.fromkeys(("put_dhcp_opts", "put_dhcpv6_opts", "put_nd_ra_opts"), 1),
    "dhcp_relay_req_chk": 1,
    "dns_lookup": 0,
    "chk_evpn_arp": 0,
}
"""Functions of ovn-controller's, and what `ovn-trace` takes their answer to be."""
_NESTED = {
    **dict.fromkeys(("clone", "reject"), ""),
    **dict.fromkeys(("arp", "nd_ns"), "ip"),
    **dict.fromkeys(("nd_na", "nd_na_router"), "nd_ns"),
    **dict.fromkeys(("icmp4", "icmp4_error"), "ip4"),
    **dict.fromkeys(("icmp6", "icmp6_error"), "ip6"),
    "tcp_reset": "tcp",
    "sctp_abort": "sctp",
}
"""Actions with actions in them, and what a packet must be for them."""
_NEEDED = {"dns_lookup": "udp", "put_nd_ra_opts": "ip6"}
_OF_CONTROLLER = frozenset({"icmp4.frag_mtu", "icmp6.frag_mtu", "icmp4.inner_ip4.src"})
"""Fields that only a packet ovn-controller makes has."""

_TOKEN = re.compile(
    rf"{BLANK} | (?P<operator> <-> | -- | && | \|\| | [=!<>]= | \.\. "
    rf"| [<>!(){{}},\[\]=;:^-] ) | {CONSTANTS}",
    re.VERBOSE | re.ASCII,
)


@functools.lru_cache(maxsize=1 << 17)
def read(text: str) -> Actions:
    """Return what a flow's actions do; what is not understood of them is `Unknown`."""
    try:
        return _Parser(text).whole()
    except (MatchError, ValueError, KeyError) as error:
        return Actions((Unknown(f"{text!r}: {error}"),))


def unknown(actions: tuple[Action, ...]) -> Iterator[str]:
    """Yield what is not understood of actions."""
    for action in actions:
        if isinstance(action, Unknown):
            yield action.text
        elif isinstance(action, Nested):
            yield from unknown(action.actions)


@dataclass(slots=True)
class _Parser:
    """Recursive descent over the tokens of one list of actions."""

    text: str
    _tokens: list[Token] = field(init=False)
    _next: int = 0
    _needs: list[Expression] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tokens = tokens(_TOKEN, self.text)

    def whole(self) -> Actions:
        steps = self._list("")
        return Actions(steps, every(self._needs))

    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)].text

    def _take(self, text: str | None = None) -> str:
        token = self._tokens[self._next]
        if token.kind == "end" or (text is not None and token.text != text):
            raise MatchError(f"expected {text or 'more'} at character {token.at + 1}")
        self._next += 1
        return token.text

    def _accept(self, text: str) -> bool:
        accepted = self._peek() == text
        self._next += accepted
        return accepted

    def _list(self, end: str) -> tuple[Action, ...]:
        """Read actions up to `end`, which is taken."""
        if self._peek() == "drop" and self._peek(1) == ";":
            self._next += 2
            steps: list[Action] = []
        else:
            steps = []
            while self._peek() != end:
                steps.append(self._action())
                if not self._accept(";") and not isinstance(steps[-1], Nested):
                    raise MatchError(f"expected ; after {steps[-1]}")
        if end:
            self._take(end)
        elif self._tokens[self._next].kind != "end":
            raise MatchError(f"{self._peek()!r} is too much")
        return tuple(steps)

    def _need(self, match: str) -> None:
        if match:
            self._needs.append(parse(match))

    def _action(self) -> Action:
        name = self._take()
        if self._peek() in ("=", "<->", "["):
            return self._assignment(name)
        if name in _NESTED:
            return self._nested(name)
        match name:
            case _ if name in _IGNORED:
                self._skip()
                return Nothing(name)
            case "next":
                return self._go_on()
            case "output":
                return Output()
            case "ip.ttl":
                self._take("--")
                self._need("ip")
                return Decrement()
            case "push" | "pop":
                self._take("(")
                of = self._field(self._take())
                self._take(")")
                return Push(of, pop=name == "pop")
            case _:
                return self._other(name)

    def _other(self, name: str) -> Action:
        if name in ("get_arp", "get_nd"):
            return GetMac(*self._fields(2))
        if name != "mirror":
            return self._conntrack(name)
        self._take("(")
        port = str(json.loads(self._take()))
        self._take(")")
        return Mirror(port)

    def _conntrack(self, name: str) -> Action:
        if name == "ct_clear":
            return Forget()
        self._need("ip")
        match name:
            case "ct_next":
                self._skip()
                return Track(fresh=True, once=False)
            case "ct_commit":
                self._skip()
                return Nothing(name)
            case "ct_commit_nat" | "ct_commit_to_zone":
                self._skip()
                return Track(fresh=False, once=True)
            case "ct_dnat" | "ct_snat" | "ct_dnat_in_czone" | "ct_snat_in_czone":
                return self._translation(to_destination="dnat" in name)
            case "ct_lb" | "ct_lb_mark" | "ct_lb_mark_local":
                return self._balance(local=name.endswith("local"))
            case _:
                raise MatchError(f"{name} is no action that is known")

    def _skip(self) -> None:
        """Step over what is in parentheses or braces, if that comes next."""
        pairs = {"(": ")", "{": "}"}
        if self._peek() not in pairs:
            return
        expected: list[str] = []
        while True:
            text = self._take()
            if text in pairs:
                expected.append(pairs[text])
            elif expected and text == expected[-1]:
                expected.pop()
            if not expected:
                return

    def _nested(self, name: str) -> Action:
        outer, self._needs = self._needs, []
        self._take("{")
        inner = self._list("}")
        # A clone's and a rejection's inner needs are the flow's; others are of another packet.
        self._needs = outer + (self._needs if not _NESTED[name] else [])
        self._need(_NESTED[name])
        return Nested(name, inner)

    def _go_on(self) -> Next:
        if not self._accept("("):
            return Next()
        if self._peek().isdigit():
            table = int(self._take())
            self._take(")")
            return Next(table)
        named: dict[str, str] = {}
        while not named or self._accept(","):
            key = self._take()
            self._take("=")
            named[key] = self._take()
        self._take(")")
        if not named.keys() <= {"pipeline", "table"}:
            raise MatchError(f"next takes a pipeline and a table, not {sorted(named)}")
        return Next(int(named["table"]) if "table" in named else None, named.get("pipeline"))

    def _translation(self, *, to_destination: bool) -> Translate:
        if not self._accept("("):
            return Translate(to_destination)
        address = str(ipaddress.ip_address(self._take()))
        while not self._accept(")"):
            self._take()
        return Translate(to_destination, address)

    def _balance(self, *, local: bool) -> Balance:
        if not self._accept("(") or self._accept(")"):
            return Balance()
        if self._peek() == "backends":
            self._next += 1
            self._take("=")
        backends: list[Backend] = []
        while self._peek() not in (";", ")"):
            if local:
                self._next += 2  # the port's name and a colon: all are local to ovn-trace
            backends.append(self._backend())
            self._accept(",")
        depth = 1
        while depth:
            depth += {"(": 1, ")": -1}.get(self._take(), 0)
        return Balance(tuple(backends))

    def _backend(self) -> Backend:
        """Read `10.0.0.1:80`, `[fd00::1]:80` or an address; a number may hold colons."""
        if self._accept("["):
            address = self._take()
            self._take("]")
            port = self._take() if self._accept(":") else "0"
        else:
            address, port = self._take(), "0"
            if address.count(":") == 1:
                address, _, port = address.partition(":")
            elif self._accept(":"):
                port = self._take()
        return Backend(str(ipaddress.ip_address(address)), int(port))

    def _bits(self, name: str) -> Slice:
        """Read `name` or `name[0..7]`, of which the name is taken."""
        bits = FIELDS[name]
        if not self._accept("["):
            return bits
        low = last = int(self._take())
        if self._accept(".."):
            last = int(self._take())
        self._take("]")
        return bits.part(low, last - low + 1)

    def _field(self, name: str) -> Slice:
        self._need(SYMBOLS[name].needs if not SYMBOLS[name].means else "")
        return self._bits(name)

    def _fields(self, count: int) -> list[Slice]:
        self._take("(")
        fields = [self._field(self._take())]
        while len(fields) < count:
            self._take(",")
            fields.append(self._field(self._take()))
        self._take(")")
        return fields

    def _assignment(self, name: str) -> Action:
        if name in _OF_CONTROLLER:
            while self._peek() != ";":
                self._take()
            return Nothing(name)
        to = self._field(name)
        if self._accept("<->"):
            return Move(to, self._field(self._take()), both=True)
        self._take("=")
        token = self._tokens[self._next]
        value = self._take()
        if token.kind == "name":
            return self._function(to, value) if self._peek() == "(" else self._move(to, value)
        if token.kind == "string":
            return LoadPort(to, str(json.loads(value)))
        number = constant(value)
        if number is None or number[1] is not None or number[2] > to.width:
            raise MatchError(f"{value} is no number of {to.width} bits")
        return Load(to, number[0])

    def _move(self, to: Slice, name: str) -> Move:
        source = self._field(name)
        if source.width != to.width:
            raise MatchError(f"{to.width} bits are assigned {source.width}")
        return Move(to, source)

    def _function(self, to: Slice, name: str) -> Action:
        self._need(_NEEDED.get(name, ""))
        match name:
            case "select":
                return self._select(to)
            case "lookup_arp" | "lookup_nd":
                port, address, mac = self._fields(3)
                return LookUp(to, port, address, mac)
            case "lookup_arp_ip" | "lookup_nd_ip":
                port, address = self._fields(2)
                return LookUp(to, port, address, None)
            case "get_fdb":
                return GetFdb(to, *self._fields(1))
            case "lookup_fdb":
                port, mac = self._fields(2)
                return GetFdb(to, mac, port)
            case _:
                self._skip()
                return _answered(to, name)

    def _select(self, to: Slice) -> Select:
        self._take("(")
        named = self._accept("values")
        if named:
            self._take("=")
            self._take("(")
        numbers: list[int] = []
        while not self._accept(")"):
            numbers.append(int(self._take()))
            if self._accept("="):
                self._take()
            self._accept(",")
        while named and not self._accept(")"):
            self._take()
        return Select(to, tuple(numbers))


def _answered(to: Slice, name: str) -> Action:
    """Return what a function does that looks at no field it is given."""
    if name in _UNCHANGED:
        return Nothing(name)
    if name in _ANSWERED:
        return Load(to, _ANSWERED[name])
    match name:
        case "check_in_port_sec" | "check_out_port_sec":
            return PortSecurity(to, ingress="_in_" in name)
        case "chk_lb_hairpin" | "chk_lb_hairpin_reply":
            return Hairpin(to, reply=name.endswith("reply"))
        case "ct_tp_dst":
            return Move(to, KEPT["l4.dst"])
        case "ct_proto":
            return Move(to, KEPT["ip.proto"])
        case "ct_state_save":
            return SaveState(to)
        case _:
            raise MatchError(f"{name} is no function that is known")
