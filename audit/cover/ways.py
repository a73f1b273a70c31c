"""Transit legs: which pairs of senders and receivers routers tell apart. Pure.

Between two pods' switches a pair is a way of its own, and so is a pod of which flows on the way say
something of its own, unless routers treat several zones alike (`audit.cover.routers`): then each
sender has one way to all of these. A node's own address is behind no switch, and most nodes'
addresses are to a zone's routers one like the other: nothing in the zone names them, and they leave
by the gateway. Such share a way, from each sender. So do endpoints of a network that no port leads
to from the sender's: of these only what the flows of the sender's own network say of their address
matters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.cover.identities import At
from audit.model.endpoints import Endpoint
from audit.model.legs import Packets
from audit.model.packets import Family

MOST_PACKETS = 100_000
"""Were there more, the cells of each would be traced one by one, as far as that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitClasses:
    """Numbers, by endpoint, of where it sends from, is sent to, and is answered at.

    The endpoints of one number are alike to every logical flow between the switches.
    """

    sending: NDArray[np.int64]
    receiving: NDArray[np.int64]
    answered: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What is between networks. `network` is each endpoint's.

    `joined` are, by zone and switch, the networks that its packets can come to; `addresses` are, by
    network, numbers for what its flows say of each endpoint's address; `exact` are, by network,
    the endpoints whose address its flows name by itself.
    """

    network: Sequence[str]
    joined: Mapping[tuple[str, str], frozenset[str]]
    addresses: Mapping[str, NDArray[np.int64]]
    exact: Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Of each pair of classes, shape (senders, receivers): the transit leg, and if one leads there.

    A pair is `unjoined` where no port leads from the sender's network to the receiver's. `common`
    are, by leg, those to several zones that routers treat alike; `apart` are legs that keep these
    apart, as each node's own flows do.
    """

    legs: NDArray[np.int64]
    common: NDArray[np.bool_]
    apart: NDArray[np.int64]
    unjoined: NDArray[np.bool_]


def ends(classes: TransitClasses) -> tuple[list[int], list[tuple[int, At]]]:
    """Return an endpoint of each class that sends, and of each that is sent to or answered at."""
    sent_to, answered = _one_of_each(classes.receiving), _one_of_each(classes.answered)
    receivers = [
        (sent_to[number], At.DST) if number in sent_to else (answered[number], At.REPLY_TO)
        for number in range(max(_count(classes.receiving), _count(classes.answered)))
    ]
    return list(_one_of_each(classes.sending).values()), receivers


def ways(
    endpoints: Sequence[Endpoint],
    classes: TransitClasses,
    host_marks: Mapping[str, Mapping[int, object]],
    crossing: Crossing,
    alike: Callable[[int], NDArray[np.int64]] | None = None,
) -> Ways:
    """Return the ways between classes.

    `host_marks` number, by zone and endpoint, what the zone's flows say of hosts' addresses.
    `alike` returns numbers of an endpoint's ways to all classes of receivers, which routers treat
    alike where they are the same, and below 0 where that is not known.
    """
    receivers = _Receivers(endpoints, classes, crossing)
    shape = (_count(classes.sending), receivers.count)
    legs, apart = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    unjoined = np.zeros(shape, dtype=np.bool_)
    rows: dict[_From, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}
    count = count_apart = 0
    for sender, index in _one_of_each(classes.sending).items():
        at = endpoints[index].attachment
        key = _From()
        if at is not None:
            key = _From(at.zone, at.switch, crossing.network[index], at.segment)
        if key not in rows:
            rows[key] = receivers.row(key, host_marks.get(key.zone))
        row, unjoined[sender] = rows[key]
        apart[sender] = count_apart + row
        count_apart += int(row.max(initial=-1)) + 1
        if alike is not None:
            row = _together(row, np.where(unjoined[sender] | receivers.hosts, -1, alike(index)))
        legs[sender] = count + row
        count += int(row.max(initial=-1)) + 1
    places = np.zeros(count, dtype=np.int64)
    one_of_each_way = np.unique(np.stack([legs.reshape(-1), apart.reshape(-1)]), axis=1)[0]
    np.add.at(places, one_of_each_way, 1)
    return Ways(legs=legs, common=places > 1, apart=apart, unjoined=unjoined)


