"""A zone's southbound database for some packets: without the flows that none of them can meet.

For each table a packet enters, `ovn-trace` goes through all flows of the datapath (`utilities/
ovn-trace.c`, ovntrace_flow_lookup): with hundreds of pods and thousands of Services in a zone a
trace takes 30 ms, and a tenth of that where only flows are left that some packets can meet. So a
flow is put aside that demands (`audit.flows.demands`) a port that no packet enters by or is for, or
a destination that none has: of pods' ports, MACs and addresses, of Services' addresses and
endpoints those that belong to none of them.

A trace in such a database is the one in the whole database if it mentions nothing that flows were
put aside for. As long as the packet was at no such port and for no such address, a flow that was
put aside would not have matched, and what `ovn-trace` brings a packet to it prints: ports where a
pipeline is entered and in actions, addresses in the packet it begins with and in actions. From
there registers have theirs.

So are flows of networks that packets do not enter (`audit.replay.connected`): they never come to
those.

The flows that stay keep their order (`audit.replay.order`); what that takes besides is in a
datapath that nothing enters.

Of address sets only those addresses stay that some packet has (`audit.replay.members`).

A load balancer whose addresses no packet is for stays as a row that has none: it could only have
been looked up for a packet that was sent to one of them (ovn-trace.c, get_lb_vip_data).
"""

import functools
import itertools
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from audit.errors import DatabaseError, EngineError
from audit.flows.demands import FIELDS, Demand, demands
from audit.flows.literals import MAC, Alike, alike
from audit.model.traces import TraceTask
from audit.replay import databases, lean
from audit.replay.connected import Connected
from audit.replay.members import Sets, plain
from audit.replay.order import Order, Renamed
from audit.replay.tables import RAW_OBJECT, Row, Tables

