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
_NO_NODE = -1
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
        self._node = np.array([nodes.get(e.node, _NO_NODE) for e in endpoints], dtype=np.int32)

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
        unknown = (self._node[src] == _NO_NODE) | (self._node[dst] == _NO_NODE)
        own_node = by_host & ~unknown & (self._node[src] == self._node[dst])
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
    blames: tuple[Blame, ...]

    def passes(self) -> NDArray[np.bool_]:
        """Return which cells pass, as far as OVN goes."""
        return passing(self.verdict)


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
        self._is_service = np.array(kinds, dtype=np.bool_)
        self._behind = dict(self._receivers())
        self._networks = Networks(self._endpoints, self._ports, state)

    def _receivers(self) -> Iterator[tuple[tuple[int, int, int], NDArray[np.int32]]]:
        """Yield where packets to each Service, port and family go: (endpoint, port) pairs."""
        matrix = self._matrix
        cells = np.flatnonzero(self._is_service[matrix.dst])
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
        verdict = np.zeros(size, np.uint8)
        reason = np.zeros(size, np.uint8)
        whose = np.full(size, -1, np.int32)
        blames = self._networks.blames
        leaves = np.array([e.kind is EndpointKind.EXTERNAL for e in matrix.endpoints], np.bool_)
        for family in sorted(set(np.unique(matrix.family).tolist())):
            intent = Intent(
                self._policies,
                self._endpoints,
                self._cluster,
                self._ports,
                FAMILIES[family],
                blame=blame,
            )
            words = _Words(intent.deciders, len(blames))
            for start in range(0, size, CELLS_AT_A_TIME):
                rows = slice(start, min(start + CELLS_AT_A_TIME, size))
                mine = matrix.family[rows] == family
                served = self._is_service[matrix.dst[rows]]
                plain = np.flatnonzero(mine & ~served) + start
                if len(plain):
                    # Mostly all of them, and a slice costs nothing.
                    cells = plain if len(plain) < rows.stop - start else rows
                    decided = intent.decide(
                        matrix.src[cells], matrix.dst[cells], matrix.port[cells]
                    )
                    codes = words.say(decided, leaves[matrix.dst[cells]])
                    verdict[cells], reason[cells], whose[cells] = codes
                    if self._networks.any:
                        self._keep_apart(plain, (verdict, reason, whose), decided)
                services = np.flatnonzero(mine & served) + start
                self._decide_services(intent, words, services, (verdict, reason, whose))
            blames += intent.deciders.blames()
        self._set_aside(verdict, reason, whose)
        return IntentVerdicts(verdict=verdict, reason=reason, blame=whose, blames=blames)

    def _keep_apart(
        self,
        cells: NDArray[np.int64],
        into: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]],
        sides: Decided | None = None,
    ) -> None:
        """Write what networks say of some cells over what policies do."""
        matrix = self._matrix
        verdict, reason, whose = into
        src, dst = matrix.src[cells], matrix.dst[cells]
        codes = self._networks.decide(src, dst, matrix.port[cells], sides)
        for code, decision, why in _OF_NETWORKS:
            verdict[cells[codes == code]] = CODE[decision]
            reason[cells[codes == code]] = REASON_CODE[why]
            whose[cells[codes == code]] = -1
        isolated = codes == ISOLATED
        whose[cells[isolated]] = self._networks.blame(src[isolated], dst[isolated])

    def _decide_services(
        self,
        intent: Intent,
        words: "_Words",
        cells: NDArray[np.int64],
        into: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]],
    ) -> None:
        """Decide cells of Services by their endpoints: all of them, or it is not decided."""
        matrix = self._matrix
        verdict, reason, whose = into
        if not cells.size:
            return
        destinations = np.stack(
            [matrix.dst[cells], matrix.port[cells], matrix.family[cells]], axis=1
        )
        keys, group = np.unique(destinations, axis=0, return_inverse=True)
        for number, key in enumerate(keys):
            to_port = cells[group.reshape(-1) == number]
            dst, port, family = key.tolist()
            behind = self._behind[dst, port, family]
            if not len(behind):
                verdict[to_port] = CODE[Verdict.UNROUTABLE]
                reason[to_port] = REASON_CODE[self._nothing_behind(dst, port)]
                continue
            by_backend = [
                self._by_backend(intent, matrix.src[to_port], endpoint, target)
                for endpoint, target in behind.tolist()
            ]
            bits = np.bitwise_or.reduce([decided.outcome for decided in by_backend])
            passing = bits == PASSES
            first = replace(by_backend[0], outcome=bits)
            inside = np.zeros(len(to_port), dtype=np.bool_)
            verdict[to_port], reason[to_port], whose[to_port] = words.say(first, inside)
            reason[to_port[passing]] = REASON_CODE[Reason.ALL_BACKENDS]
            whose[to_port[passing]] = -1
            mixed = np.array([decided.outcome for decided in by_backend])
            sure = ((mixed == PASSES) | (mixed == STOPS)).all(axis=0)
            reason[to_port[sure & (bits == EITHER)]] = REASON_CODE[Reason.BACKENDS_DIFFER]
        if self._networks.any:
            self._keep_apart(cells, into)

    def _by_backend(
        self, intent: Intent, src: NDArray[np.int32], endpoint: int, target: int
    ) -> Decided:
        """Decide what goes to one endpoint of a Service."""
        dst, port = (np.full(len(src), number, np.int32) for number in (endpoint, target))
        decided = intent.decide(src, dst, port)
        codes = self._networks.decide(src, dst, port, decided)
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

    def _set_aside(
        self,
        verdict: NDArray[np.uint8],
        reason: NDArray[np.uint8],
        whose: NDArray[np.int32],
    ) -> None:
        """Leave out what policies cannot be applied to here, by the obstacle of either end.

        Without a kind of policy that exists, nothing is known of any cell that policies decide;
        without MultiNetworkPolicies, of none on a secondary network.
        """
        src, dst = self._matrix.src, self._matrix.dst
        if self._unread or self._unread_secondary:
            cells = np.isin(reason, _SAID_BY_NETWORKS, invert=True)
            if not self._unread:
                cells &= self._networks.secondary(src, dst)
            verdict[cells] = CODE[Verdict.INCONCLUSIVE]
            reason[cells] = REASON_CODE[Reason.POLICY_UNKNOWN]
            whose[cells] = -1
        for obstacle in NOT_APPLICABLE:
            held = np.array([e.obstacle == obstacle for e in self._matrix.endpoints], np.bool_)
            if held.any():
                cells = held[src] | held[dst]
                verdict[cells] = CODE[Verdict.UNTRACED]
                reason[cells] = REASON_CODE[obstacle]
                whose[cells] = -1


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
