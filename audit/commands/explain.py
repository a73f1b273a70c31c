"""What a finished run says: one cell, or whatever SQL asks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audit.commands import meaning
from audit.report import cells
from audit.report import explain as explaining
from audit.scope import lookup
from audit.scope.named import Directory
from audit.store import query as querying
from audit.store import reader
from audit.store.reader import open_recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One cell: as text for people, as fields for programs."""

    text: str
    fields: Mapping[str, Any]


def explain(
    path: Path, src: str, dst: str, port: str, *, family: str | None, raw: bool
) -> Explained:
    """Say what the run at `path` knows about one cell, or about cells that come to the same.

    Without `port`, on any. Of the run's cells only those between such ends are read.
    """
    recorded = open_recorded(path)
    sources = Directory(recorded.endpoints, recorded.spans, sending=True)
    between = sources.find(src), Directory(recorded.endpoints, recorded.spans).find(dst)
    finished = reader.open_run(path, between)
    alike = lookup.find_cells(finished, *between, (src, dst), port=port, family=family)
    cell, *others = alike.tolist()
    meant = meaning.of_cell(finished, cell)
    text = explaining.explain(finished, cell) + explaining.meaning(meant)
    if others:
        text += explaining.alike(finished, others)
    return Explained(
        text=text + (cells.raw_text(finished, cell) if raw else ""),
        fields=cells.fields(finished, cell, raw=raw)
        | {"meaning": meant and asdict(meant), "alike": len(others)},
    )


query = querying.query
