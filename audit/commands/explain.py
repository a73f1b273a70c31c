"""What a finished run says: one cell, or whatever SQL asks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audit.commands import meaning
from audit.report import cells, lookup
from audit.report import explain as explaining
from audit.store import query as querying
from audit.store import reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One cell: as text for people, as fields for programs."""

    text: str
    fields: Mapping[str, Any]


def explain(
    path: Path, src: str, dst: str, port: str, *, family: str | None, raw: bool
) -> Explained:
    """Say what the run at `path` knows about one cell."""
    finished = reader.open_run(path)
    cell = lookup.find_cell(finished, src, dst, port, family)
    meant = meaning.of_cell(finished, cell)
    text = explaining.explain(finished, cell) + explaining.meaning(meant)
    return Explained(
        text=text + (cells.raw_text(finished, cell) if raw else ""),
        fields=cells.fields(finished, cell, raw=raw) | {"meaning": meant and asdict(meant)},
    )


query = querying.query