def _together(row: NDArray[np.int64], alike: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers of a sender's ways where some are alike besides: those that have a number."""
    keys = np.stack([alike >= 0, np.where(alike >= 0, alike, row)])
    _, together = np.unique(keys, axis=1, return_inverse=True)
    return together.reshape(-1).astype(np.int64)


def packets(
    endpoints: Sequence[Endpoint], crossing: Crossing, family: Family, ports: int
) -> Packets | None:
    """Return which packets between networks are the same, whomever they are meant for.

    To an address that flows of the sender's network name, as it is one of its own pods', what
    becomes of a packet is told by that pod's side, whose policies know senders and ports. `ports`
    is how many are asked about. None where there are no such packets, or more than are traced.
    """
    if not any(crossing.exact.values()):
        return None
    names, network = np.unique(np.array(crossing.network), return_inverse=True)
    address = np.full((len(names), len(endpoints)), -1, dtype=np.int32)
    sizes = np.zeros(len(names), dtype=np.int64)
    for number, name in enumerate(names.tolist()):
        numbers: dict[str | None, int] = {}
        for index in sorted(crossing.exact.get(name, ())):
            listed = numbers.setdefault(endpoints[index].address(family), len(numbers))
            address[number, index] = listed
        sizes[number] = len(numbers)
    count = np.where([e.attachment is not None for e in endpoints], sizes[network.reshape(-1)], 0)
    total = int(count.sum()) * ports
    if total > MOST_PACKETS:
        return None
    return Packets(
        network=network.reshape(-1).astype(np.int32),
        address=address,
        first=np.cumsum(count) - count,
        ports=ports,
        count=total,
    )


class _From(NamedTuple):
    """Where a packet begins: all of the sender that its ways depend on."""

    zone: str = ""
    switch: str = ""
    network: str = ""
    segment: str = ""


class _Receivers:
    """The classes that are sent to or answered at, and an endpoint of each that is sent to."""

    def __init__(
        self, endpoints: Sequence[Endpoint], classes: TransitClasses, crossing: Crossing
    ) -> None:
        self.count = max(_count(classes.receiving), _count(classes.answered))
        self._crossing = crossing
        at_class = _one_of_each(classes.receiving)
        # Where a node is answered nobody is sent to.
        self._endpoint = np.array([at_class.get(n, -1) for n in range(self.count)], dtype=np.int64)
        sent_to = self._endpoint >= 0
        hosts = np.array([e.host_network for e in endpoints], dtype=np.bool_)
        self.hosts = sent_to & hosts[self._endpoint]
        names, numbers = np.unique(np.array(crossing.network), return_inverse=True)
        self._names = [str(name) for name in names]
        self._network = np.where(sent_to & ~self.hosts, numbers[self._endpoint], -1)
        segments = [e.attachment.segment if e.attachment is not None else "" for e in endpoints]
        self._segment = np.array(segments)[self._endpoint]

    def row(
        self, sender: _From, host_marks: Mapping[int, object] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return numbers of the ways from a switch, and which lead to no such network."""
        networks = frozenset({sender.network})
        joined = self._crossing.joined.get((sender.zone, sender.switch), networks)
        addresses = self._crossing.addresses.get(sender.network)
        kind = np.zeros(self.count, dtype=np.int64)
        alike = np.arange(self.count, dtype=np.int64)
        if host_marks is not None:
            kind[self.hosts] = 1
            numbers: dict[object, int] = {}
            marks = [host_marks[index] for index in self._endpoint[self.hosts].tolist()]
            alike[self.hosts] = [numbers.setdefault(mark, len(numbers)) for mark in marks]
        unjoined = np.zeros(self.count, dtype=np.bool_)
        if addresses is not None:
            others = [n for n, name in enumerate(self._names) if name not in joined]
            unjoined = np.isin(self._network, others)
            if sender.segment:  # there pods are sent to by their MAC, whatever network they are of
                unjoined &= self._segment != sender.segment
            kind[unjoined] = 2
            alike[unjoined] = addresses[self._endpoint[unjoined]]
        _, row = np.unique(np.stack([kind, alike]), axis=1, return_inverse=True)
        return row.reshape(-1).astype(np.int64), unjoined


def _one_of_each(classes: NDArray[np.int64]) -> dict[int, int]:
    """Return an endpoint of each class."""
    numbers, first = np.unique(classes, return_index=True)
    return dict(zip(numbers.tolist(), first.tolist(), strict=True))


def _count(classes: NDArray[np.int64]) -> int:
    return int(classes.max(initial=-1)) + 1
