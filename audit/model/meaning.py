"""What the policy objects say about one cell, in words, for whoever shows it."""

from collections.abc import Mapping
from dataclasses import dataclass

from audit.model.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Edits that together open a blocked cell: tried, and found to.

    `also_count` is how many other cells of the run they open too, -1 where that was not counted.
    `also` are these cells, those between the same pods on several ports, or of several pods that
    are alike, as one; where there are many, the first, and `also_more` says that it is not all.
    """

    edits: tuple[str, ...]
    also: tuple[str, ...]
    also_count: int
    also_more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The chain of policies on either side, and the changes that would open the cell.

    A chain says which step decides: `[AdminNetworkPolicy] Pass (control egress[2]) →
    [NetworkPolicy] decides: no rule allows (default/deny-by-default, ingress)`.
    """

    verdict: Verdict
    egress: str
    ingress: str
    changes: tuple[Change, ...]
    cause: str = ""
    """Why OVN does something else, where the run says that it does and a cause is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanings:
    """What the policy objects say about many cells, by kinds of endpoints they do not tell apart.

    `kind_of` has an endpoint's kind by its key; endpoints that are in none are not spoken of. `of`
    is by (kind of the source, kind of the destination, index of the family, index of the port).
    """

    kind_of: Mapping[str, int]
    of: Mapping[tuple[int, int, int, int], Meaning]
