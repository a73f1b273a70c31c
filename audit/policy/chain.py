"""Why a cell is what it is: the chain of tiers a packet goes through, as one line a side.

    [AdminNetworkPolicy] Pass (control egress[2]) → [NetworkPolicy] decides: no rule allows (x/deny)

Every policy that selects the endpoint is in it; the deciding step says that it decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from audit.model.endpoints import Port
from audit.model.policies import Action, Direction
from audit.policy.intent import Intent
from audit.policy.tables import PASSES, STOPS, Selected

ARROW = " → "


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one tier says; `decides` where the chain ends."""

    kind: str
    effect: str
    subject: str
    """The rule, or the policies, in parentheses in the text."""
    decides: bool = False

    def __str__(self) -> str:
        mark = "decides: " if self.decides else ""
        subject = f" ({self.subject})" if self.subject else ""
        return f"[{self.kind}] {mark}{self.effect}{subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One side of a cell. `outcome` is of PASSES and STOPS, both where it cannot be known."""

    direction: Direction
    steps: tuple[Step, ...]
    outcome: int

    def __str__(self) -> str:
        return ARROW.join(map(str, self.steps)) or "no policy selects it"


def chains(intent: Intent, src: int, dst: int, port: int) -> tuple[Chain, Chain]:
    """Return the egress side and the ingress side of a cell, given by indices as to `decide`."""
    decided = intent.decide(*(intent.index(i) for i in (src, dst, port)))
    sample = intent.ports.samples[intent.ports.of[port]]
    sender, receiver = int(intent.people.of[src]), int(intent.people.of[dst])
    exempt = Exempt.YES if decided.exempt[0] else Exempt.NO
    if decided.perhaps_exempt[0]:
        exempt = Exempt.PERHAPS
    return (
        _Walk(intent, Direction.EGRESS, sender, receiver, sample).chain(
            int(decided.left[0]), Exempt.NO
        ),
        _Walk(intent, Direction.INGRESS, receiver, sender, sample).chain(
            int(decided.entered[0]), exempt
        ),
    )


class Exempt(StrEnum):
    """Whether NetworkPolicies let a packet past because of the node it comes from, in words."""

    NO = ""
    YES = "a node may always reach its own pods"
    PERHAPS = "perhaps from its own node, which may always reach it"


class _Walk:
    """Goes through the tiers of one side, for one subject, one other end and one port."""

    def __init__(
        self, intent: Intent, direction: Direction, subject: int, other: int, port: Port
    ) -> None:
        self._intent = intent
        self._side = intent.sides[direction]
        self._direction = direction
        self._other = other
        self._port = port
        self._selected: Selected = self._side.selected()[subject]
        self._named_ports = (
            intent.people.named(intent.people.samples[subject])
            if direction is Direction.INGRESS
            else ()
        )

    def chain(self, outcome: int, exempt: "Exempt") -> Chain:
        """Return the chain; `outcome` is what the tables say, and is marked where it is made."""
        admin, network, baseline, firewall, doubtful = self._selected
        steps, decided = self._ordered(admin)
        if not decided and exempt is not Exempt.NO and (network or baseline):
            sure = exempt is Exempt.YES
            steps.append(_step("NetworkPolicy", f"{exempt}", "", decides=sure))
            decided = sure
        if not decided and network:
            decided = not set(network) <= set(doubtful)
            steps.append(self._network(network, isolated=decided))
        if not decided:
            more, decided = self._ordered(baseline)
            steps += more
        leaves = not self._intent.people.pod_network[self._other]
        passing = not steps or not steps[-1].effect.startswith(("Deny", "no rule"))
        if firewall and leaves and passing:
            more, _ = self._ordered(firewall)
            steps += more
        return Chain(direction=self._direction, steps=tuple(steps), outcome=outcome)

    def _ordered(self, policies: Sequence[int]) -> tuple[list[Step], bool]:
        """Return the steps of a tier in which the first rule that matches decides."""
        steps: list[Step] = []
        specs = self._intent.deciders.specs
        for _, group in groupby(policies, key=lambda index: specs[index].priority):
            hits = [hit for index in group for hit in self._until_sure(index)]
            rules = self._intent.deciders.rules
            actions = {rules[number][1].action for number, _ in hits}
            # Which of several policies of one priority goes first is not defined.
            agreed = len(actions) == 1 or len({rules[number][0] for number, _ in hits}) == 1
            for number, sure in hits:
                action = rules[number][1].action
                decides = sure and agreed and action is not Action.PASS
                effect = str(action) if sure and agreed else f"perhaps {action}"
                kind = self._intent.deciders.policies[rules[number][0]].ref.kind
                steps.append(_step(kind, effect, self._rule_name(number), decides=decides))
                if sure and agreed:
                    return steps, action is not Action.PASS
        if policies and not steps:
            names = ", ".join(self._name(index) for index in policies)
            kind = self._intent.deciders.policies[policies[0]].ref.kind
            steps.append(_step(kind, "no rule matches", f"{names}, {self._direction}"))
        return steps, False

    def _until_sure(self, index: int) -> Iterator[tuple[int, bool]]:
        """Yield the rules of a policy that match, up to one that surely does."""
        selects = index not in self._selected.doubtful
        for number, sure in self._hits(index):
            yield number, sure and selects
            if sure:
                return

    def _network(self, policies: Sequence[int], *, isolated: bool) -> Step:
        """Return what the NetworkPolicies say together; `isolated` if one surely selects."""
        unsure = ""
        kind = self._intent.deciders.policies[policies[0]].ref.kind
        for index in policies:
            for number, sure in self._hits(index):
                others = [self._name(i) for i in policies if i != index]
                also = f"; also selecting: {', '.join(others)}" if others else ""
                if sure and index not in self._selected.doubtful:
                    name = f"{self._rule_name(number)}{also}"
                    return _step(kind, "Allow", name, decides=True)
                unsure = unsure or f"{self._rule_name(number)}{also}"
        if unsure:
            return _step(kind, "perhaps Allow", unsure, decides=isolated)
        names = ", ".join(self._name(index) for index in policies)
        effect = "no rule allows" if isolated else "perhaps isolated, and no rule allows"
        return _step(kind, effect, f"{names}, {self._direction}", decides=isolated)

    def _hits(self, index: int) -> Iterator[tuple[int, bool]]:
        """Yield the rules of a policy that match, and whether they surely do."""
        for number in self._intent.deciders.numbers[index][self._direction]:
            if self._side.applies(number, self._port, self._named_ports):
                chosen = self._side.matching(number, self._port)
                if self._other in chosen.surely:
                    yield number, True
                elif self._other in chosen.perhaps:
                    yield number, False

    def _name(self, index: int) -> str:
        ref = self._intent.deciders.policies[index].ref
        return f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name

    def _rule_name(self, number: int) -> str:
        index, rule = self._intent.deciders.rules[number]
        return f"{self._name(index)} {rule.direction}[{rule.index}]"


def _step(kind: str, effect: str, subject: str, *, decides: bool = False) -> Step:
    return Step(kind=kind, effect=effect, subject=subject, decides=decides)


def verdict(sides: Sequence[Chain]) -> int:
    """Return what both sides together come to, as bits."""
    outcomes = [side.outcome for side in sides]
    if STOPS in outcomes:
        return STOPS
    return PASSES if all(outcome == PASSES for outcome in outcomes) else PASSES | STOPS
