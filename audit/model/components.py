"""What is connected with what, directly or by way of others. Pure."""

from collections import defaultdict
from collections.abc import Iterable


def components(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Return, for each name, itself and all that `pairs` connect it with."""
    beside: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        beside[one].add(other)
        beside[other].add(one)
    together: dict[str, frozenset[str]] = {}
    names = list(names)
    for name in names:
        if name not in together:
            around = frozenset(_around(name, beside))
            together |= dict.fromkeys(around, around)
    return {name: together[name] for name in names}


def _around(name: str, beside: dict[str, set[str]]) -> set[str]:
    around, waiting = set[str](), [name]
    while waiting:
        name = waiting.pop()
        if name not in around:
            around.add(name)
            waiting += beside.get(name, ())
    return around
