"""What one side of every packet is decided by: tables over classes of endpoints and of ports.

The subject of a policy is one end of a packet, its peers are the other. So for each class of
subjects that the same policies select, and each group of ports that their rules do not tell
apart, there is a *vector*: over all classes as the other end, what is decided and by which rule.
Subjects and ports that share their policies and rules share a vector, and most share the one in
which no policy has a say.

Where an address or a name is not known, neither is whether a rule matches. Then every decision
that may come out is kept, as a set of bits: what is both PASSES and STOPS is not decided.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import NamedPort, Port
from audit.model.facts import Policy
from audit.model.policies import Action, Direction, PolicySpec, PortMatch, Rule, Tier
from audit.model.verdicts import Blame
from audit.policy.population import Chosen, Classes, Population
from audit.policy.ports import PortAtoms, matches

PASSES, STOPS, NEXT = 1, 2, 4
"""Bits of what may come out; NEXT is no decision in this tier."""
EITHER = PASSES | STOPS
NOBODY = -1
"""The decider of what no rule matched and no policy isolates."""

_BITS = {Action.ALLOW: PASSES, Action.DENY: STOPS, Action.PASS: NEXT}
_TIERS = (Tier.ADMIN, Tier.NETWORK_POLICY, Tier.BASELINE, Tier.FIREWALL)

Row = tuple[NDArray[np.uint8], NDArray[np.int32]]
"""Over all classes: what may come out, and the number of the decider."""
Selected = tuple[tuple[int, ...], ...]
"""The policies that select a subject, by tier as in _TIERS, in the order they are evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideTable:
    """One direction: `vector[c, a]` is the row, for subject class c and port atom a.

    `exempt` is the same for packets from a subject's own node, which OVN-Kubernetes lets past
    NetworkPolicies. `outcome[v, c]` are bits over the other end's class, `decider[v, c]` indexes
    `Deciders.blames`, or is absent where nobody asked for it.
    """

    vector: NDArray[np.int32]
    exempt: NDArray[np.int32]
    outcome: NDArray[np.uint8]
    decider: NDArray[np.int32] | None

    def rows(
        self, subject: NDArray[np.int32], atom: NDArray[np.int32], own_node: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """Return the vector of each of many cells, by subject, port atom, and exemption."""
        plain = self.vector[subject, atom]
        return np.where(own_node, self.exempt[subject, atom], plain) if own_node.any() else plain


class Deciders:
    """Everything that can decide: every rule, by number, then every set of isolating policies."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        """Give each rule of each policy its number, in their order."""
        self.policies = tuple(p for p in policies if p.spec is not None)
        self.specs: tuple[PolicySpec, ...] = tuple(p.spec for p in policies if p.spec is not None)
        self.rules: list[tuple[int, Rule]] = []
        self.numbers: list[dict[Direction, range]] = []
        for index, spec in enumerate(self.specs):
            spans = {}
            for direction in Direction:
                start = len(self.rules)
                self.rules += [(index, rule) for rule in spec.facing(direction)]
                spans[direction] = range(start, len(self.rules))
            self.numbers.append(spans)
        self._denies: dict[tuple[Direction, tuple[int, ...]], int] = {}

    def deny(self, direction: Direction, isolating: tuple[int, ...]) -> int:
        """Return the number of a default deny: of the policies that isolate a subject."""
        return self._denies.setdefault((direction, isolating), len(self.rules) + len(self._denies))

    def blames(self) -> tuple[Blame, ...]:
        """Return who each number is."""
        rules = (
            Blame(
                action=rule.action.lower(),
                direction=rule.direction,
                policy=self.policies[index].ref,
                policies=(self.policies[index].ref,),
                rule=rule.index,
            )
            for index, rule in self.rules
        )
        denies = (
            Blame(
                action="default-deny",
                direction=direction,
                policy=self.policies[isolating[0]].ref,
                policies=tuple(self.policies[index].ref for index in isolating),
            )
            for direction, isolating in self._denies
        )
        return (*rules, *denies)


class SideBuilder:
    """Makes the table of one direction."""

    def __init__(
        self,
        deciders: Deciders,
        population: Population,
        ports: PortAtoms,
        direction: Direction,
        *,
        blame: bool,
    ) -> None:
        """`blame` keeps who decides, which is four times what is decided in size."""
        self._deciders = deciders
        self._population = population
        self._ports = ports
        self._direction = direction
        self._blame = blame
        self._reach: dict[int, Chosen] = {}
        self._named: dict[tuple[tuple[PortMatch, ...], Port], NDArray[np.bool_]] = {}
        self._vectors: dict[object, int] = {}
        self._rows: list[Row] = []
        self.hit: set[int] = set()
        """Rules that decided something, for some subject, other end and port."""

    def build(self) -> SideTable:
        """Return the table."""
        size, samples = len(self._population), self._ports.samples
        vector = np.empty((size, len(samples)), dtype=np.int32)
        exempt = np.empty_like(vector)
        ingress = self._direction is Direction.INGRESS
        lines: dict[object, tuple[list[int], list[int]]] = {}
        for number, selected in enumerate(self.selected()):
            own = self._own_names(number, selected) if ingress else ()
            line = lines.get((selected, own))
            if line is None:
                admin_only: Selected = (selected[0], (), (), ())
                plain = [self._vector(selected, port, own) for port in samples]
                freed = [self._vector(admin_only, port, own) for port in samples]
                line = lines[selected, own] = (plain, freed)
            vector[number], exempt[number] = line
        table = SideTable(
            vector=vector,
            exempt=exempt,
            outcome=np.stack([outcome for outcome, _ in self._rows]),
            decider=np.stack([decider for _, decider in self._rows]) if self._blame else None,
        )
        self._rows.clear()
        return table

    def selected(self) -> list[Selected]:
        """Return, for each class, the policies that select it as their subject."""
        found: list[list[list[int]]] = [[[], [], [], []] for _ in range(len(self._population))]
        for index in self.order:
            spec = self._deciders.specs[index]
            place = _TIERS.index(spec.tier)
            for number in self._population.pods(spec.subject, spec.namespace).tolist():
                found[number][place].append(index)
        shared: dict[Selected, Selected] = {}
        lists = [tuple(tuple(tier) for tier in tiers) for tiers in found]
        return [shared.setdefault(selected, selected) for selected in lists]

    @cached_property
    def order(self) -> list[int]:
        """The policies with a say in this direction, in the order they are evaluated.

        NetworkPolicies have none among them: those without a rule go first, then by name, which
        is how a default deny is named.
        """
        specs, policies = self._deciders.specs, self._deciders.policies

        def acts(index: int) -> bool:
            spec = specs[index]
            if spec.tier is Tier.NETWORK_POLICY:
                return self._direction in spec.isolates
            return bool(self._deciders.numbers[index][self._direction])

        def place(index: int) -> tuple[int, bool, str, str]:
            ref = policies[index].ref
            ruled = bool(self._deciders.numbers[index][self._direction])
            network = specs[index].tier is Tier.NETWORK_POLICY
            return (specs[index].priority, network and ruled, ref.kind, ref.name)

        return sorted(filter(acts, range(len(specs))), key=place)

    def _own_names(self, number: int, selected: Selected) -> tuple[NamedPort, ...]:
        """Return a destination's named ports, where a rule of those that select it has names."""
        uses = any(self._uses_names[index] for tier in selected for index in tier)
        return self._population.named(self._population.samples[number]) if uses else ()

    @cached_property
    def _uses_names(self) -> list[bool]:
        return [
            any(match.name for rule in spec.rules for match in rule.ports or ())
            for spec in self._deciders.specs
        ]

    def _vector(self, selected: Selected, port: Port, own: tuple[NamedPort, ...]) -> int:
        """Return the number of a vector, made unless there is one with the same rules."""
        numbers = [
            number
            for tier in selected
            for index in tier
            for number in self._deciders.numbers[index][self._direction]
            if self.applies(number, port, own)
        ]
        named = self._direction is Direction.EGRESS and any(
            self._uses_names[index] for tier in selected for index in tier
        )
        key = (selected, tuple(numbers), port if named else None)
        if key not in self._vectors:
            self._vectors[key] = len(self._rows)
            outcome, decider = self._decide(selected, port, frozenset(numbers))
            # Not a slice: that would keep the whole row alive.
            self._rows.append((outcome, decider if self._blame else np.empty(0, np.int32)))
        return self._vectors[key]

    def applies(self, number: int, port: Port, own: tuple[NamedPort, ...]) -> bool:
        """Tell whether a rule may match a port: by number, or by name of some destination."""
        ports = self._deciders.rules[number][1].ports
        if ports is None or matches(_numeric(ports), port, ()):
            return True
        if self._direction is Direction.INGRESS:
            return matches(ports, port, own)
        return any(match.name and match.protocol in (None, port.protocol) for match in ports)

    def _decide(self, selected: Selected, port: Port, applying: frozenset[int]) -> Row:
        """Evaluate the tiers over all classes as the other end."""
        admin, network, baseline, firewall = selected
        row = self._in_order(admin, port, applying)
        if network:
            row = _then(row, self._isolated(network, port, applying))
        else:
            row = _then(row, self._in_order(baseline, port, applying))
        outcome, decider = row
        outcome = np.where(outcome & NEXT, outcome & EITHER | PASSES, outcome).astype(np.uint8)
        if firewall:
            leaving = ~self._population.pod_network
            second = self._in_order(firewall, port, applying, among=leaving)
            return self._besides((outcome, decider), second)
        return outcome, decider

    def _in_order(
        self,
        policies: Iterable[int],
        port: Port,
        applying: frozenset[int],
        among: NDArray[np.bool_] | None = None,
    ) -> Row:
        """Evaluate rules of which the first that matches decides, for all classes or those."""
        size = len(self._population)
        outcome, decider = np.zeros(size, np.uint8), np.full(size, NOBODY, np.int32)
        undecided = np.ones(size, dtype=np.bool_) if among is None else among.copy()
        for number in self._among(policies, applying):
            bit = _BITS[self._deciders.rules[number][1].action]
            chosen = self.matching(number, port)
            for classes in (chosen.surely, chosen.perhaps):
                hit = classes[undecided[classes]]
                if hit.size:
                    self.hit.add(number)
                decider[hit[outcome[hit] == 0]] = number
                outcome[hit] |= bit
            undecided[chosen.surely] = False
        outcome[undecided] |= NEXT
        if among is not None:
            outcome[~among] = NEXT
        return outcome, decider

    def _isolated(self, policies: tuple[int, ...], port: Port, applying: frozenset[int]) -> Row:
        """Evaluate NetworkPolicies: what any rule of any of them allows passes, and no more."""
        size = len(self._population)
        outcome = np.full(size, STOPS, np.uint8)
        decider = np.full(size, self._deciders.deny(self._direction, policies), np.int32)
        for number in self._among(policies, applying):
            chosen = self.matching(number, port)
            fresh = chosen.surely[outcome[chosen.surely] != PASSES]
            if fresh.size or chosen.perhaps.size:
                self.hit.add(number)
            outcome[fresh], decider[fresh] = PASSES, number
            doubtful = chosen.perhaps[outcome[chosen.perhaps] == STOPS]
            outcome[doubtful], decider[doubtful] = EITHER, number
        return outcome, decider

    def _besides(self, row: Row, firewall: Row) -> Row:
        """Put the egress firewall, which concerns only what leaves the pod network, behind."""
        outcome, decider = row
        second = np.where(firewall[0] & NEXT, firewall[0] & EITHER | PASSES, firewall[0])
        stops = (outcome | second) & STOPS
        both = ((outcome & second & PASSES) | stops).astype(np.uint8)
        passed = (outcome == PASSES) & ~self._population.pod_network
        whose = np.where(passed & (firewall[1] != NOBODY), firewall[1], decider)
        return both, whose.astype(np.int32)

    def _among(self, policies: Iterable[int], applying: frozenset[int]) -> list[int]:
        return [
            number
            for index in policies
            for number in self._deciders.numbers[index][self._direction]
            if number in applying
        ]

    def matching(self, number: int, port: Port) -> Chosen:
        """Return the other ends that a rule matches on a port."""
        chosen = self._peers(number)
        ports = self._deciders.rules[number][1].ports
        if (
            ports is None
            or self._direction is Direction.INGRESS
            or matches(_numeric(ports), port, ())
        ):
            return chosen
        has = self._declaring(tuple(match for match in ports if match.name), port)
        return Chosen(
            surely=chosen.surely[has[chosen.surely]], perhaps=chosen.perhaps[has[chosen.perhaps]]
        )

    def _declaring(self, names: tuple[PortMatch, ...], port: Port) -> NDArray[np.bool_]:
        """Tell which destinations declare a port under one of these names."""
        found = self._named.get((names, port))
        if found is None:
            people = self._population
            has = [matches(names, port, people.named(sample)) for sample in people.samples]
            found = self._named[names, port] = np.array(has, dtype=np.bool_)
        return found

    def _peers(self, number: int) -> Chosen:
        """Return the other ends that a rule's peers are, on whatever port."""
        found = self._reach.get(number)
        if found is None:
            index, rule = self._deciders.rules[number]
            namespace = self._deciders.specs[index].namespace
            found = _union(
                [self._population.peers(p, namespace, self._direction) for p in rule.peers]
                if rule.peers is not None
                else [Chosen(surely=self._population.everyone, perhaps=_NONE)]
            )
            self._reach[number] = found
        return found


_NONE: Classes = np.empty(0, dtype=np.intp)


def _union(chosen: Sequence[Chosen]) -> Chosen:
    if len(chosen) == 1:
        return chosen[0]
    surely = np.unique(np.concatenate([_NONE, *(one.surely for one in chosen)]))
    perhaps = np.unique(np.concatenate([_NONE, *(one.perhaps for one in chosen)]))
    return Chosen(surely=surely, perhaps=np.setdiff1d(perhaps, surely, assume_unique=True))


def _numeric(ports: Iterable[PortMatch]) -> list[PortMatch]:
    return [match for match in ports if not match.name]


def _then(row: Row, following: Row) -> Row:
    """Go on with the next tier where this one has not, or may not have, decided."""
    outcome, decider = row
    onward = (outcome & NEXT) != 0
    outcome = np.where(onward, outcome & EITHER | following[0], outcome).astype(np.uint8)
    # Where a rule passes to the next tier, that tier's decision has its own decider.
    decider = np.where(onward & (following[1] != NOBODY), following[1], decider)
    return outcome, decider.astype(np.int32)
