"""Verdicts of the intent plane: what the objects say of every cell.

A packet passes when the egress side of its source and the ingress side of its destination both
let it. OVN-Kubernetes' own rules are part of what is meant: hosts are not isolated, a node always
reaches its own pods, and a Service is as reachable as its endpoints. Routes are not: an object
says who may talk, not that there is a way; but what goes from network to network is decided by
`audit.policy.networks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import ClusterState, Policy, Service
from audit.model.matrix import FAMILIES, Matrix, passing
from audit.model.networks import Role
from audit.model.packets import Family
from audit.model.policies import Action, Direction
from audit.model.verdicts import CODE, REASON_CODE, Blame, Reason, Verdict
from audit.policy import ports as porting
from audit.policy.cluster import Cluster, Vocabulary
from audit.policy.networks import APART, ISOLATED, OPEN, UNKNOWN, Networks, primary_networks
from audit.policy.population import Population
from audit.policy.tables import EITHER, NOBODY, PASSES, STOPS, Deciders, SideBuilder

CELLS_AT_A_TIME = 1 << 20
NO_NODE = -1
"""The number of the node of what is on none, or on one that is not known."""
NOT_APPLICABLE = (
    *(Reason.ENDPOINTS_UNKNOWN, Reason.CHANGED_MEANWHILE),
    Reason.OBJECT_CONTRADICTS,
)
_OF_NETWORKS = (
    (APART, Verdict.UNROUTABLE, Reason.OTHER_NETWORK),
    (ISOLATED, Verdict.BLOCKED, Reason.NETWORK_ISOLATED),
    (UNKNOWN, Verdict.INCONCLUSIVE, Reason.NETWORK_UNKNOWN),
)
"""What is written of cells that networks decide."""
_SAID_BY_NETWORKS = [REASON_CODE[why] for _, _, why in _OF_NETWORKS]
_OF_SECONDARY = frozenset({"multi-networkpolicies", "multinetworkpolicy"})
"""How the policies of secondary networks are called, their list or each, where they are unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Of many cells: bits of what may come out, and who decides (NOBODY: no rule, no isolation).

    `left` and `entered` are the bits of the source's side and of the destination's.
    """

    outcome: NDArray[np.uint8]
    left: NDArray[np.uint8]
    entered: NDArray[np.uint8]
    decider: NDArray[np.int32]
    exempt: NDArray[np.bool_]
    """The packet comes from the pod's own node, past its NetworkPolicies."""
    perhaps_exempt: NDArray[np.bool_]
    """The same, where it is not known on which node either is."""


