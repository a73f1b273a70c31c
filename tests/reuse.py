"""Clusters changed at random between two nights: what is reused makes the same run.

`python -m tests.reuse [--count N] [--seed S] [--cluster NAME]`. A recorded cluster is audited, then
edited as `tests.mutate` edits it, by the same seed; then it is audited from nothing, and with
`--reuse` of the first run. Both have the same cells, byte for byte, and the same traces, word for
word. What is printed besides is how many traces were reused, of how many.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from audit.cli import progress
from audit.commands import run as command
from audit.errors import AuditError
from audit.model.options import PlaneName, Workers
from audit.scope import scope
from audit.tracing.options import Options
from tests import mutate
from tests.mutable import Cluster, copied
from tests.mutations import EDITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What became of one change; `differing` names what is not the same."""

    seed: int
    cluster: str
    edit: str
    traces: int = 0
    reused: int = 0
    refused: str = ""
    differing: tuple[str, ...] = ()


def run(
    snapshot: Path, engine: mutate.Engine, asked: dict[str, Any], root: Path, reuse: Path | None
) -> tuple[Path, Any]:
    """Audit a snapshot; return the run, and what run.json says."""
    options = Options(
        snapshot=snapshot,
        scope=scope.from_flags(**asked),
        ovn_prefix=engine.programs.prefix,
        workers=Workers.INLINE,
        planes=frozenset({PlaneName.LOGICAL}),
        reuse=reuse,
    )
    done = command.run(options, root, progress.Silent())
    return done.path, done.manifest


def traces(path: Path) -> list[dict[str, Any]]:
    """Return all traces of a run, by id; what is printed up to where a backend is drawn."""
    rows = [row for f in path.glob("traces/*.parquet") for row in pq.read_table(f).to_pylist()]
    for row in rows:
        row["raw"] = row["raw"].partition("ct_lb")[0]
    return sorted(rows, key=itemgetter("trace_id"))


def differences(path: Path, other: Path) -> Iterator[str]:
    """Yield which tables of two runs are not the same."""
    for pattern in ("cells/*.parquet", "endpoints.parquet", "policies.parquet"):
        contents = [
            {file.name: file.read_bytes() for file in run.glob(pattern)} for run in (path, other)
        ]
        if not contents[0] or contents[0] != contents[1]:
            yield pattern
    rows = [traces(run) for run in (path, other)]
    if not rows[0] or rows[0] != rows[1]:
        yield "traces/*.parquet"


def compare(seed: int, clusters: mutate.Clusters, root: Path) -> Compared:
    """Change a cluster, and audit it with and without an earlier run."""
    rng = random.Random(seed)  # noqa: S311 - damage, no secrets
    name = rng.choice(clusters.names)
    while (engine := clusters.engine(name)) is None:
        name = rng.choice(clusters.names)
    cluster = Cluster(root=copied(engine.snapshot, root / "s"), rng=rng)
    cluster.choose(most=9)
    asked = mutate.draw_scope(cluster)
    cluster.write()
    kind = rng.choice(list(EDITS))
    edit = kind
    try:
        before, _ = run(cluster.root, engine, asked, root / "before", None)
        edit = f"{kind}: {EDITS[kind](cluster)}"
        cluster.write()
        mutate.recompile_zones(cluster, engine, root)
        whole, _ = run(cluster.root, engine, asked, root / "whole", None)
        again, manifest = run(cluster.root, engine, asked, root / "again", before)
    except AuditError as error:
        return Compared(seed=seed, cluster=name, edit=edit, refused=str(error)[:200])
    (text,) = [note["text"] for note in manifest["notes"] if note["code"] == "reused"]
    return Compared(
        seed=seed,
        cluster=name,
        edit=edit,
        traces=manifest["counts"]["traces"],
        reused=int(text.split()[0].replace(",", "")),
        differing=tuple(differences(whole, again)),
    )


def comparisons(seeds: Sequence[int], names: Sequence[str]) -> Iterator[Compared]:
    """Compare after each of these changes."""
    with tempfile.TemporaryDirectory(prefix="ru") as directory:
        clusters = mutate.Clusters(Path(tempfile.mkdtemp(dir=directory)), names)
        for seed in seeds:
            with tempfile.TemporaryDirectory(prefix="r", dir=directory) as root:
                yield compare(seed, clusters, Path(root))


def main() -> int:
    """Print each change, and the sums; exit with 1 when a run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cluster", action="append", choices=sorted(mutate.CLUSTERS))
    given = parser.parse_args()
    done: list[Compared] = []
    seeds = range(given.seed, given.seed + given.count)
    for compared in comparisons(seeds, given.cluster or list(mutate.CLUSTERS)):
        done.append(compared)
        result = compared.refused or ", ".join(compared.differing) or "the same"
        line = f"{compared.seed} {compared.cluster}: {compared.reused} of {compared.traces} traces"
        print(f"{line}; {compared.edit[:90]}: {result}", flush=True)  # noqa: T201 - the output
    differing = sum(bool(compared.differing) for compared in done)
    refused = sum(bool(compared.refused) for compared in done)
    reused, all_traces = sum(c.reused for c in done), sum(c.traces for c in done)
    print(  # noqa: T201 - as above
        f"{len(done)} changes: {differing} runs differ, {refused} refused; {reused:,} of "
        f"{all_traces:,} traces reused"
    )
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
