"""Some cells of a run, with all that is known of each: the table that readers hand on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Parallel arrays, sorted by (src, dst, family, port): those of Matrix and CellVerdicts.

    Codes are those of `audit.model.matrix`. `blame` and `trace` index tables of whoever reads the
    cells; -1 is none. `drift` is 1 where planes disagree, NO_VERDICT where they cannot be compared.
    None is a plane that was not asked, or what was not read.
    """

    src: Indices
    dst: Indices
    family: NDArray[np.int8]
    port: Indices
    verdict: NDArray[np.uint8]
    reply: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    drift: NDArray[np.uint8]
    blame: NDArray[np.int32]
    trace: NDArray[np.int32] | None = None
    other_trace: NDArray[np.int32] | None = None
    intent: NDArray[np.uint8] | None = None
    logical: NDArray[np.uint8] | None = None
    datapath: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.src)

    def take(self, rows: slice | NDArray[np.int64]) -> "Cells":
        """Return some of these cells; of a slice without copying."""
        return Cells(**{name: of[rows] for name, of in self.arrays()})

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the arrays that there are, by name."""
        for name in _COLUMNS:
            if (column := getattr(self, name)) is not None:
                yield name, column

    @staticmethod
    def joined(parts: Sequence["Cells"]) -> "Cells":
        """Return the cells of all parts, which have the same columns, as one table."""
        names = [name for name, _ in parts[0].arrays()]
        columns = {name: [getattr(part, name) for part in parts] for name in names}
        return Cells(**{name: np.concatenate(arrays) for name, arrays in columns.items()})


_COLUMNS = tuple(field.name for field in fields(Cells))
