"""The address of a view of the page: what stands after the `#`, as `view.js` reads it."""

import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import quote

from audit.report.axes import Axes

EVERYTHING = "*"
_SAFE = "!'()*-._~"
"""What `encodeURIComponent` leaves as it is, besides letters and digits."""
_CELL = re.compile(
    r"(?P<src>.+) to (?P<dst>.+) on (?P<port>[a-z]+/\d+(?:-\d+)?)(?: over (?P<family>ip\d))?"
)
"""How findings name a cell: `pod shop/web-0 to pod shop/db-0 on tcp/80`."""


class Links:
    """Where on the map of one page things are; the empty text where they are not on it."""

    def __init__(self, page: Axes, deciders: Iterable[str]) -> None:
        self._endpoints = frozenset(endpoint.key for endpoint in page.endpoints)
        self._sources = frozenset(page.endpoints[index].key for index in page.sources.tolist())
        self._groups = frozenset(page.groups)
        self._deciders = frozenset(deciders)

    def subject(self, text: str, *, sends: bool = False) -> str:
        """Return the view of what a finding is about: a cell, a policy, a namespace, an endpoint.

        A namespace or endpoint is shown as destination, or with `sends` as source.
        """
        if (cell := _CELL.fullmatch(text)) and {cell["src"], cell["dst"]} <= self._endpoints:
            at = f"{cell['port']} {cell['family']}" if cell["family"] else cell["port"]
            return _joined(("cell", cell["src"], cell["dst"]), ("at", at))
        policy = _longest_start(text, self._deciders)
        if policy:
            return _joined(("policy", policy))
        if text in self._groups or text in self._endpoints:
            ends = (text, EVERYTHING) if sends else (EVERYTHING, text)
            return _joined(("ns", *ends))
        return self.subject(f"pod {text}", sends=sends) if f"pod {text}" in self._endpoints else ""

    def cells(self, only: str, subjects: Sequence[str]) -> str:
        """Return the view of the chosen cells of all these, which are cells as findings name them.

        `only` is a filter of the map. Namespaces are narrowed where all subjects share them.
        """
        cells = [cell for text in subjects if (cell := _CELL.fullmatch(text))]
        return self.between(only, [cell["src"] for cell in cells], [cell["dst"] for cell in cells])

    def between(self, only: str, srcs: Collection[str], dsts: Collection[str]) -> str:
        """Return the view of the chosen cells between endpoints or workloads, by their names."""
        spaces = [self._common(names) for names in (srcs, dsts)]
        narrow = [] if spaces == [EVERYTHING, EVERYTHING] else [("ns", *spaces)]
        return _joined(*narrow, ("only", only))

    def _common(self, names: Collection[str]) -> str:
        """Return the one namespace of all these, else what stands for all."""
        spaces = {name.partition(" ")[2].partition("/")[0] for name in names}
        return spaces.pop() if len(spaces) == 1 and spaces <= self._groups else EVERYTHING


def _longest_start(text: str, names: Iterable[str]) -> str:
    """Return the longest of the names that a text is or begins with, as a word."""
    begun = [name for name in names if text == name or text.startswith(f"{name} ")]
    return max(begun, key=len, default="")


def _joined(*parts: Sequence[str]) -> str:
    return "&".join(
        f"{name}={','.join(quote(value, safe=_SAFE) for value in values)}"
        for name, *values in parts
    )