class Intent:
    """The policies of a cluster applied to some endpoints and ports, in one address family."""

    def __init__(
        self,
        policies: Sequence[Policy],
        endpoints: Sequence[Endpoint],
        cluster: Cluster,
        ports: Sequence[Port],
        family: Family,
        *,
        blame: bool = True,
    ) -> None:
        """Make the tables of both sides; nothing is done per pair of endpoints."""
        self.deciders = Deciders(policies)
        words = Vocabulary.of(self.deciders.specs)
        self.people = Population(endpoints, cluster, words, family)
        led_to = {
            declared.port
            for e in endpoints
            if e.kind is EndpointKind.INGRESS
            for declared in e.declared
        }
        self.ports = porting.atoms(ports, words.ports, self.people.used_ports(), led_to)
        self.sides = {
            direction: SideBuilder(self.deciders, self.people, self.ports, direction, blame=blame)
            for direction in Direction
        }
        self.egress = self.sides[Direction.EGRESS].build()
        self.ingress = self.sides[Direction.INGRESS].build()
        names = sorted({e.node for e in endpoints if e.node})
        nodes = {name: number for number, name in enumerate(names)}
        self.nodes = np.array([nodes.get(e.node, NO_NODE) for e in endpoints], dtype=np.int32)

    @staticmethod
    def index(number: int) -> NDArray[np.int32]:
        """Return the index of one endpoint or port as `decide` takes it."""
        return np.array([number], dtype=np.int32)

    def decide(
        self, src: NDArray[np.int32], dst: NDArray[np.int32], port: NDArray[np.int32]
    ) -> Decided:
        """Decide cells, given by indices of endpoints and of ports."""
        sender, receiver, atom = self.people.of[src], self.people.of[dst], self.ports.of[port]
        by_host = self.people.host[sender] & self.people.pod_network[receiver]
        unknown = (self.nodes[src] == NO_NODE) | (self.nodes[dst] == NO_NODE)
        own_node = by_host & ~unknown & (self.nodes[src] == self.nodes[dst])
        perhaps = by_host & unknown
        never = np.zeros(len(src), dtype=np.bool_)
        out = self.egress.rows(sender, atom, never)
        into = self.ingress.rows(receiver, atom, own_node)
        left, entered = self.egress.outcome[out, receiver], self.ingress.outcome[into, sender]
        if perhaps.any():
            freed = self.ingress.outcome[self.ingress.rows(receiver, atom, perhaps), sender]
            entered = np.where(perhaps, entered | freed, entered)
        # To itself, by way of a Service: the switch turns it round before any policy is asked, and
        # lets in what it masked. No pod can block itself (networking.k8s.io/v1).
        left, entered = (
            np.where(src == dst, PASSES, bits).astype(np.uint8) for bits in (left, entered)
        )
        outcome = _both(left, entered)
        if self.egress.decider is None or self.ingress.decider is None:
            decider = np.full(len(src), NOBODY, np.int32)
        else:
            by_egress = self.egress.decider[out, receiver]
            by_ingress = self.ingress.decider[into, sender]
            # Of two that allow, the destination's: it is asked last. Of two that stop, the first.
            first = (left == STOPS) | ((entered == PASSES) & (left != PASSES))
            passing = (outcome == PASSES) & (by_ingress == NOBODY)
            decider = np.where(first | passing, by_egress, by_ingress)
        return Decided(
            outcome=outcome,
            left=left,
            entered=entered,
            decider=decider,
            exempt=own_node,
            perhaps_exempt=perhaps,
        )


