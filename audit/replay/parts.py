"""A zone's southbound database for some packets: without the flows that none of them can meet.

For each table a packet enters, `ovn-trace` goes through all flows of the datapath (`utilities/
ovn-trace.c`, ovntrace_flow_lookup): with hundreds of pods and thousands of Services in a zone a
trace takes 30 ms, and a tenth of that where only flows are left that some packets can meet. So a
flow is put aside that demands (`audit.flows.demands`) a port, or a destination, that no packet is
at or has: of pods' ports, Services' addresses and endpoints those that belong to none of them.

A trace in such a database is the one in the whole database if it mentions nothing that flows were
put aside for. As long as the packet was at no such port and for no such address, a flow that was
put aside would not have matched, and what `ovn-trace` brings a packet to it prints: ports where a
pipeline is entered and in actions, addresses in the packet it begins with and in actions.

Of flows with one priority that a packet meets `ovn-trace` takes the first, in an order that the
rows' uuids make and the power of two that their number comes to (`include/openvswitch/hmap.h`: so
many buckets has the table of rows). So as many flows that are put aside stay as it takes for that,
in a datapath that nothing enters; the others are left out.

Of address sets only those addresses stay that some packet has (`audit.replay.members`).

A load balancer whose addresses no packet is for stays as a row that has none: it could only have
been looked up for a packet that was sent to one of them (ovn-trace.c, get_lb_vip_data).
"""

import functools
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audit.errors import DatabaseError, EngineError
from audit.flows.demands import demands
from audit.replay import databases, lean
from audit.replay.members import Sets, plain
from audit.replay.tables import RAW_OBJECT, Row, Tables

