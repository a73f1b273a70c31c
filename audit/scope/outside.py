"""The outside of a cluster as ranges of addresses that nothing in scope tells apart. Pure.

The address space is cut at every CIDR that a policy names. CIDRs lie inside each other or apart,
so they form a tree, and a range is a CIDR without those below it. Ranges that the same ipBlocks
hold are one. What lies in the cluster's own CIDRs is left out, as are the addresses that nobody
can connect to. One address, which is nobody's in the cluster, stands for each range.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import Policy, Zone
from audit.model.packets import Family
from audit.model.policies import BlockPeer

ALL = "all"
"""How a scope spells every address outside."""

MOST_NAMED = 4
"""The name of a range with more CIDRs than this lists the first and counts the others."""

_UNUSABLE = {
    Family.IP4: ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"),
    Family.IP6: ("::/127", "::ffff:0:0/96", "ff00::/8"),
}
"""No connection can be made to these: this host, loopback, multicast, reserved."""

_UNLIKELY = {
    Family.IP4: ("169.254.0.0/16",),
    Family.IP6: ("::/8", "fe80::/10"),
}
"""Stand for a range only where it has nothing else: link-local, and IPv6 without a use."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Addresses outside that nothing tells apart, and one of them."""

    name: str
    address: str
    spans: tuple[tuple[str, str], ...] = ()
    """The first and last address of each stretch, in order."""

    def endpoint(self) -> Endpoint:
        """Return the range as a row or a column."""
        return Endpoint(kind=EndpointKind.EXTERNAL, name=self.name, addresses=(self.address,))


@dataclass(slots=True)
class _Part:
    """A CIDR without those below it that something tells apart from it.

    `within` and `without` are the blocks that hold it and that except it: bit i is block i.
    """

    network: _Network
    within: int
    without: int
    in_scope: bool
    inside: bool
    below: list[_Network] = field(default_factory=list)

    @property
    def alike(self) -> tuple[int, bool, bool]:
        """What two parts of one range have in common."""
        return self.within & ~self.without, self.in_scope, self.inside


def is_range(text: str) -> bool:
    """Tell whether a word of a scope means ranges: `all`, or a CIDR."""
    return text == ALL or "/" in text


def from_everywhere(from_ips: Iterable[str], *, described: bool, outside: bool) -> bool:
    """Tell whether a scope's rows have all of the outside.

    They do where nothing describes them and the `outside` is there by itself, and where asked.
    """
    return ALL in from_ips or (outside and not described)


def ranges(
    words: Collection[str],
    blocks: Iterable[BlockPeer],
    inside: Collection[str],
    taken: Collection[str],
    families: Sequence[Family],
) -> tuple[Range, ...]:
    """Return the ranges of what `words` mean, `all` or CIDRs, by family and first address.

    The address space is cut at `blocks`. `inside` are the cluster's own CIDRs, of which nothing
    is outside; `taken` are addresses of the cluster, which stand for no range.
    """
    cuts = tuple(dict.fromkeys(blocks))
    used = {int(ipaddress.ip_address(address)) for address in taken}
    merged: list[Range] = []
    for family in families:
        wanted = [
            family.everything if word == ALL else word
            for word in words
            if word == ALL or Family.of(word) is family
        ]
        if wanted:
            cluster_cidrs = [cidr for cidr in inside if Family.of(cidr) is family]
            parts = _parts(
                [b for b in cuts if Family.of(b.cidr) is family], wanted, cluster_cidrs, family
            )
            merged += _merged(parts, used, family)
    return tuple(merged)


def is_range_endpoint(endpoint: Endpoint) -> bool:
    """Tell whether an endpoint stands for a range of addresses, by its name."""
    return endpoint.kind is EndpointKind.EXTERNAL and "/" in endpoint.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """Networks and addresses that are the cluster's, by its databases."""

    networks: tuple[str, ...]
    addresses: frozenset[str]


def of_zones(zones: Iterable[Zone], taken: Collection[str]) -> tuple[tuple[str, ...], Inside]:
    """Return the CIDRs at which OVN tells addresses apart, and what is the cluster's.

    Routes, NATs, load balancers, address sets and ACLs are all in what logical flows and address
    sets name. A single address that no ACL or address set names is a router's, a load balancer's
    or has a route of its own: it is not part of any range.
    """
    cuts, single, networks = set[str](), set[str](), set[str]()
    for zone in zones:
        networks.update(cidr for subnets in zone.switches.values() for cidr in subnets)
        sets = (*zone.address_sets.values(), *(zone.installed_sets or {}).values())
        cuts.update(_named_in(" ".join(entry for entries in sets for entry in entries)))
        for match in {acl.match for acls in zone.acls.values() for acl in acls}:
            cuts.update(_named_in(match))
        for match in {flow.match for flows in zone.flows.values() for flow in flows}:
            for cidr in _named_in(match):
                (cuts if _network(cidr).num_addresses > 1 else single).add(cidr)
    cuts = {cidr for cidr in cuts if _network(cidr).num_addresses > 1 or _host(cidr) not in taken}
    unusable = [_network(cidr) for some in _UNUSABLE.values() for cidr in some]
    cuts = {cidr for cidr in cuts if not any(_lies_in(cidr, network) for network in unusable)}
    addresses = {_host(cidr) for cidr in single - cuts}
    return tuple(sorted(cuts)), Inside(
        networks=tuple(sorted(networks)), addresses=frozenset(addresses)
    )


