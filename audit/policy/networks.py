"""What goes from network to network, of which no policy speaks. Pure; by array per cell.

A pod whose primary network is a user-defined one keeps a port on the default network, which
OVN-Kubernetes isolates: it is for the pod's own node and for the ports that the pod opens there.
That is decided before any policy of the pod's is asked. Between any other two networks there is no
way, and out of a secondary one neither. How a node, or a Service of another network, is reached
from a user-defined network is not in the objects, nor is what an underlay joins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import ClusterState
from audit.model.networks import LOCALNET, Role
from audit.model.owners import isolation
from audit.model.policies import Direction
from audit.model.verdicts import Blame, Reason
from audit.policy.tables import STOPS

Flags = NDArray[np.bool_]
OPEN, APART, ISOLATED, UNKNOWN = range(4)
"""What networks say of a cell: nothing, no way, isolation, or what is not known."""


class Sides(Protocol):
    """What policies decide of some cells, as far as networks ask."""

    @property
    def left(self) -> NDArray[np.uint8]:
        """Bits of what the source's side does."""

    @property
    def exempt(self) -> Flags:
        """Whether the packet comes from the pod's own node."""

    @property
    def perhaps_exempt(self) -> Flags:
        """The same, where it is not known on which node either is."""


def primary_networks(state: ClusterState) -> Mapping[tuple[str, str], Endpoint]:
    """Return pods, by namespace and name, as they are on a primary user-defined network."""
    return {(e.namespace, e.name): e for e in state.pods if e.network and e.role is Role.PRIMARY}