_FLOWS = "Logical_Flow"
_DATAPATHS = "Datapath_Binding"
_ASIDE = "a0d17a51-de00-4000-8000-000000000000"
"""The datapath that nothing enters."""
_PUT_ASIDE = msgspec.Raw(
    msgspec.json.encode(
        {
            "actions": "drop;",
            "logical_datapath": ["uuid", _ASIDE],
            "match": "0",
            "pipeline": "ingress",
        }
    )
)
_BALANCERS = "Load_Balancer"
_WITHOUT_ADDRESSES = msgspec.Raw(b"{}")
_FIELDS = 4
"""Of a packet, that flows make demands of (`audit.flows.demands`)."""
_NONE = -1

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""Names that are printed as they are, and that `_WORD` knows again in a text."""
_UUID_LAST = re.compile(r"[0-9a-fA-F-]{36}\Z")
"""A name of which ovn-trace prints only a part."""
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_SIX = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")
"""What may be an IPv6 address."""
_UNTOLD = re.compile(r"ip[46]\.(?:src|dst) = 0x|\bpop\(|^ *\d+\. no match", re.MULTILINE)
"""Where a text does not tell all: an address from a register, a stage that has no flow any more."""
_BACKEND = re.compile(r"\[(?P<six>[^\]]+)\](?::\d+)?|(?P<four>[0-9.]+)(?::\d+)?")
"""`10.0.0.1:80`, `[fd00::1]:80` (ovn-sb(5), Load_Balancer, `vips`)."""


LEAST_BYTES = 4 << 20
"""Of a database that is divided: in a smaller one traces take no longer than a part takes to open.
"""


@functools.lru_cache(maxsize=32)
def divide(database: Path) -> "Division | None":
    """Return how a staged database is divided; None where it is not, or cannot be read."""
    try:
        if LEAST_BYTES <= database.stat().st_size <= lean.MOST_BYTES:
            return Division.of(database)
    except (DatabaseError, OSError, ValueError):
        pass  # who opens all of it will say so
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a database can be divided: small, and made once.

    `rows` has `_FIELDS` numbers for each flow, in the order of the file: those of its demands, then
    `_NONE`. `by_constant` has the numbers of the demands that name a port or an address, and
    `together` what is kept along with a word: the ports at an address, a Service's endpoints.
    `balancers` has the addresses of load balancers, by uuid, of which flows demand each.
    """

    rows: Sequence[int]
    by_constant: Mapping[str, Sequence[int]]
    together: Mapping[str, frozenset[str]]
    balancers: Mapping[str, frozenset[str]]
    surplus: int
    """How many flows can be left out and the others stay in their order."""
    key: int
    """A tunnel key that no datapath has (ovn-sb(5), Datapath_Binding)."""
    sets: Sets
    texts: Sequence[int]
    """What tells the text of a flow, in the order of the file; 0 where it names what a zone has."""

    @classmethod
    def of(cls, database: Path) -> "Division":
        """Read a standalone database; DatabaseError as `Tables.of` raises it."""
        tables = Tables.of(database, "OVN_Southbound")
        ports = _Ports.of(tables)
        together = _together(tables, ports)
        apart = ports.pods | _addresses(together, but=ports.others)
        groups = _members(tables)
        numbers: dict[object, int] = {}
        by_constant: dict[str, list[int]] = defaultdict(list)
        rows = array("i")
        _, transactions = lean.read(database.read_bytes())
        flows, surplus = _flows(transactions)
        for flow in flows:
            asked = []
            for demand in demands(flow.match):
                if demand not in numbers:
                    constants = demand.constants.union(
                        *(groups.get(group, ()) for group in demand.groups)
                    )
                    numbers[demand] = len(numbers) if constants and constants <= apart else _NONE
                    if numbers[demand] != _NONE:
                        for constant in constants:
                            by_constant[constant].append(numbers[demand])
                asked.append(numbers[demand])
            rows.extend([*asked, *([_NONE] * (_FIELDS - len(asked)))])
        return cls(
            rows=rows,
            by_constant=dict(by_constant),
            together=together,
            balancers={
                uuid: addresses
                for uuid, addresses in _balancers(tables)
                if addresses <= by_constant.keys()
            },
            surplus=surplus,
            key=_unused_key(tables),
            sets=Sets.of(
                transactions,
                [(flow.match, flow.actions) for flow in flows],
                table=_FLOWS,
                but=ports.others,
            ),
            texts=array("q", map(_text, flows)),
        )

    def kept(self, words: Iterable[str]) -> frozenset[str]:
        """Return the ports and addresses that packets are at or have, by what is known of them.

        `words` are their ports of entry and the ports they are for, and their addresses.
        """
        kept: set[str] = set()
        new = set(words)
        while new:
            kept |= new
            new = {other for word in new for other in self.together.get(word, ())} - kept
        return frozenset(kept & self._words)

    @property
    def _words(self) -> AbstractSet[str]:
        """All ports and addresses that something can be put aside for."""
        return self.by_constant.keys() | self.sets.members

    def missing(self, kept: frozenset[str]) -> Callable[[str], frozenset[str] | None]:
        """Return what tells which words of a trace flows were put aside for.

        Where that is nothing, the trace is the one in the whole database; None where it may be
        more.
        """
        return _Mentions(self._words - kept).of

    def copy(self, kept: frozenset[str]) -> databases.Copy:
        """Return what copies the database without flows for what is not kept.

        That raises EngineError when it cannot be read, OSError as writing a file does.
        """
        return self._copy(lambda content: self.part(content, kept))

    def thin(self, read: AbstractSet[int]) -> databases.Copy:
        """Return what copies the database with the flows that are not among the `texts` in `read`.

        `ovn-trace` can read as many of them, though its address sets are small. Errors as of
        `copy`.
        """
        return self._copy(lambda content: self._thin(content, read))

    def _copy(self, make: Callable[[bytes], bytes]) -> databases.Copy:
        def copy(source: Path, target: Path) -> None:
            try:
                made = make(source.read_bytes())
            except ValueError as error:
                text = f"{source} cannot be read as an OVSDB file: {error}"
                raise EngineError(text) from error
            target.write_bytes(made)

        return copy

    def _thin(self, content: bytes, read: AbstractSet[int]) -> bytes:
        schema, transactions = lean.read(content)
        texts = iter(self.texts)
        for transaction, rows in lean.rows_of(transactions, _FLOWS):
            left = {uuid: row for uuid, row in rows.items() if next(texts) not in read}
            lean.put(transaction, _FLOWS, left)
        self.sets.leave_out(transactions, self.sets.by_name, self.sets.members)
        return lean.written(schema, transactions)

    def part(self, content: bytes, kept: frozenset[str]) -> bytes:
        """Return the database `content`, a file, without flows for what is not kept."""
        met = {n for constant in kept for n in self.by_constant.get(constant, ())} | {_NONE}
        schema, transactions = lean.read(content)
        at, surplus = 0, self.surplus
        named = set[bytes]()
        for transaction, rows in lean.rows_of(transactions, _FLOWS):
            left = {}
            for uuid, row in rows.items():
                if met.issuperset(self.rows[at : at + _FIELDS]):
                    left[uuid] = row
                    named.update(lean.names_in(row))
                elif surplus:
                    surplus -= 1
                else:
                    left[uuid] = _PUT_ASIDE
                at += _FIELDS
            lean.put(transaction, _FLOWS, left)
        for transaction, rows in lean.rows_of(transactions, _BALANCERS):
            for uuid in rows.keys() & self.balancers.keys():
                if self.balancers[uuid].isdisjoint(kept):
                    rows[uuid] = _WITHOUT_ADDRESSES
            lean.put(transaction, _BALANCERS, rows)
        _add_datapath(transactions, self.key)
        self.sets.leave_out(transactions, named, self.sets.members - kept)
        return lean.written(schema, transactions)