def _lies_in(cidr: str, whole: _Network) -> bool:
    network = _network(cidr)
    return (
        network.version == whole.version
        and network.prefixlen >= whole.prefixlen
        and network.network_address in whole
    )


def _host(cidr: str) -> str:
    return cidr.partition("/")[0]


_WORD = re.compile(r"[0-9a-fA-F:.]*[:.][0-9a-fA-F:.]*(?:/[0-9a-fA-F:.]+)?")


def _named_in(text: str) -> Iterator[str]:
    """Yield the addresses and CIDRs in a match, in the usual spelling."""
    for word in _WORD.findall(text):
        try:
            yield str(ipaddress.ip_network(word, strict=False))
        except ValueError:
            continue  # a MAC address, the name of a field


def blocks_of(policies: Iterable[Policy]) -> Iterator[BlockPeer]:
    """Yield the blocks of addresses that policies name."""
    for policy in policies:
        for rule in policy.spec.rules if policy.spec is not None else ():
            for peer in rule.peers or ():
                if isinstance(peer, BlockPeer):
                    yield peer


def _parts(
    blocks: Sequence[BlockPeer], wanted_cidrs: Iterable[str], inside: Iterable[str], family: Family
) -> list[_Part]:
    """Cut the address space into parts, sorted by where they begin."""
    holds: dict[_Network, int] = {}
    excepts: dict[_Network, int] = {}
    for bit, block in enumerate(blocks):
        network = _network(block.cidr)
        holds[network] = holds.get(network, 0) | 1 << bit
        for cidr in map(_network, block.excluded):
            excepts[cidr] = excepts.get(cidr, 0) | 1 << bit
    wanted, cluster_networks = set(map(_network, wanted_cidrs)), set(map(_network, inside))
    every = {_network(family.everything), *holds, *excepts, *wanted, *cluster_networks}
    parts: list[_Part] = []
    above: list[tuple[_Network, _Part]] = []
    for network in sorted(
        every, key=lambda network: (int(network.network_address), network.prefixlen)
    ):
        while above and int(network.network_address) > int(above[-1][0].broadcast_address):
            above.pop()
        over = above[-1][1] if above else None
        part = _Part(
            network,
            holds.get(network, 0) | (over.within if over else 0),
            excepts.get(network, 0) | (over.without if over else 0),
            in_scope=network in wanted or bool(over and over.in_scope),
            inside=network in cluster_networks or bool(over and over.inside),
        )
        if over is not None and part.alike == over.alike:
            # Told apart by nothing: the same part goes on. What it adds to either set of blocks
            # is still to be handed down.
            over = _Part(
                over.network,
                part.within,
                part.without,
                in_scope=part.in_scope,
                inside=part.inside,
                below=over.below,
            )
            above.append((network, over))
            continue
        if over is not None:
            over.below.append(network)
        parts.append(part)
        above.append((network, part))
    return [part for part in parts if part.in_scope and not part.inside]


def _merged(parts: Sequence[_Part], taken: Collection[int], family: Family) -> Iterator[Range]:
    """Join the parts that nothing tells apart, as far as they have an address to stand for them."""
    groups: dict[tuple[int, bool, bool], list[tuple[_Part, str]]] = {}
    for part in parts:
        address = _sample(part, taken, family)
        if address is not None:
            groups.setdefault(part.alike, []).append((part, address))
    for group in groups.values():
        names = [_named(part) for part, _ in group]
        yield Range(
            name=_listed(names, "; "),
            address=group[0][1],
            spans=tuple(
                (str(_address(first, family)), str(_address(last, family)))
                for part, _ in group
                for first, last in _gaps(part.network, part.below)
            ),
        )


def _named(part: _Part) -> str:
    if not part.below:
        return str(part.network)
    return f"{part.network} except {_listed([str(network) for network in part.below], ', ')}"


def _listed(names: Sequence[str], separator: str) -> str:
    """Join names, and count those beyond a few: the first alone tells a range from all others."""
    if len(names) <= MOST_NAMED:
        return separator.join(names)
    first = MOST_NAMED - 1
    return f"{separator.join(names[:first])} and {len(names) - first} more"


def _sample(part: _Part, taken: Collection[int], family: Family) -> str | None:
    """Return an address of a part that is nobody's, and that a connection can be made to."""
    unusable, unlikely = (tuple(map(_network, some[family])) for some in (_UNUSABLE, _UNLIKELY))
    for avoided in ((*unusable, *unlikely), unusable):
        gaps = list(_gaps(part.network, (*part.below, *avoided)))
        for first, last in sorted(gaps, key=lambda gap: gap[0] - gap[1]):
            # Not the address of the network itself, which no host has.
            number = first + 1 if last > first + 1 else first
            while number in taken and number < last:
                number += 1
            if number not in taken:
                return str(_address(number, family))
    return None


def _address(number: int, family: Family) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if family is Family.IP4:
        return ipaddress.IPv4Address(number)
    return ipaddress.IPv6Address(number)


def _gaps(network: _Network, holes: Iterable[_Network]) -> Iterator[tuple[int, int]]:
    """Yield the first and last addresses of a network's stretches without holes, in order."""
    first, end = int(network.network_address), int(network.broadcast_address)
    for low, high in sorted((int(h.network_address), int(h.broadcast_address)) for h in holes):
        if low > end:
            break
        if low > first:
            yield first, low - 1
        first = max(first, high + 1)
    if first <= end:
        yield first, end


def _network(cidr: str) -> _Network:
    return ipaddress.ip_network(cidr, strict=False)
