"""A southbound's address sets, with those addresses only that some packets have. Pure.

A set is asked for a packet's source or destination, and what else is in it makes no difference to
that packet. Sets of thousands of pods are most of what `ovn-trace` reads and goes through.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec

from audit.flows.literals import MAC
from audit.replay import lean

_NAMED = re.compile(r"\$([\w.-]+)")
_AS_ADDRESSES = re.compile(r"\bip[46]\.(?:src|dst) ?[!=]= ?(\{[^{}]*\}|\$[\w.-]+)")
"""Where a match asks whether a packet's address is in a set (ovn-sb(5), Logical_Flow)."""
_KINDS = (
    re.compile(r"[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?"),
    MAC,
    re.compile(r"[0-9a-f]*:[0-9a-f:]+(?:/[0-9]+)?"),
)
"""IPv4, Ethernet and IPv6 addresses."""
_BACKENDS = re.compile(r"backends=[^;)]*")
_ADDRESSES = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Which address sets a database names, and what they can do without.

    `by_name` has those that something names, as uuids, and `elsewhere` the names in rows other than
    logical flows. `members` are the addresses that those in `trimmed`, uuids, can do without.
    `kinds` are those of the addresses in a set that one transaction writes, by name.
    """

    by_name: Mapping[bytes, frozenset[str]]
    elsewhere: frozenset[bytes]
    trimmed: frozenset[str]
    members: frozenset[str]
    kinds: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls,
        transactions: Sequence[lean.Transaction],
        flows: Sequence[tuple[str, str]],
        *,
        table: str,
        but: AbstractSet[str],
    ) -> "Sets":
        """Read the sets; `flows` are matches and actions, the rows of `table`.

        Addresses in `but`, or that actions write, are always kept.
        """
        elsewhere = lean.named(transactions, but=table)
        named = elsewhere.union(*(lean.names_in(t[table]) for t in transactions if table in t))
        every = lean.sets(transactions).items()
        by_name = {name: uuids for name, uuids in every if name in named or not name}
        otherwise = {name.encode() for name in otherwise_asked(flows)} | elsewhere
        always = lean.called(by_name, otherwise)
        asked = {uuid for uuids in by_name.values() for uuid in uuids} - always
        once = dict(_once(transactions))
        trimmed = {uuid: some for uuid, some in once.items() if uuid in asked}
        listed = plain({address for some in trimmed.values() for address in some})
        return cls(
            by_name=by_name,
            elsewhere=elsewhere,
            trimmed=frozenset(trimmed),
            members=listed - mentioned(actions for _, actions in flows) - but,
            kinds={
                name.decode(): frozenset(map(_kind, once[uuid]))
                for name, uuids in by_name.items()
                for uuid in uuids
                if len(uuids) == 1 and uuid in once
            },
        )

    def leave_out(
        self,
        transactions: Sequence[lean.Transaction],
        named: Iterable[bytes],
        aside: frozenset[str],
    ) -> None:
        """Take out the sets that have none of these names, and these addresses of the others."""
        kept = lean.called(self.by_name, {*self.elsewhere, *named})
        for transaction, rows in lean.rows_of(transactions, lean.SETS):
            left = {
                uuid: without(row, aside) if uuid in self.trimmed else row
                for uuid, row in rows.items()
                if uuid in kept
            }
            lean.put(transaction, lean.SETS, left)


def _once(transactions: Sequence[lean.Transaction]) -> Iterator[tuple[str, list[str]]]:
    """Yield the sets that one transaction writes, by uuid, with their addresses."""
    changing = lean.changing(transactions, lean.SETS)
    for _, rows in lean.rows_of(transactions, lean.SETS):
        for uuid, row in rows.items():
            if uuid not in changing and (decoded := msgspec.json.decode(row)):
                yield uuid, addresses(decoded)


def otherwise_asked(flows: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the sets that matches or actions ask otherwise than for a packet's addresses."""
    asked: Counter[str] = Counter()
    for match, actions in flows:
        if "$" in match or "$" in actions:
            asked.update(_NAMED.findall(match))
            asked.update(_NAMED.findall(actions))
            for part in _AS_ADDRESSES.findall(match):
                asked.subtract(_NAMED.findall(part))
    return frozenset(name for name, times in asked.items() if times)


def mentioned(actions: Iterable[str]) -> frozenset[str]:
    """Return the addresses that actions write, into registers for one; not those of endpoints."""
    texts = (_BACKENDS.sub("", text) for text in set(actions))
    return frozenset(address for text in texts for address in _ADDRESSES.findall(text))


def plain(values: Iterable[str]) -> frozenset[str]:
    """Return which of these are single addresses, written as OVN prints them."""
    return frozenset(filter(_is_plain, values))


def _kind(address: str) -> str:
    """Return what reading an address of a set may hang on: what is none is of its own kind."""
    for kind in _KINDS:
        if kind.fullmatch(address):
            return kind.pattern
    return address


def _is_plain(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    # inet_ntop writes the last bits of `::1.2.3.4` otherwise than `ipaddress`.
    return str(address) == value and not value.startswith("::")


def addresses(row: Mapping[str, object]) -> list[str]:
    """Return the addresses in a set's row, of an OVSDB file."""
    match row.get("addresses"):
        case str(single):
            return [single]
        case ["set", [*several]]:
            return list(map(str, several))
        case _:
            return []


def without(row: msgspec.Raw, aside: AbstractSet[str]) -> msgspec.Raw:
    """Return a set's row without these addresses, of which one of each family stays.

    So no set becomes empty, which is another match to OVN, and a set with an address that is too
    wide for the field, which no match may name, still has one.
    """
    decoded = msgspec.json.decode(row)
    every = addresses(decoded)
    one_of_each = {":" in address: address for address in every}.values()
    left = [each for each in every if each not in aside or each in one_of_each]
    if len(left) == len(every):
        return row
    decoded["addresses"] = ["set", left]
    return msgspec.Raw(msgspec.json.encode(decoded))