class _Mentions:
    """Looks for words in traces of a part, once in each line: they have most in common."""

    def __init__(self, aside: AbstractSet[str]) -> None:
        """`aside` is what flows were put aside for."""
        self._aside = aside
        self._harmless: set[str] = set()

    def of(self, output: str) -> frozenset[str] | None:
        """Return which of these words a trace has; None where it does not tell all."""
        lines = set(output.split("\n")) - self._harmless
        text = "\n".join(lines)
        if _UNTOLD.search(text):
            return None
        words = {*_WORD.findall(text), *_SIX.findall(text)}
        mentioned = frozenset(words & self._aside)
        if not mentioned:
            self._harmless |= lines
        return mentioned


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    """`pods` are names of pods' ports, `at` their names by address, `others` all other addresses.

    Only those of pods are meant that ovn-trace always names when a packet is there.
    """

    pods: frozenset[str]
    at: Mapping[str, frozenset[str]]
    others: frozenset[str]

    @classmethod
    def of(cls, tables: Tables) -> "_Ports":
        columns = ("logical_port", "type", "mac", "nat_addresses", "external_ids", "tunnel_key")
        learnt = {row["port_key"] for row in tables.rows("FDB", ("port_key",))}
        at: dict[str, set[str]] = defaultdict(set)
        pods, others = set[str](), set[str]()
        for row in tables.rows("Port_Binding", columns):
            addresses = _words(row["mac"])
            if not _named(row) or row["tunnel_key"] in learnt:
                others.update(addresses, _words(row.get("nat_addresses", [])))
                continue
            pods.add(row["logical_port"])
            for address in addresses:
                at[address].add(row["logical_port"])
        return cls(
            pods=frozenset(pods),
            at={address: frozenset(names) for address, names in at.items()},
            others=frozenset(others),
        )


def _named(row: Row) -> bool:
    """Say whether a port is a pod's, and ovn-trace prints all of its name (`shorten_uuid` there).

    OVN-Kubernetes writes `pod` into its external_ids.
    """
    name, ids = row["logical_port"], row["external_ids"]
    return bool(
        not row["type"]
        and "pod" in ids
        and "name" not in ids
        and _PLAIN.fullmatch(name)
        and not _UUID_LAST.search(name)
    )


def _words(values: str | Iterable[str]) -> list[str]:
    """Return the words of a column of strings; a set of one string may be that string."""
    texts = [values] if isinstance(values, str) else values
    return [word.partition("/")[0] for text in texts for word in text.split()]