def _both(left: NDArray[np.uint8], entered: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what may come out of two sides that must both pass."""
    outcome = (left & entered & PASSES) | ((left | entered) & STOPS)
    # What one side surely stops, the other cannot let through.
    return np.where((left == STOPS) | (entered == STOPS), STOPS, outcome).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentVerdicts:
    """What the objects say of each cell: parallel arrays of length N, codes as in CellVerdicts."""

    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    blame: NDArray[np.int32]
    blames: tuple[Blame, ...] = ()

    def passes(self) -> NDArray[np.bool_]:
        """Return which cells pass, as far as OVN goes."""
        return passing(self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Codes:
    """The same while they are being written."""

    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    whose: NDArray[np.int32]

    @classmethod
    def blank(cls, size: int) -> "_Codes":
        """Return the codes of as many cells, none of which is decided."""
        return cls(
            verdict=np.zeros(size, np.uint8),
            reason=np.zeros(size, np.uint8),
            whose=np.full(size, -1, np.int32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the cells of one address family are decided by."""

    intent: Intent
    words: "_Words"


class Evaluation:
    """A matrix being decided, family by family."""

    def __init__(self, matrix: Matrix, state: ClusterState, policies: Sequence[Policy]) -> None:
        """Find every endpoint there is: the matrix' own, and those behind its Services."""
        self._matrix = matrix
        self._cluster = Cluster.of(state)
        self._policies = policies
        unread = {name.partition(" ")[0] in _OF_SECONDARY for name in state.unread_policies}
        self._unread, self._unread_secondary = False in unread, True in unread
        self._services = {f"{s.namespace}/{s.name}": s for s in state.services}
        self._owners = state.owners()
        self._primary = primary_networks(state)
        self._endpoints = list(matrix.endpoints)
        self._index = {endpoint.key: i for i, endpoint in enumerate(matrix.endpoints)}
        self._ports = list(matrix.ports)
        self._number = {port: i for i, port in enumerate(matrix.ports)}
        kinds = [endpoint.kind is EndpointKind.SERVICE for endpoint in matrix.endpoints]
        self.is_service = np.array(kinds, dtype=np.bool_)
        leaves = [endpoint.kind is EndpointKind.EXTERNAL for endpoint in matrix.endpoints]
        self.leaves = np.array(leaves, dtype=np.bool_)
        held = {
            obstacle: np.array([e.obstacle == obstacle for e in matrix.endpoints], np.bool_)
            for obstacle in NOT_APPLICABLE
        }
        self._held = {obstacle: ends for obstacle, ends in held.items() if ends.any()}
        self.behind = dict(self._receivers())
        self.networks = Networks(self._endpoints, self._ports, state)

    def traits(self) -> NDArray[np.int64]:
        """Return a number per endpoint, the same where nothing but policies may tell two apart."""
        obstacles = [e.obstacle if e.obstacle in NOT_APPLICABLE else "" for e in self._endpoints]
        kinds = self.networks.kinds()
        _, numbers = np.unique(obstacles, return_inverse=True)
        return np.unique(
            np.stack([numbers.reshape(-1), kinds.reshape(-1)]), axis=1, return_inverse=True
        )[1].reshape(-1)

    def opened(self, dst: NDArray[np.int32], port: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tell which destinations open a port on a network that isolates them."""
        return self.networks.opened(dst, port)

    def _receivers(self) -> Iterator[tuple[tuple[int, int, int], NDArray[np.int32]]]:
        """Yield where packets to each Service, port and family go: (endpoint, port) pairs."""
        matrix = self._matrix
        cells = np.flatnonzero(self.is_service[matrix.dst])
        destinations = np.stack(
            [matrix.dst[cells], matrix.port[cells], matrix.family[cells]], axis=1
        )
        for dst, port, family in np.unique(destinations, axis=0).tolist() if cells.size else ():
            endpoint = matrix.endpoints[dst]
            service = self._services[f"{endpoint.namespace}/{endpoint.name}"]
            targets = [
                (self._endpoint(address), self._port(Port(protocol=port_.protocol, number=number)))
                for port_ in [matrix.ports[port]]
                for address, number in _targets(service, port_)
                if Family.of(address) is FAMILIES[family]
            ]
            yield (dst, port, family), np.array(sorted(targets), np.int32).reshape(-1, 2)

    def _endpoint(self, address: str) -> int:
        """Return who is behind a Service at an address on the default network.

        To a pod with a primary network of its own the Service leads there, whatever its slice says.
        """
        owner = self._owners.get(address) or Endpoint(
            kind=EndpointKind.EXTERNAL, name=address, addresses=(address,)
        )
        if owner.role is Role.LOCKED:
            owner = self._primary.get((owner.namespace, owner.name), owner)
        if owner.key not in self._index:
            self._index[owner.key] = len(self._endpoints)
            self._endpoints.append(owner)
        return self._index[owner.key]

    def _port(self, port: Port) -> int:
        if port not in self._number:
            self._number[port] = len(self._ports)
            self._ports.append(port)
        return self._number[port]

    def run(self, *, blame: bool = True) -> IntentVerdicts:
        """Decide every cell."""
        matrix, size = self._matrix, len(self._matrix)
        whole = _Codes.blank(size)
        blames = self.networks.blames
        for family in sorted(set(np.unique(matrix.family).tolist())):
            tables = self.tables(family, len(blames), blame=blame)
            for start in range(0, size, CELLS_AT_A_TIME):
                rows = slice(start, min(start + CELLS_AT_A_TIME, size))
                mine = matrix.family[rows] == family
                served = self.is_service[matrix.dst[rows]]
                plain = np.flatnonzero(mine & ~served) + start
                # Mostly all of them, and a slice costs nothing.
                cells = plain if len(plain) < rows.stop - start else rows
                self._decide_plain(matrix, tables, cells, whole)
                services = np.flatnonzero(mine & served) + start
                self._decide_services(matrix, tables, services, whole)
            blames += tables.intent.deciders.blames()
        self._set_aside(matrix, whole)
        return IntentVerdicts(
            verdict=whole.verdict, reason=whole.reason, blame=whole.whose, blames=blames
        )

    def tables(self, family: int, offset: int, *, blame: bool = True) -> "Tables":
        """Return what cells of a family are decided by; `offset` is where its blames begin."""
        intent = Intent(
            self._policies,
            self._endpoints,
            self._cluster,
            self._ports,
            FAMILIES[family],
            blame=blame,
        )
        return Tables(intent=intent, words=_Words(intent.deciders, offset))

    def decide(self, cells: Matrix, tables: "Tables") -> IntentVerdicts:
        """Decide other cells, all of one family, between the same endpoints on the same ports.

        Whose destination is a Service is one of the matrix', port and family too.
        """
        codes = _Codes.blank(len(cells))
        served = self.is_service[cells.dst]
        self._decide_plain(cells, tables, np.flatnonzero(~served), codes)
        self._decide_services(cells, tables, np.flatnonzero(served), codes)
        self._set_aside(cells, codes)
        return IntentVerdicts(verdict=codes.verdict, reason=codes.reason, blame=codes.whose)

    def _decide_plain(
        self,
        matrix: Matrix,
        tables: "Tables",
        cells: NDArray[np.int64] | slice,
        into: "_Codes",
    ) -> None:
        """Decide cells whose destination is no Service."""
        src, dst, port = matrix.src[cells], matrix.dst[cells], matrix.port[cells]
        if not len(src):
            return
        decided = tables.intent.decide(src, dst, port)
        codes = tables.words.say(decided, self.leaves[dst])
        into.verdict[cells], into.reason[cells], into.whose[cells] = codes
        if self.networks.any:
            some = np.arange(cells.start, cells.stop) if isinstance(cells, slice) else cells
            self._keep_apart(matrix, some, into, decided)

    def _keep_apart(
        self,
        matrix: Matrix,
        cells: NDArray[np.int64],
        into: "_Codes",
        sides: Decided | None = None,
    ) -> None:
        """Write what networks say of some cells over what policies do."""
        src, dst = matrix.src[cells], matrix.dst[cells]
        codes = self.networks.decide(src, dst, matrix.port[cells], sides)
        for code, decision, why in _OF_NETWORKS:
            into.verdict[cells[codes == code]] = CODE[decision]
            into.reason[cells[codes == code]] = REASON_CODE[why]
            into.whose[cells[codes == code]] = -1
        isolated = codes == ISOLATED
        into.whose[cells[isolated]] = self.networks.blame(src[isolated], dst[isolated])

    def _decide_services(
        self, matrix: Matrix, tables: "Tables", cells: NDArray[np.int64], into: "_Codes"
    ) -> None:
        """Decide cells of Services by their endpoints: all of them, or it is not decided."""
        verdict, reason, whose = into.verdict, into.reason, into.whose
        if not cells.size:
            return
        destinations = np.stack(
            [matrix.dst[cells], matrix.port[cells], matrix.family[cells]], axis=1
        )
        keys, group = np.unique(destinations, axis=0, return_inverse=True)
        for number, key in enumerate(keys):
            to_port = cells[group.reshape(-1) == number]
            dst, port, family = key.tolist()
            behind = self.behind[dst, port, family]
            if not len(behind):
                verdict[to_port] = CODE[Verdict.UNROUTABLE]
                reason[to_port] = REASON_CODE[self._nothing_behind(dst, port)]
                continue
            by_backend = [
                self._by_backend(tables.intent, matrix.src[to_port], endpoint, target)
                for endpoint, target in behind.tolist()
            ]
            bits = np.bitwise_or.reduce([decided.outcome for decided in by_backend])
            passing = bits == PASSES
            first = replace(by_backend[0], outcome=bits)
            inside = np.zeros(len(to_port), dtype=np.bool_)
            codes = tables.words.say(first, inside)
            verdict[to_port], reason[to_port], whose[to_port] = codes
            reason[to_port[passing]] = REASON_CODE[Reason.ALL_BACKENDS]
            whose[to_port[passing]] = -1
            mixed = np.array([decided.outcome for decided in by_backend])
            sure = ((mixed == PASSES) | (mixed == STOPS)).all(axis=0)
            reason[to_port[sure & (bits == EITHER)]] = REASON_CODE[Reason.BACKENDS_DIFFER]
        if self.networks.any:
            self._keep_apart(matrix, cells, into)

    def _by_backend(
        self, intent: Intent, src: NDArray[np.int32], endpoint: int, target: int
    ) -> Decided:
        """Decide what goes to one endpoint of a Service."""
        dst, port = (np.full(len(src), number, np.int32) for number in (endpoint, target))
        decided = intent.decide(src, dst, port)
        codes = self.networks.decide(src, dst, port, decided)
        bits = np.array([0, STOPS, STOPS, EITHER], np.uint8)[codes]
        return replace(decided, outcome=np.where(codes == OPEN, decided.outcome, bits))

    def _nothing_behind(self, dst: int, port: int) -> Reason:
        """Say why no packet to a Service's port goes anywhere."""
        endpoint = self._matrix.endpoints[dst]
        service = self._services[f"{endpoint.namespace}/{endpoint.name}"]
        declared = any(
            service_port.port == self._matrix.ports[port] for service_port in service.ports
        )
        if declared or service.headless:
            return Reason.SERVICE_WITHOUT_ENDPOINTS
        return Reason.SERVICE_NOT_PROGRAMMED

    def _set_aside(self, matrix: Matrix, into: "_Codes") -> None:
        """Leave out what policies cannot be applied to here, by the obstacle of either end.

        Without a kind of policy that exists, nothing is known of any cell that policies decide;
        without MultiNetworkPolicies, of none on a secondary network.
        """
        src, dst = matrix.src, matrix.dst
        if self._unread or self._unread_secondary:
            cells = np.isin(into.reason, _SAID_BY_NETWORKS, invert=True)
            if not self._unread:
                cells &= self.networks.secondary(src, dst)
            into.verdict[cells] = CODE[Verdict.INCONCLUSIVE]
            into.reason[cells] = REASON_CODE[Reason.POLICY_UNKNOWN]
            into.whose[cells] = -1
        for obstacle, held in self._held.items():
            cells = held[src] | held[dst]
            into.verdict[cells] = CODE[Verdict.UNTRACED]
            into.reason[cells] = REASON_CODE[obstacle]
            into.whose[cells] = -1


def _targets(service: Service, port: Port) -> set[tuple[str, int]]:
    """Return the addresses and ports that packets to a Service's port go to.

    Of a headless Service no one translates a port it does not declare.
    """
    if service.headless and port not in {declared.port for declared in service.ports}:
        return {(behind.address, port.sample) for behind in service.endpoints}
    return {(b.address, b.target) for b in service.endpoints if b.port == port}


class _Words:
    """Turns bits and deciders into codes of verdicts and reasons."""

    def __init__(self, deciders: Deciders, offset: int) -> None:
        blames = deciders.blames()
        self._offset = offset
        passing = [blame.action == Action.PASS.lower() for blame in blames]
        self._passes_on = np.array([*passing, False], dtype=np.bool_)
        isolating = [blame.action == "default-deny" for blame in blames]
        self._isolates = np.array([*isolating, False], dtype=np.bool_)

    def say(
        self, decided: Decided, leaves: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]]:
        """Return verdicts, reasons and blames; `leaves` says whose destination is outside."""
        outcome, decider = decided.outcome, decided.decider
        passes = outcome == PASSES
        verdict = np.full(len(outcome), CODE[Verdict.INCONCLUSIVE], np.uint8)
        verdict[passes] = CODE[Verdict.REACHABLE]
        verdict[passes & leaves] = CODE[Verdict.EXITS]
        verdict[outcome == STOPS] = CODE[Verdict.BLOCKED]
        # A rule that passes on decides nothing: what came out in the end needed no rule.
        whose = np.where(passes & self._passes_on[decider], NOBODY, decider)
        reason = np.full(len(outcome), REASON_CODE[Reason.POLICY_UNKNOWN], np.uint8)
        reason[passes] = REASON_CODE[Reason.ALLOWED_BY_POLICY]
        reason[passes & (whose == NOBODY)] = REASON_CODE[Reason.NO_POLICY]
        reason[passes & (whose == NOBODY) & decided.exempt] = REASON_CODE[Reason.OWN_NODE]
        stops = outcome == STOPS
        reason[stops] = REASON_CODE[Reason.POLICY_DENY]
        reason[stops & self._isolates[decider]] = REASON_CODE[Reason.DEFAULT_DENY]
        return verdict, reason, np.where(whose == NOBODY, -1, whose + self._offset).astype(np.int32)


def evaluate(
    matrix: Matrix,
    state: ClusterState,
    policies: Sequence[Policy] | None = None,
    *,
    blame: bool = True,
) -> IntentVerdicts:
    """Return what the policies of a cluster, or others in their place, say of every cell."""
    chosen = state.policies if policies is None else policies
    return Evaluation(matrix, state, chosen).run(blame=blame)
