"""Modules that are loaded when something of them is used, by the standard library's LazyLoader.

It is for those that command modules import whole: `from audit.commands import run`. A name that is
taken out of one (`from … import name`) loads it at once.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_LATER = ("commands", "facts", "model", "report", "scope", "store", "tracing")


class _Later(MetaPathFinder):
    """Finds modules right below these packages of ours, and has them loaded later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is found; None for one that is not meant."""
        package, _, below = fullname.partition(".")
        if package != "audit" or below.count(".") != 1 or below.partition(".")[0] not in _LATER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is not None:
            return spec
        spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


_FINDER = _Later()


def install() -> None:
    """Have modules loaded later from now on, until `load_all`."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def load_all() -> None:
    """Load what was put off, and put nothing off any more: threads would race for a lazy module."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    while waiting := [module for module in [*sys.modules.values()] if _is_waiting(module)]:
        for module in waiting:
            vars(module)  # of a lazy module `__dict__` is an attribute that loads it


def _is_waiting(module: ModuleType) -> bool:
    return type(module).__name__ == "_LazyModule"