def _together(tables: Tables, ports: _Ports) -> Mapping[str, frozenset[str]]:
    """Return the ports of each address, and the endpoints of each Service's."""
    together: dict[str, set[str]] = defaultdict(set)
    for address, names in ports.at.items():
        together[address] |= names
    for row in tables.rows("Load_Balancer", ("vips",)):
        for vip, backends in row["vips"].items():
            if (address := _address(vip)) not in ports.others:
                together[address].update(map(_address, filter(None, backends.split(","))))
    return {word: frozenset(others) for word, others in together.items()}


def _address(backend: str) -> str:
    """Return the address of `10.0.0.1:80`; of what is otherwise, that itself."""
    match = _BACKEND.fullmatch(backend.strip())
    return (match["six"] or match["four"]) if match else backend


def _addresses(together: Mapping[str, Iterable[str]], *, but: frozenset[str]) -> frozenset[str]:
    """Return the addresses of pods, of Services and of their endpoints, as OVN prints them."""
    return plain({word for word, others in together.items() for word in (word, *others)} - but)


def _members(tables: Tables) -> Mapping[str, frozenset[str]]:
    """Return the ports of each port group, in whatever datapath.

    A group is written for each datapath, its name behind the datapath's key and `_`.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for row in tables.rows("Port_Group", ("name", "ports")):
        names = [row["ports"]] if isinstance(row["ports"], str) else row["ports"]
        key, _, rest = row["name"].partition("_")
        for name in (row["name"], rest) if key.isdigit() else (row["name"],):
            members[name].update(names)
    return {name: frozenset(ports) for name, ports in members.items()}


def _unused_key(tables: Tables) -> int:
    """Return the largest tunnel key that no datapath has."""
    used = {row["tunnel_key"] for row in tables.rows(_DATAPATHS, ("tunnel_key",))}
    return next(key for key in range((1 << 24) - 1, 0, -1) if key not in used)


def _balancers(tables: Tables) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the load balancers that have addresses, by uuid, with these."""
    for row in tables.rows(_BALANCERS, ("_uuid", "vips")):
        if row["vips"]:
            yield row["_uuid"], frozenset(map(_address, row["vips"]))


class _Flow(msgspec.Struct):
    """What is read of a logical flow."""

    match: str = ""
    actions: str = ""
    pipeline: str = ""
    table_id: int = 0


_FLOW = msgspec.json.Decoder(_Flow | None)


def _flows(transactions: Sequence[lean.Transaction]) -> tuple[list[_Flow], int]:
    """Return the logical flows in the order of the file, and how many of them are surplus.

    Of a row that several transactions write it is not known here what it is in the end: it has no
    match, its actions have all that its match names, and nothing is surplus.
    """
    written = [flow for _, rows in lean.rows_of(transactions, _FLOWS) for flow in rows.items()]
    times = Counter(uuid for uuid, _ in written)
    flows = [_FLOW.decode(row) for _, row in written]
    once = [times[uuid] == 1 for uuid, _ in written]
    fewest = 1 << (len(flows).bit_length() - 1) if flows else 0
    surplus = len(flows) - fewest if all(once) and all(flows) else 0
    known = [
        (flow if single else _Flow(actions=f"{flow.match} {flow.actions}")) if flow else _Flow()
        for flow, single in zip(flows, once, strict=True)
    ]
    return known, surplus


_OF_A_ZONE = re.compile(r"[$@^]")
"""Names of sets, groups and templates in a match or in actions."""


def _text(flow: _Flow) -> int:
    """Return a number of a flow's text, for which whether it can be read hangs on nothing else.

    Else 0. In one process it is the same for the same text.
    """
    text = flow.pipeline, flow.table_id, flow.match, flow.actions
    known = flow.match and not any(map(_OF_A_ZONE.search, (flow.match, flow.actions)))
    return hash(text) if known else 0


def _add_datapath(transactions: Sequence[lean.Transaction], key: int) -> None:
    """Add the datapath of the flows that are put aside to the first transaction with flows."""
    first = next((each for each in transactions if _FLOWS in each), None)
    if first is not None:
        rows = RAW_OBJECT.decode(first.get(_DATAPATHS, b"{}"))
        rows[_ASIDE] = msgspec.Raw(msgspec.json.encode({"tunnel_key": key}))
        lean.put(first, _DATAPATHS, rows)
