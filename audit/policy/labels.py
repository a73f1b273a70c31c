"""Labels by class of endpoints, and how they meet what selectors require, as far as is known."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint
from audit.model.selectors import ORDERS, UNSAID, Requirement
from audit.policy.cluster import Labels

NO, PERHAPS, YES = range(3)
GRADES = MappingProxyType({False: NO, None: PERHAPS, True: YES})
"""A selector's answer as a number; None is that what is known does not decide it."""
UNKNOWN_LABELS: Labels = MappingProxyType({UNSAID: UNSAID})
_NO_VALUE = "-"
"""Stands for any value that a requirement does not name: no label has it."""


class Column(NamedTuple):
    """A label: what there is of it, as labels, and which of that each class has."""

    kinds: tuple[Labels, ...]
    codes: NDArray[np.int32]
    places: Mapping[str, int]
    """Where each value is among the kinds."""
    special: tuple[int, ...]
    """Those that are no value: none, and what is not known."""

    @classmethod
    def of(cls, key: str, samples: Sequence[Endpoint]) -> Self:
        """Collect a label's values from one endpoint of each class."""
        places: dict[str, int] = {}
        kinds: list[Labels] = [{}, UNKNOWN_LABELS]
        codes = np.zeros(len(samples), dtype=np.int32)
        for number, endpoint in enumerate(samples):
            labels = dict(endpoint.labels)
            value = labels.get(key)
            if value is None:
                codes[number] = int(UNSAID in labels)
            else:
                if value not in places:
                    places[value] = len(kinds)
                    kinds.append({key: value})
                codes[number] = places[value]
        unsaid = tuple(code for value, code in places.items() if value.endswith(UNSAID))
        return cls(tuple(kinds), codes, places, (0, 1, *unsaid))

    def table(self, requirement: Requirement) -> NDArray[np.uint8]:
        """Return how each kind meets a requirement."""
        if requirement.operator in ORDERS:
            return np.array([GRADES[requirement.judge(kind)] for kind in self.kinds], np.uint8)
        # Values that it does not name are all the same to it, and there may be thousands.
        other = GRADES[requirement.judge({requirement.key: _NO_VALUE})]
        table = np.full(len(self.kinds), other, np.uint8)
        named = (self.places[value] for value in requirement.values if value in self.places)
        for code in (*self.special, *named):
            table[code] = GRADES[requirement.judge(self.kinds[code])]
        return table