class Networks:
    """The networks of some endpoints. `any` tells whether there is more than the default one."""

    def __init__(
        self, endpoints: Sequence[Endpoint], ports: Sequence[Port], state: ClusterState
    ) -> None:
        """Give each network a number; a Service is on that of its namespace's pods."""
        primary = primary_networks(state)
        of_namespace = {namespace: pod.network for (namespace, _), pod in primary.items()}
        names = [
            of_namespace.get(e.namespace, "") if e.kind is EndpointKind.SERVICE else e.network
            for e in endpoints
        ]
        self._number = np.unique(names, return_inverse=True)[1]
        shared = {n.name for n in state.attached.values() if n.topology == LOCALNET}

        def which(test: Callable[[Endpoint], bool]) -> Flags:
            return np.array([test(e) for e in endpoints], np.bool_)

        self._user_defined = np.array([bool(name) for name in names], np.bool_)
        self._service = which(lambda e: e.kind is EndpointKind.SERVICE)
        self._pod = which(lambda e: e.kind is EndpointKind.POD and not e.host_network)
        self._host = which(lambda e: e.host_network)
        self._comes_in = which(lambda e: e.kind is EndpointKind.INGRESS)
        self._locked = which(lambda e: e.role is Role.LOCKED)
        self._secondary = which(lambda e: e.role is Role.SECONDARY)
        self._doubtful = which(lambda e: e.obstacle == Reason.NETWORK_UNKNOWN)
        self._underlay = which(lambda e: e.network in shared)
        self._joined = state.joined
        self.any = bool((self._user_defined | self._doubtful | self._locked).any())
        self._isolate(endpoints, ports, primary)

    def _isolate(
        self,
        endpoints: Sequence[Endpoint],
        ports: Sequence[Port],
        primary: Mapping[tuple[str, str], Endpoint],
    ) -> None:
        """Name who isolates each locked port, and mark the ports that are open there."""
        locked = [index for index, e in enumerate(endpoints) if e.role is Role.LOCKED]
        pods = {index: (endpoints[index].namespace, endpoints[index].name) for index in locked}
        of = {
            index: primary[pod].network if pod in primary else f"of pod {'/'.join(pod)}"
            for index, pod in pods.items()
        }
        names = sorted({*of.values()})
        self.blames = tuple(
            Blame(
                action="drop",
                direction=direction,
                owner=isolation(f"network {name}"),
            )
            for direction in Direction
            for name in names
        )
        """Who isolates: by direction, as the pod sees it, and network."""
        self._directions = {direction: n * len(names) for n, direction in enumerate(Direction)}
        self._isolation = np.zeros(len(endpoints), np.int32)
        self._isolation[locked] = [names.index(of[index]) for index in locked]
        self._opens = np.zeros(len(endpoints), np.int32)
        """Where each endpoint is in `_opened`, of which the first is those that open nothing."""
        sets = sorted({e.opened for e in endpoints} | {()})
        self._opens[:] = [sets.index(e.opened) for e in endpoints]
        self._opened = np.array(
            [
                [any(p.protocol is o.protocol and p.sample == o.number for o in s) for p in ports]
                for s in sets
            ],
            np.bool_,
        ).reshape(len(sets), -1)

    def kinds(self) -> NDArray[np.int64]:
        """Return a number per endpoint, the same where networks tell them apart on no port."""
        flags = (
            *(self._user_defined, self._service, self._pod, self._host, self._comes_in),
            *(self._locked, self._secondary, self._doubtful, self._underlay),
        )
        columns = np.stack([self._number.reshape(-1), self._isolation, *flags])
        kinds: NDArray[np.int64] = np.unique(columns, axis=1, return_inverse=True)[1].reshape(-1)
        return kinds

    def opened(self, dst: NDArray[np.int32], port: NDArray[np.int32]) -> Flags:
        """Tell which destinations open a port on the network that isolates them."""
        opens: Flags = self._opened[self._opens[dst], port]
        return opens

    def secondary(self, src: NDArray[np.int32], dst: NDArray[np.int32]) -> Flags:
        """Tell which cells are within a secondary network."""
        within: Flags = self._number[src] == self._number[dst]
        return self._secondary[src] & self._secondary[dst] & within

    def blame(self, src: NDArray[np.int32], dst: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return who isolates, of cells that are isolated, by index of `blames`."""
        leaves = self._locked[src]
        first = np.where(
            leaves, self._directions[Direction.EGRESS], self._directions[Direction.INGRESS]
        )
        numbers: NDArray[np.int32] = (first + self._isolation[np.where(leaves, src, dst)]).astype(
            np.int32
        )
        return numbers

    def decide(
        self,
        src: NDArray[np.int32],
        dst: NDArray[np.int32],
        port: NDArray[np.int32],
        sides: Sides | None = None,
    ) -> NDArray[np.uint8]:
        """Return what networks say of cells; nothing where the source's policies stop the packet.

        Without `sides`, nothing is known of policies and nodes.
        """
        within = self._number[src] == self._number[dst]
        elsewhere = self._pod[src] & self._pod[dst] & ~within
        apart = elsewhere | self._no_way_out(src, dst, within=within)
        unknown = self._is_unknown(src, dst, within=within)
        unknown |= apart & (self._underlay[src] | self._underlay[dst] | self._joined)
        locked = self._locked[dst] & ~elsewhere & ~self.opened(dst, port)
        stopped = np.zeros(len(src), np.bool_)
        if sides is not None:
            stopped = sides.left == STOPS
            unknown |= locked & sides.perhaps_exempt
            locked &= ~(sides.exempt | sides.perhaps_exempt)
        codes = np.full(len(src), OPEN, np.uint8)
        codes[apart] = APART
        codes[unknown] = UNKNOWN
        codes[locked] = ISOLATED
        codes[stopped & ~apart] = OPEN
        codes[self._locked[src]] = ISOLATED
        return codes

    def _no_way_out(
        self, src: NDArray[np.int32], dst: NDArray[np.int32], *, within: Flags
    ) -> Flags:
        """Tell what a network has no way to that is no pod: a secondary one has a gateway to none.

        A user-defined network's Services are known there only.
        """
        leaves = (self._secondary[src] & ~self._pod[dst]) | (self._secondary[dst] & ~self._pod[src])
        served = self._service[dst] & self._user_defined[dst] & self._pod[src] & ~within
        both: Flags = leaves | served
        return both

    def _is_unknown(
        self, src: NDArray[np.int32], dst: NDArray[np.int32], *, within: Flags
    ) -> Flags:
        here = self._user_defined & ~self._secondary
        doubtful = (self._doubtful[src] | self._doubtful[dst]) & ~(within & self._user_defined[src])
        # By which of its networks a node reaches a pod, and what of it, depends on the cluster.
        hosts = (here[src] & self._host[dst]) | (self._host[src] & here[dst])
        # Nor is it known on which network a controller is.
        comes_in = self._comes_in[src] & here[dst]
        # The cluster's own Services are reached through the node, others are not.
        leaves = here[src] & ~self._user_defined[dst]
        enters = ~self._pod[src] & self._user_defined[dst]
        unknown: Flags = doubtful | hosts | comes_in | (self._service[dst] & (leaves | enters))
        return unknown
