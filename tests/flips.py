"""One bit flipped, a thousand times: what is read is refused, or is what it was.

`make flips` does it to snapshots in every packing; the suite does it a hundred times.
"""

import argparse
import json
import random
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

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


def main() -> None:
    """Flip as many bits as asked in each packing; fail when one went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    silent = 0
    for packing in PACKINGS:
        found = outcomes(packing, asked.flips, asked.seed)
        print(f"{packing or 'directory':<10}", dict(found))  # noqa: T201 - what was asked for
        silent += found["SILENT"]
    raise SystemExit(1 if silent else 0)


if __name__ == "__main__":
    main()