_FLOWS = "Logical_Flow"
_DATAPATHS = "Datapath_Binding"
_ASIDE = "a0d17a51-de00-4000-8000-000000000000"
"""The datapath that nothing enters."""
_FILLER = msgspec.Raw(
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
_FIELDS = len(FIELDS) + 1
"""Of a packet, that flows make demands of; the last is the network that it enters by."""
_NONE = -1

_SIDES = "inport", "outport"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""Names that are printed as they are, and that `_WORD` knows again in a text."""
_UUID_LAST = re.compile(r"[0-9a-fA-F-]{36}\Z")
"""A name of which ovn-trace prints only a part."""
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_SIX = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")
"""What may be an IPv6 address."""
_UNTOLD = re.compile(
    r"(?:(?:eth|ip[46])\.(?:src|dst)|arp\.tpa|nd\.target|\bx*reg0) = 0x|\bpop\("
    r"|^ *\d+\. no match",
    re.MULTILINE,
)
"""Where a text does not tell all: an address from a register, a stage that has no flow any more."""
_SIDE = re.compile(r'\b(inport|outport|output to)(?: == | = |=| )"([^"]*)"')
"""A port that a packet enters by, or leaves by."""
_SWAPPED = re.compile(r"port <-> |= (?:in|out)port\b")
"""Where the one becomes the other."""
_BACKEND = re.compile(r"\[(?P<six>[^\]]+)\](?::\d+)?|(?P<four>[0-9.]+)(?::\d+)?")
"""`10.0.0.1:80`, `[fd00::1]:80` (ovn-sb(5), Load_Balancer, `vips`)."""


LEAST_BYTES = 4 << 20
"""Of a database that is divided: in a smaller one traces take no longer than a part takes to open.
"""


@functools.lru_cache(maxsize=32)
def divide(database: Path) -> "Division | None":
    """Return how a staged database is divided; None where it is not, or cannot be read."""
    try:
        if database.stat().st_size >= LEAST_BYTES:
            return Division.of(database)
    except (DatabaseError, OSError, ValueError):
        pass  # who opens all of it will say so
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a database can be divided: small, and made once.

    Flows are numbered as the file has them. `rows` (flows, `_FIELDS`) has the numbers of what each
    demands, then `_NONE`. A *word* is what may be demanded: an address, or a port behind the
    field that has it, as in `outport shop_web`. `by_constant` has the numbers of the demands by
    word, and `together` what is kept along with one: the ports at an address and their MACs, a
    Service's endpoints. `balancers` has the addresses of load balancers, by uuid, of which flows
    demand each.
    """

    rows: NDArray[np.int32]
    order: Order
    again: Mapping[int, int]
    """By number of a flow that was written before, the number that it had there."""
    connected: Connected
    by_constant: Mapping[str, Sequence[int]]
    together: Mapping[str, frozenset[str]]
    balancers: Mapping[str, frozenset[str]]
    key: int
    """A tunnel key that no datapath has (ovn-sb(5), Datapath_Binding)."""
    sets: Sets
    texts: Sequence[int]
    """What tells the text of a flow, but for literals and names; 0 where it needs its zone."""

    @classmethod
    def of(cls, database: Path) -> "Division":
        """Read a standalone database; DatabaseError as `Tables.of` raises it."""
        tables = Tables.of(database, "OVN_Southbound")
        ports = _Ports.of(tables)
        together = _together(tables, ports)
        apart = _addresses(together, but=ports.others) | ports.words | ports.macs
        groups = _members(tables)
        numbers = _Numbers(apart, groups)
        _, transactions = lean.read(database.read_bytes())
        connected = Connected.of(tables, transactions)
        written = _Written.of(transactions)
        flows = written.flows
        sets = Sets.of(
            transactions,
            [(flow.match, flow.actions) for flow in flows],
            table=_FLOWS,
            but=ports.others,
        )
        rows = np.full((len(flows), _FIELDS), _NONE, np.int32)
        texts = _Texts(groups.keys(), sets.kinds)
        for row, flow in zip(rows, flows, strict=True):
            networks = connected.of_flow(flow.logical_datapath, flow.logical_dp_group)
            match = alike(flow.match)
            asked = [numbers.of_networks(networks), *map(numbers.of_demand, demands(match))]
            row[: len(asked)] = asked
            texts.add(flow, match)
        return cls(
            rows=rows,
            order=written.order,
            again=written.again,
            connected=connected,
            by_constant=numbers.by_constant,
            together=together,
            balancers={
                uuid: addresses
                for uuid, addresses in _balancers(tables)
                if addresses <= numbers.by_constant.keys()
            },
            key=_unused_key(tables),
            sets=sets,
            texts=texts.numbers,
        )

    def kept(self, tasks: Iterable[TraceTask], more: Iterable[str]) -> frozenset[str]:
        """Return the words that the packets of tasks need, by what is known of these, and `more`.

        What they enter is among what is returned.
        """
        of_port = self.connected.of_port
        kept, new = set[str](), set(more)
        for task in tasks:
            packet = task.microflow
            kept.update((f"inport {packet.inport}", packet.eth_src, packet.ip_src))
            kept.add(of_port.get(packet.inport, ""))
            new.update((f"outport {task.target}", packet.eth_dst, packet.ip_dst))
            if task.to_service:  # of one without endpoints a packet is turned back
                new.add(f"outport {packet.inport}")
        while new:
            kept |= new
            new = {other for word in new for other in self.together.get(word, ())} - kept
        return frozenset(kept & self.words)

    @property
    def words(self) -> AbstractSet[str]:
        """All words that something can be put aside for."""
        return self.by_constant.keys() | self.sets.members

    def part(self, kept: frozenset[str]) -> "Part":
        """Return the database without flows for what is not kept."""
        return Part(self, kept)

    def thin(self, read: AbstractSet[int]) -> databases.Copy:
        """Return what copies the database with flows of texts that are not in `read`, one of each.

        `ovn-trace` can read any or all of a text (`texts`), and its address sets are small. Errors
        as of `Part.copy`.
        """
        return _copy(lambda content: self._thin(content, read))

    def _thin(self, content: bytes, read: AbstractSet[int]) -> bytes:
        schema, transactions = lean.read(content)
        texts = iter(self.texts)
        read = {*read}
        for transaction, rows in lean.rows_of(transactions, _FLOWS):
            left = {}
            for (uuid, row), text in zip(rows.items(), texts, strict=False):
                if not text or text not in read:
                    left[uuid] = row
                    read.add(text)
            lean.put(transaction, _FLOWS, left)
        self.sets.leave_out(transactions, self.sets.by_name, self.sets.members)
        return lean.written(schema, transactions)


class Part:
    """A part of a database, with the flows for what is kept."""

    def __init__(self, whole: Division, kept: frozenset[str]) -> None:
        self._whole, self._kept = whole, kept
        met = np.zeros(whole.rows.max(initial=0) + 2, np.bool_)
        met[[_NONE, *(n for c in kept for n in whole.by_constant.get(c, ()))]] = True
        self._left = np.asarray(met[whole.rows].all(axis=1))
        """(flows,): those that are in it."""

    @functools.cached_property
    def _mentions(self) -> "_Mentions":
        return _Mentions(self._whole.words - self._kept)

    @functools.cached_property
    def _renamed(self) -> Renamed:
        once = self._left.copy()
        once[list(self._whole.again)] = False
        return self._whole.order.among(once)

    @property
    def size(self) -> int:
        """How many flows it has."""
        return int(np.count_nonzero(self._left))

    @property
    def copy(self) -> databases.Copy:
        """What copies the database, of it this part.

        That raises EngineError when it cannot be read, OSError as writing a file does.
        """
        return _copy(self.of)

    def missing(self, output: str) -> frozenset[str] | None:
        """Return which words of a trace flows were put aside for.

        Where that is nothing, the trace is the one in the whole database; None where it may be
        more.
        """
        return self._mentions.of(output)

    def as_in_whole(self, output: str) -> str:
        """Return a trace with the names that flows have in the whole database."""
        return self._renamed.as_before(output)

    def of(self, content: bytes) -> bytes:
        """Return this part of the database `content`, a file; ValueError when it is none."""
        schema, transactions = lean.read(content)
        named = self._leave_out_flows(transactions)
        balancers = self._whole.balancers
        for transaction, rows in lean.rows_of(transactions, _BALANCERS):
            for uuid in rows.keys() & balancers.keys():
                if balancers[uuid].isdisjoint(self._kept):
                    rows[uuid] = _WITHOUT_ADDRESSES
            lean.put(transaction, _BALANCERS, rows)
        self._whole.connected.leave_out(transactions, self._kept)
        sets = self._whole.sets
        sets.leave_out(transactions, named, sets.members - self._kept)
        return lean.written(schema, transactions)

    def _leave_out_flows(self, transactions: Sequence[lean.Transaction]) -> frozenset[bytes]:
        """Leave out what nothing can meet; return the address sets that the others name."""
        numbers = itertools.count()
        named = set[bytes]()
        fillers = dict.fromkeys(self._renamed.fillers(more=len(self._whole.again)), _FILLER)
        for transaction, rows in lean.rows_of(transactions, _FLOWS):
            if fillers:
                _add_datapath(transaction, self._whole.key)
            left, fillers = fillers, {}
            for (uuid, row), number in zip(rows.items(), numbers, strict=False):
                if self._left[number]:
                    first = self._whole.again.get(number, number)
                    left[self._renamed.uuid(first, uuid)] = row
                    named.update(lean.names_in(row))
            lean.put(transaction, _FLOWS, left)
        return frozenset(named)


def _copy(make: Callable[[bytes], bytes]) -> databases.Copy:
    def copy(source: Path, target: Path) -> None:
        try:
            made = make(source.read_bytes())
        except ValueError as error:
            raise EngineError(f"{source} cannot be read as an OVSDB file: {error}") from error
        target.write_bytes(made)

    return copy


class _Mentions:
    """Looks for words in traces of a part, once in each line: they have most in common."""

    def __init__(self, aside: AbstractSet[str]) -> None:
        """`aside` is what flows were put aside for."""
        self._aside = aside
        self._harmless: set[str] = set()

    def of(self, output: str) -> frozenset[str] | None:
        """Return which of these words a trace has; None where it does not tell all."""
        lines = set(output.split("\n"))
        if _SWAPPED.search(output):
            return self._mentioned("\n".join(lines), told_apart=False)
        lines -= self._harmless
        mentioned = self._mentioned("\n".join(lines), told_apart=True)
        if mentioned == frozenset():
            self._harmless |= lines
        return mentioned

    def _mentioned(self, text: str, *, told_apart: bool) -> frozenset[str] | None:
        """Return what a text mentions; of a port where it is, if that can be `told_apart`."""
        if _UNTOLD.search(text):
            return None
        words = set[str]()
        if told_apart:
            sides = _SIDE.findall(text)
            words |= {f"{'inport' if how == 'inport' else 'outport'} {name}" for how, name in sides}
            text = _SIDE.sub("", text)
        names = {*_WORD.findall(text), *_SIX.findall(text)}
        words |= names
        words |= {f"{side} {name}" for side in _SIDES for name in names}
        return frozenset(words & self._aside)


class _Numbers:
    """Numbers what flows demand, once each; `by_constant` has the numbers that name a constant.

    Where something can be put aside for a demand: else it is `_NONE`.
    """

    def __init__(self, apart: frozenset[str], groups: Mapping[str, frozenset[str]]) -> None:
        """Of words those count that are `apart`; `groups` are ports by name."""
        self.by_constant: dict[str, list[int]] = {}
        self._apart = apart
        self._groups = groups
        self._numbers: dict[Demand | frozenset[str], int] = {}

    def of_demand(self, demand: Demand) -> int:
        """Return the number of what a match demands."""
        if demand not in self._numbers:
            groups = (self._groups.get(group, ()) for group in demand.groups)
            constants = demand.constants.union(*groups)
            if demand.field in _SIDES:
                constants = frozenset(f"{demand.field} {name}" for name in constants)
            self._add(demand, constants if constants <= self._apart else frozenset())
        return self._numbers[demand]

    def of_networks(self, names: frozenset[str]) -> int:
        """Return the number of what a flow is in, by names of connected datapaths."""
        if names not in self._numbers:
            self._add(names, names)
        return self._numbers[names]

    def _add(self, demand: Demand | frozenset[str], constants: frozenset[str]) -> None:
        number = self._numbers[demand] = len(self._numbers) if constants else _NONE
        for constant in constants:
            self.by_constant.setdefault(constant, []).append(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    """`pods` are pods' ports, with their addresses; `others` are the addresses of all other ports.

    Of both there are MACs among them. Only those of pods are meant that ovn-trace always names when
    a packet is there.
    """

    pods: Mapping[str, Sequence[str]]
    others: frozenset[str]

    @property
    def words(self) -> frozenset[str]:
        """Pods' ports, at either end of a packet's way."""
        return frozenset(f"{side} {name}" for side in _SIDES for name in self.pods)

    @property
    def macs(self) -> frozenset[str]:
        """MACs that are pods' only."""
        addresses = itertools.chain.from_iterable(self.pods.values())
        return frozenset(filter(MAC.fullmatch, addresses)) - self.others

    @classmethod
    def of(cls, tables: Tables) -> "_Ports":
        columns = ("logical_port", "type", "mac", "nat_addresses", "external_ids", "tunnel_key")
        learnt = {row["port_key"] for row in tables.rows("FDB", ("port_key",))}
        pods: dict[str, list[str]] = {}
        others = set[str]()
        for row in tables.rows("Port_Binding", columns):
            addresses = _words(row["mac"])
            if not _named(row) or row["tunnel_key"] in learnt:
                others.update(addresses, _words(row.get("nat_addresses", [])))
            else:
                pods[row["logical_port"]] = addresses
        return cls(pods=pods, others=frozenset(others))


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
    """Return the ports of each address, their MACs, and the endpoints of each Service's."""
    together: dict[str, set[str]] = defaultdict(set)
    for name, addresses in ports.pods.items():
        port = f"outport {name}"
        for address in addresses:
            if MAC.fullmatch(address):  # which ports of many other networks may have too
                together[port].add(address)
            else:
                together[address].add(port)
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
    logical_datapath: Any = None
    logical_dp_group: Any = None


_FLOW = msgspec.json.Decoder(_Flow | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What a file says of logical flows, each time that it does; these are numbered.

    Of one that several transactions write it is not known here what it is in the end: it has no
    match, and its actions have all that its match names.
    """

    flows: list[_Flow]
    again: dict[int, int]
    order: Order

    @classmethod
    def of(cls, transactions: Sequence[lean.Transaction]) -> "_Written":
        rows = [row for _, rows in lean.rows_of(transactions, _FLOWS) for row in rows.items()]
        flows = [_FLOW.decode(text) for _, text in rows]
        uuids = [uuid for uuid, _ in rows]
        changing = lean.changing(transactions, _FLOWS)
        last = dict(zip(uuids, flows, strict=True))
        first: dict[str, int] = {}
        again = {}
        for number, uuid in enumerate(uuids):
            if uuid in changing and first.setdefault(uuid, number) != number:
                again[number] = first[uuid]
        return cls(
            flows=[
                _unsettled(flow) if uuid in changing else flow or _Flow()
                for uuid, flow in zip(uuids, flows, strict=True)
            ],
            again=again,
            order=Order.of(uuids, sum(flow is not None for flow in last.values())),
        )


def _unsettled(flow: _Flow | None) -> _Flow:
    return _Flow(actions=f"{flow.match} {flow.actions}" if flow else "")


class _Texts:
    """Numbers flows' texts, for which whether they can be read hangs on nothing else; others 0.

    In one process that is the same for the same text but for literals and names, which can be read
    wherever others can: a group that there is, a set of addresses of the same kinds.
    """

    def __init__(self, groups: AbstractSet[str], kinds: Mapping[str, frozenset[str]]) -> None:
        """Take the groups that there are, and the kinds of addresses in each set."""
        self.numbers = array("q")
        self._groups, self._kinds = groups, kinds
        self._actions: dict[str, Alike] = {}

    def add(self, flow: _Flow, match: Alike) -> None:
        """Add a flow, whose match is `match` with others for its literals."""
        actions = self._actions.get(flow.actions)
        if actions is None:
            actions = self._actions[flow.actions] = alike(flow.actions)
        self.numbers.append(self._number(flow, match, actions))

    def _number(self, flow: _Flow, match: Alike, actions: Alike) -> int:
        groups = (*match.groups.values(), *actions.groups.values())
        kinds = [self._kinds.get(s) for s in (*match.sets.values(), *actions.sets.values())]
        templates = "^" in match.text or "^" in actions.text
        if not match.text or templates or None in kinds or not self._groups >= {*groups}:
            return 0
        return hash((flow.pipeline, flow.table_id, match.text, actions.text, *kinds))


def _add_datapath(transaction: lean.Transaction, key: int) -> None:
    """Add the datapath that fillers are in."""
    rows = RAW_OBJECT.decode(transaction.get(_DATAPATHS, b"{}"))
    rows[_ASIDE] = msgspec.Raw(msgspec.json.encode({"tunnel_key": key}))
    lean.put(transaction, _DATAPATHS, rows)
