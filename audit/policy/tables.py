"""What one side of every packet is decided by: tables over classes of endpoints and of ports.

The subject of a policy is one end of a packet, its peers are the other. So for each class of
subjects that the same policies select, and each group of ports that their rules do not tell
apart, there is a *vector*: over all classes as the other end, what is decided and by which rule.
Subjects and ports that share their policies and rules share a vector, and most share the one in
which no policy has a say.

Where an address, a name or a label is not known, neither is whether a rule matches, or a policy
selects. Then every decision that may come out is kept, as a set of bits: what is both PASSES and
STOPS is not decided. The same is kept where policies of one priority contradict each other, as
their order is not defined.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import EndpointKind, NamedPort, Port
from audit.model.facts import Policy
from audit.model.policies import Action, Direction, PolicySpec, PortMatch, Rule, Tier
from audit.model.verdicts import Blame
from audit.policy.population import Chosen, Classes, Population
from audit.policy.ports import PortAtoms, matches

PASSES, STOPS, NEXT = 1, 2, 4
"""Bits of what may come out; NEXT is no decision in this tier."""
EITHER = PASSES | STOPS
_OPEN = "open"
"""The key of the vector of what is not asked."""
NOBODY = -1
"""The decider of what no rule matched and no policy isolates."""

_BITS = {Action.ALLOW: PASSES, Action.DENY: STOPS, Action.PASS: NEXT}
_TIERS = (Tier.ADMIN, Tier.NETWORK_POLICY, Tier.BASELINE, Tier.FIREWALL)

Row = tuple[NDArray[np.uint8], NDArray[np.int32]]
"""Over all classes: what may come out, and the number of the decider."""


class Selected(NamedTuple):
    """The policies that select a subject, by tier, in the order they are evaluated."""

    admin: tuple[int, ...]
    network: tuple[int, ...] = ()
    baseline: tuple[int, ...] = ()
    firewall: tuple[int, ...] = ()
    doubtful: tuple[int, ...] = ()
    """Those of all these of which it is not known whether they do."""

    def policies(self) -> tuple[int, ...]:
        """Return all of them."""
        return (*self.admin, *self.network, *self.baseline, *self.firewall)


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


class _Context(NamedTuple):
    """What a row is made for: a port, the rules that may match it, the policies in doubt."""

    port: Port
    applying: frozenset[int]
    doubtful: frozenset[int]


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
            if self._population.samples[number].kind is EndpointKind.INGRESS:
                vector[number] = exempt[number] = self._entering(selected)
                continue
            declared = self._own_names(number, selected) if ingress else ()
            line = lines.get((selected, declared))
            if line is None:
                admin_only = Selected(selected.admin, doubtful=selected.doubtful)
                plain = [self._vector(selected, port, declared) for port in samples]
                freed = [self._vector(admin_only, port, declared) for port in samples]
                line = lines[selected, declared] = (plain, freed)
            vector[number], exempt[number] = line
        table = SideTable(
            vector=vector,
            exempt=exempt,
            outcome=np.stack([outcome for outcome, _ in self._rows]),
            decider=np.stack([decider for _, decider in self._rows]) if self._blame else None,
        )
        self._rows.clear()
        return table

    def _entering(self, selected: Selected) -> list[int]:
        """Return the vectors of a controller: it sends, on the ports that are led to.

        Nothing else is asked of it, and most policies perhaps select it: a row for each port that
        they tell apart would be as many as there are rules. All else is left open.
        """
        if _OPEN not in self._vectors:
            size = len(self._population)
            self._vectors[_OPEN] = len(self._rows)
            self._rows.append((np.full(size, EITHER, np.uint8), np.full(size, NOBODY, np.int32)))
        sends = self._direction is Direction.EGRESS
        return [
            self._vector(selected, port, ())
            if sends and atom in self._ports.entering
            else self._vectors[_OPEN]
            for atom, port in enumerate(self._ports.samples)
        ]

    def selected(self) -> list[Selected]:
        """Return, for each class, the policies that select it as their subject."""
        lists: list[list[list[int]]] = [
            [[] for _ in (*_TIERS, "")] for _ in self._population.samples
        ]
        for index in self.order:
            spec = self._deciders.specs[index]
            column = _TIERS.index(spec.tier)
            chosen = self._population.subjects(spec)
            for number in chosen.surely.tolist():
                lists[number][column].append(index)
            for number in chosen.perhaps.tolist():
                lists[number][column].append(index)
                lists[number][-1].append(index)
        shared: dict[Selected, Selected] = {}
        every = (Selected(*(tuple(tier) for tier in tiers)) for tiers in lists)
        return [shared.setdefault(selected, selected) for selected in every]

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

        def sort_key(index: int) -> tuple[int, bool, str, str]:
            ref = policies[index].ref
            ruled = bool(self._deciders.numbers[index][self._direction])
            network = specs[index].tier is Tier.NETWORK_POLICY
            return (specs[index].priority, network and ruled, ref.kind, ref.name)

        return sorted(filter(acts, range(len(specs))), key=sort_key)

    def _own_names(self, number: int, selected: Selected) -> tuple[NamedPort, ...]:
        """Return a destination's named ports, where a rule of those that select it has names."""
        uses = any(self._uses_names[index] for index in selected.policies())
        return self._population.named(self._population.samples[number]) if uses else ()

    @cached_property
    def _uses_names(self) -> list[bool]:
        return [
            any(match.name for rule in spec.rules for match in rule.ports or ())
            for spec in self._deciders.specs
        ]

    def _vector(self, selected: Selected, port: Port, declared: tuple[NamedPort, ...]) -> int:
        """Return the number of a vector, made unless there is one with the same rules."""
        numbers = [
            number
            for index in selected.policies()
            for number in self._deciders.numbers[index][self._direction]
            if self.applies(number, port, declared)
        ]
        named = self._direction is Direction.EGRESS and any(
            self._uses_names[index] for index in selected.policies()
        )
        key = (selected, tuple(numbers), port if named else None)
        if key not in self._vectors:
            self._vectors[key] = len(self._rows)
            outcome, decider = self._decide(selected, port, frozenset(numbers))
            # Not a slice: that would keep the whole row alive.
            self._rows.append((outcome, decider if self._blame else np.empty(0, np.int32)))
        return self._vectors[key]

    def applies(self, number: int, port: Port, declared: tuple[NamedPort, ...]) -> bool:
        """Tell whether a rule may match a port: by number, or by name of some destination."""
        ports = self._deciders.rules[number][1].ports
        if ports is None or matches(_numeric(ports), port, ()):
            return True
        if self._direction is Direction.INGRESS:
            return matches(ports, port, declared)
        return any(match.name and match.protocol in (None, port.protocol) for match in ports)

    def _decide(self, selected: Selected, port: Port, applying: frozenset[int]) -> Row:
        """Evaluate the tiers over all classes as the other end."""
        context = _Context(port, applying, frozenset(selected.doubtful))
        row = self._in_order(selected.admin, context)
        if selected.network:
            row = _then(row, self._isolated(selected.network, context))
        # Where NetworkPolicies surely isolate the subject, nothing is left to the next tier.
        if not selected.network or (row[0] & NEXT).any():
            row = _then(row, self._in_order(selected.baseline, context))
        outcome, decider = row
        outcome = np.where(outcome & NEXT, outcome & EITHER | PASSES, outcome).astype(np.uint8)
        if selected.firewall:
            leaving = ~self._population.pod_network
            second = self._in_order(selected.firewall, context, among=leaving)
            return self._besides((outcome, decider), second)
        return outcome, decider

    def _in_order(
        self, policies: Iterable[int], context: "_Context", among: NDArray[np.bool_] | None = None
    ) -> Row:
        """Evaluate rules of which the first that matches decides, for all classes or those.

        Of policies that have one priority any may be the first.
        """
        size = len(self._population)
        row = np.zeros(size, np.uint8), np.full(size, NOBODY, np.int32)
        undecided = np.ones(size, dtype=np.bool_) if among is None else among.copy()
        specs = self._deciders.specs
        for _, group in groupby(policies, key=lambda index: specs[index].priority):
            left = undecided.copy()
            for index in group:
                open_ = self._one_policy(index, context, row, undecided)
                if index not in context.doubtful:
                    left &= open_
            undecided = left
        outcome, decider = row
        outcome[undecided] |= NEXT
        if among is not None:
            outcome[~among] = NEXT
        return outcome, decider

    def _one_policy(
        self, index: int, context: "_Context", row: Row, undecided: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Write what a policy's rules decide into a row; return what they leave undecided."""
        outcome, decider = row
        open_ = undecided.copy()
        for number in self._among((index,), context.applying):
            bit = _BITS[self._deciders.rules[number][1].action]
            chosen = self.matching(number, context.port)
            for classes in (chosen.surely, chosen.perhaps):
                hit = classes[open_[classes]]
                if hit.size:
                    self.hit.add(number)
                decider[hit[outcome[hit] == 0]] = number
                outcome[hit] |= bit
            open_[chosen.surely] = False
        return open_

    def _isolated(self, policies: tuple[int, ...], context: "_Context") -> Row:
        """Evaluate NetworkPolicies: what any rule of any of them allows passes, and no more."""
        surely = tuple(index for index in policies if index not in context.doubtful)
        if not surely:
            return self._perhaps_isolated(policies, context)
        doubtful = tuple(index for index in policies if index in context.doubtful)
        return self._isolated_by(surely, doubtful, context)

    def _perhaps_isolated(self, policies: tuple[int, ...], context: "_Context") -> Row:
        """Evaluate NetworkPolicies of which each may be the only one that selects, or none.

        Of a controller that may be in any namespace these are most policies there are.
        """
        size = len(self._population)
        passes, each = np.zeros(size, np.bool_), np.zeros(size, np.int32)
        for index in policies:
            numbers = self._among((index,), context.applying)
            if not numbers:
                continue  # it lets nobody pass
            surely = np.zeros(size, np.bool_)
            for number in numbers:
                chosen = self.matching(number, context.port)
                if chosen.perhaps.size or not surely[chosen.surely].all():
                    self.hit.add(number)
                surely[chosen.surely] = True
                passes[chosen.perhaps] = True
            passes |= surely
            each += surely
        outcome = np.full(size, NEXT, np.uint8)
        outcome[passes] |= PASSES
        outcome[each < len(policies)] |= STOPS
        return outcome, self._isolated_by(policies[:1], (), context)[1]

    def _isolated_by(
        self, policies: tuple[int, ...], others: tuple[int, ...], context: "_Context"
    ) -> Row:
        """Evaluate NetworkPolicies that select the subject, and others that perhaps do."""
        size = len(self._population)
        outcome = np.full(size, STOPS, np.uint8)
        decider = np.full(size, self._deciders.deny(self._direction, policies), np.int32)
        for number in self._among(policies, context.applying):
            chosen = self.matching(number, context.port)
            fresh = chosen.surely[outcome[chosen.surely] != PASSES]
            if fresh.size or chosen.perhaps.size:
                self.hit.add(number)
            outcome[fresh], decider[fresh] = PASSES, number
            _doubt(outcome, decider, chosen.perhaps, number)
        for number in self._among(others, context.applying):
            chosen = self.matching(number, context.port)
            if chosen:
                self.hit.add(number)
            _doubt(outcome, decider, chosen.surely, number)
            _doubt(outcome, decider, chosen.perhaps, number)
        return outcome, decider

    def _among(self, policies: Iterable[int], applying: frozenset[int]) -> list[int]:
        return [
            number
            for index in policies
            for number in self._deciders.numbers[index][self._direction]
            if number in applying
        ]

    def _besides(self, row: Row, firewall: Row) -> Row:
        """Put the egress firewall, which concerns only what leaves the pod network, behind."""
        outcome, decider = row
        second = np.where(firewall[0] & NEXT, firewall[0] & EITHER | PASSES, firewall[0])
        stops = (outcome | second) & STOPS
        both = ((outcome & second & PASSES) | stops).astype(np.uint8)
        passed = (outcome == PASSES) & ~self._population.pod_network
        whose = np.where(passed & (firewall[1] != NOBODY), firewall[1], decider)
        return both, whose.astype(np.int32)

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
        declaring = self._named.get((names, port))
        if declaring is None:
            people = self._population
            has = [matches(names, port, people.named(sample)) for sample in people.samples]
            declaring = self._named[names, port] = np.array(has, dtype=np.bool_)
        return declaring

    def _peers(self, number: int) -> Chosen:
        """Return the other ends that a rule's peers are, on whatever port."""
        chosen = self._reach.get(number)
        if chosen is None:
            index, rule = self._deciders.rules[number]
            namespace = self._deciders.specs[index].namespace
            chosen = self._reach[number] = self._population.others(rule, namespace)
        return chosen


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


def _doubt(
    outcome: NDArray[np.uint8], decider: NDArray[np.int32], classes: Classes, number: int
) -> None:
    """Note that a rule perhaps lets classes through that were stopped."""
    stopped = classes[outcome[classes] == STOPS]
    outcome[stopped], decider[stopped] = EITHER, number
