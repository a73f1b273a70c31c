"""Of a run that is large, one pair is read, and not the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.packets import Protocol
from audit.store.reader import open_run
from audit.store.writer import RunWriter


def test_one_pair_is_read_from_the_files_that_may_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file holds some sources; what it says of them in front tells whether it is opened."""
    side, count = 30, 900
    cells = np.arange(count, dtype=np.int32)
    endpoints = tuple(
        Endpoint(kind=EndpointKind.POD, namespace=f"ns-{i // 10}", name=f"pod-{i % 10}")
        for i in range(side)
    )
    matrix = Matrix(
        endpoints=endpoints,
        ports=(Port(protocol=Protocol.TCP, number=80),),
        src=cells // side,
        dst=cells % side,
        family=np.zeros(count, np.int8),
        port=np.zeros(count, np.int32),
    )
    verdicts = CellVerdicts(
        verdict=(cells % 3).astype(np.uint8),
        reply=np.full(count, 255, np.uint8),
        reason=np.zeros(count, np.uint8),
        blame=np.full(count, -1, np.int32),
        trace=np.full(count, -1, np.int32),
        blames=(),
        trace_keys=[],
    )
    writer = RunWriter(tmp_path, "run")
    writer.write_endpoints(endpoints)
    writer.write_policies(())
    writer.write_cells(matrix, verdicts, chunk=60)  # two sources a file
    writer.finish({})
    opened: list[str] = []
    read_table = pq.read_table

    def reading(path: Any, **options: Any) -> pa.Table:
        if Path(path).parent.name == "cells":
            opened.append(Path(path).name)
        return read_table(path, **options)

    monkeypatch.setattr(pq, "read_table", reading)
    files = sorted(path.name for path in (writer.path / "cells").iterdir())
    assert len(files) == side / 2
    for src in range(side):
        opened.clear()
        run = open_run(writer.path, (np.array([src]), np.array([13])))
        pairs = list(zip(run.matrix.src.tolist(), run.matrix.dst.tolist(), strict=True))
        at = pairs.index((src, 13))
        assert run.verdicts.verdict[at] == (src * side + 13) % 3
        assert set(opened) == {files[src // 2]}
