"""The datapath's actions, as `ofproto/trace` prints them → what leaves, in which shape. Pure.

The tree says which OpenFlow ports a packet is output to; only these actions say what is in its
headers then (odp-util.c, format_odp_actions).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_SETS = re.compile(r"(eth|ipv4|ipv6|tcp|udp|sctp)\((.*)\)")
_FIELDS = {
    ("eth", "src"): "dl_src",
    ("eth", "dst"): "dl_dst",
    ("ipv4", "src"): "nw_src",
    ("ipv4", "dst"): "nw_dst",
    ("ipv4", "ttl"): "nw_ttl",
    ("ipv6", "src"): "ipv6_src",
    ("ipv6", "dst"): "ipv6_dst",
    ("ipv6", "hlimit"): "nw_ttl",
}
_PORTS = {"src": "tp_src", "dst": "tp_dst"}
_KEY = re.compile(r"tun_id=(0x[0-9a-f]+)")
_REMOTE = re.compile(r"(?:^|,)(?:ipv6_)?dst=([0-9a-fA-F.:]+)")
_OPTION = re.compile(r"geneve\(\{class=0x102,type=0x80,len=4,(0x[0-9a-f]+)\}")
"""OVN's Geneve option: the logical ports (ovn-architecture(7), "Tunnel Encapsulations")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encapsulated:
    """A packet that leaves by a tunnel: the header, and its own fields by OpenFlow name."""

    remote: str
    key: int
    metadata: int
    fields: Mapping[str, str]


@dataclass(slots=True)
class _State:
    """A packet's headers as the actions so far left them."""

    fields: dict[str, str]
    tunnel: str = ""
    leaving: list[Encapsulated] = field(default_factory=list)


def encapsulated(actions: str, packet: Mapping[str, str]) -> tuple[Encapsulated, ...]:
    """Return what leaves by tunnels when `packet` is treated so, in order."""
    state = _State(dict(packet))
    _run(actions, state)
    return tuple(state.leaving)


def _run(actions: str, state: _State) -> None:
    for action in split(actions):
        name, _, rest = action.partition("(")
        inside = rest.removesuffix(")")
        if name == "set":
            _set(inside, state)
        elif name == "clone":
            _run(inside, _State(dict(state.fields), state.tunnel, state.leaving))
        elif name == "check_pkt_len":
            # Of its two branches the second is for packets that fit; ours is a small one.
            fits = next((part for part in split(inside) if part.startswith("le(")), "")
            _run(fits[3:-1], _State(dict(state.fields), state.tunnel, state.leaving))
        elif name.isdigit() and state.tunnel:
            state.leaving.append(_encapsulated(state))


def _encapsulated(state: _State) -> Encapsulated:
    remote, key = _REMOTE.search(state.tunnel), _KEY.search(state.tunnel)
    option = _OPTION.search(state.tunnel)
    return Encapsulated(
        remote=remote[1] if remote else "",
        key=int(key[1], 16) if key else 0,
        metadata=int(option[1], 16) if option else 0,
        fields=dict(state.fields),
    )


def _set(what: str, state: _State) -> None:
    if what.startswith("tunnel("):
        state.tunnel = what[len("tunnel(") : -1]
        return
    if not (match := _SETS.fullmatch(what)):
        return
    layer, pairs = match.groups()
    for pair in pairs.split(","):
        name, _, value = pair.partition("=")
        ours = _FIELDS.get((layer, name)) or (_PORTS.get(name) if layer[-1] == "p" else None)
        if ours:
            state.fields[ours] = value.partition("/")[0]


def split(actions: str) -> Iterator[str]:
    """Split a list at the commas that are in no brackets."""
    depth = start = 0
    for index, char in enumerate(actions):
        if char in "({":
            depth += 1
        elif char in ")}":
            depth -= 1
        elif char == "," and not depth:
            yield actions[start:index]
            start = index + 1
    if start < len(actions):
        yield actions[start:]
