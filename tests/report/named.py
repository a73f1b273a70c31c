"""Cells of a run by the words that `audit explain` takes."""

from functools import partial

from audit.model.recorded import spans
from audit.model.run import Run
from audit.scope.lookup import find_cells
from audit.scope.named import Directory


def cells_between(run: Run, src: str, dst: str, port: str, family: str | None = None) -> list[int]:
    directory = Directory(run.matrix.endpoints, partial(spans, run.manifest))
    ends = directory.find(src), directory.find(dst)
    cells: list[int] = find_cells(run, *ends, (src, dst), port=port, family=family).tolist()
    return cells


def find_cell(run: Run, src: str, dst: str, port: str, family: str | None) -> int:
    (cell,) = cells_between(run, src, dst, port, family)
    return cell
