"""One bit flipped, a thousand times: what is read is refused, or is what it was.

`make flips` does it to snapshots in every packing; the suite does it a hundred times.
"""

import argparse
import json
import random
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from click.testing import CliRunner

from audit.cli.main import audit
from audit.errors import AuditError
from audit.facts import snapshot, sums
from audit.model.facts import Input

PACKINGS = ("w:gz", "w:xz", "w:bz2", "w", "")
"""tarfile's modes; the empty one is a directory. The last two have no checksum but their own."""


def files() -> Mapping[str, bytes]:
    """Return the files of a small snapshot, of which a bit more or less is another cluster."""
    rng = random.Random(1)  # noqa: S311 - the same ones every time
    addresses = [f"10.128.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(200)]
    pods = [{"metadata": {"name": f"p{n}"}, "ip": ip} for n, ip in enumerate(addresses)]
    return {
        "kube/pods.json": json.dumps({"kind": "List", "items": pods}).encode(),
        "kube/nodes.json": b'{"kind": "List", "items": []}',
        "ovn/worker/nb.db": "\n".join(addresses).encode(),
        "ovn/worker/sb.db": "\n".join(reversed(addresses)).encode(),
        "snapshot.json": b'{"source": "a cluster", "changed": ["shop/p1"]}',
    }


def written(root: Path, packing: str) -> Path:
    """Write the small snapshot, with sums where the packing has none."""
    for name, content in files().items():
        (root / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "s" / name).write_bytes(content)
    if not packing or packing == "w":
        sums.write(root / "s")
    if not packing:
        return root / "s"
    with tarfile.open(root / "s.tar", packing) as tar:  # type: ignore[call-overload]
        tar.add(root / "s", arcname=".")
    return root / "s.tar"


def content(path: Path, workdir: Path) -> tuple[tuple[Input, ...], snapshot.Description]:
    """Return all that is read of a snapshot."""
    opened = snapshot.open_snapshot(path, workdir)
    return snapshot.hash_inputs(opened), snapshot.describe(opened)


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file as often as asked, each time with another bit flipped, all over it."""
    rng = random.Random(seed)  # noqa: S311 - to be repeated
    for number in range(count):
        start = number * len(data) // count
        place = rng.randrange(start, max(start + 1, (number + 1) * len(data) // count))
        yield data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def outcomes(packing: str, count: int, seed: int = 1) -> Counter[str]:
    """Count what becomes of a snapshot with a bit flipped: `refused`, `same`, or `SILENT`."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        space = Path(made)
        path = written(space, packing)
        known = content(path, space / "known")
        targets = [path] if packing else sorted(p for p in path.rglob("*") if p.is_file())
        for target in targets:
            whole = target.read_bytes()
            for number, data in enumerate(flips(whole, count // len(targets), seed)):
                target.write_bytes(data)
                try:
                    same = content(path, space / f"{target.name}-{number}") == known
                    found["same" if same else "SILENT"] += 1
                except AuditError:
                    found["refused"] += 1
            target.write_bytes(whole)
    return found


def asked(run: Path, pristine: Path, pair: tuple[str, str, str]) -> tuple[str, ...]:
    """Return what each command that reads a run prints of it, or `refused`."""
    commands = (
        ("report", str(run), "-o", "json", "--stdout"),
        ("report", str(run), "-o", "junit", "--stdout"),
        ("explain", str(run), *pair, "--raw"),
        ("diff", str(pristine), str(run)),
        ("verify", str(run)),
    )
    return tuple(map(_answer, commands))


def _answer(command: tuple[str, ...]) -> str:
    """Return the output and the exit code; an error that is none of ours is raised."""
    done = CliRunner().invoke(audit, command, standalone_mode=False)
    if isinstance(done.exception, AuditError):
        return "refused"
    if done.exception is not None:
        raise done.exception
    return f"{done.return_value} {done.stdout}"


def run_outcomes(run: Path, pair: tuple[str, str, str], count: int, seed: int = 1) -> Counter[str]:
    """Count what becomes of a run with a bit flipped in one of its files, by command."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        copied = Path(made) / run.name
        shutil.copytree(run, copied)
        known = asked(copied, run, pair)
        assert "refused" not in known
        targets = sorted(path for path in copied.rglob("*") if path.is_file())
        for target in targets:
            whole = target.read_bytes()
            for data in flips(whole, -(-count // len(targets)), seed):
                target.write_bytes(data)
                *said, verified = asked(copied, run, pair)
                for answer, as_known in zip(said, known, strict=False):
                    same = "same" if answer == as_known else "SILENT"
                    found["refused" if answer == "refused" else same] += 1
                if verified == "refused" or verified.startswith("1 "):
                    found["verify says so"] += 1
                else:
                    found["same" if _equal(target.name, whole, data) else "SILENT"] += 1
            target.write_bytes(whole)
    return found


def _equal(name: str, whole: bytes, data: bytes) -> bool:
    """Say whether a file that no sum covers byte by byte says the same: `run.json`."""
    return name == "run.json" and json.loads(whole) == json.loads(data)


def small_run(root: Path) -> Path:
    """Return a run of a part of the example."""
    example = str(Path(__file__).parent.parent / "examples" / "interconnect.tar.gz")
    scope = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80", "-q")
    command = ("run", "--snapshot", example, "--out", str(root), *scope, "-o", "json")
    done = CliRunner().invoke(audit, command, standalone_mode=False)
    return Path(json.loads(done.stdout)["path"])


PAIR = ("prod/prod-client-0", "default/web-0", "tcp/80")
"""A cell of it."""


def main() -> None:
    """Flip as many bits as asked in each packing; fail when one went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked_for = parser.parse_args()
    silent = 0
    for packing in PACKINGS:
        found = outcomes(packing, asked_for.flips, asked_for.seed)
        print(f"{packing or 'directory':<10}", dict(found))  # noqa: T201 - what was asked for
        silent += found["SILENT"]
    with tempfile.TemporaryDirectory() as made:
        found = run_outcomes(small_run(Path(made)), PAIR, asked_for.flips, asked_for.seed)
        print("run       ", dict(found))  # noqa: T201
        silent += found["SILENT"]
    raise SystemExit(1 if silent else 0)


if __name__ == "__main__":
    main()
