"""Damaged inputs for every reader: each answers, or raises its own error class, and nothing else.

`python -m tests.fuzz [--count N] [--seed S] [READER …]` (`make fuzz`: a million for each) prints
how many were read, how many refused, and the first that was neither. The suite tries a few hundred
of each (tests/test_fuzz.py). Inputs are what real programs wrote, with bytes, words and lines
changed, lost, doubled and moved.
"""

import argparse
import hashlib
import json
import random
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import cast

from audit.errors import DatabaseError, RunReadError, ScopeError, SnapshotError
from audit.facts import manifests
from audit.facts.ovn import read_zone
from audit.model.datapath import Pipelines, Switch
from audit.model.engine import DatabaseReader
from audit.model.engine import Tables as TablesProtocol
from audit.pipeline.sitting import options_of
from audit.plan.scope import parse_scope_file
from audit.replay.tables import Tables
from audit.store import layout, unfinished
from audit.store.evidence import differences
from audit.store.schema import TABLES
from audit.trace import ofproto_tree, ofproto_walk, tree, walk
from tests.conftest import REPOSITORY
from tests.trace.recorded_datapath import CLUSTERS, recorded
from tests.verdict import made

WORDS = (
    *(
        b"",
        b"0",
        b"-1",
        b"99999999999999999999",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'"',
        b"\\",
        b"\0",
    ),
    *(
        b"\xff",
        b"(",
        b")",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b";",
        b"/* ",
        b"\n",
        b"    ",
        b"1e999",
    ),
    *(b"NaN", b"0x", b"uuid", b'["set",[]]', b'["map",[[1,2]]]', b"&a", b"*a", b"!!python/name:x"),
)


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Return `seed` with some of it changed: a byte, a span, a line, a word."""
    text = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(text) + 1)
        to = min(len(text), at + rng.choice((1, 1, 4, 16, 200)))
        match rng.randrange(7):
            case 0:
                text[at:to] = b""
            case 1:
                text[at:at] = text[at:to]
            case 2:
                text[at:to] = rng.choice(WORDS)
            case 3:
                text[at:at] = rng.choice(WORDS)
            case 4:
                text[at : at + 1] = bytes([rng.randrange(256)])
            case 5:
                lines = bytes(text).split(b"\n")
                lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
                text = bytearray(b"\n".join(lines))
            case _:
                text = text[:at]
    return bytes(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader, what it may raise, and what real inputs of it look like."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    own: type[Exception]
    mutate: Callable[[bytes, random.Random], bytes] = mutated

    def attempt(self, data: bytes) -> str:
        """Return whether it was `read` or `refused`; anything else is raised."""
        try:
            self.read(data)
        except self.own:
            return "refused"
        return "read"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _ovn_trace(data: bytes) -> None:
    walk.read(tree.parse(_text(data)), target="p2", select=len(data) % 3)


def _ofproto_trace(data: bytes) -> None:
    zone = made.zone(ports=())
    place = ofproto_walk.Place(
        switch=cast("Switch", SimpleNamespace(localnets={})),
        zone=zone,
        pipelines=Pipelines(stages=MappingProxyType({}), datapaths=MappingProxyType({1: "a"})),
        vif_of={1: "p1"},
        localnet_of={},
    )
    ofproto_walk.read(ofproto_tree.parse(_text(data)), place, target="p1", groups={})


@dataclass(frozen=True, slots=True)
class _Files:
    """Reads database files that need no staging."""

    def stage(self, source: Path, target: Path) -> bool:
        raise NotImplementedError

    def tables(self, database: Path, schema: str) -> TablesProtocol:
        return Tables.of(database, schema)


@cache
def _place() -> Path:
    """Return a directory in memory, where there is one: a million files are written to it."""
    shared = Path("/dev/shm")  # noqa: S108 - a directory of its own below
    return Path(tempfile.mkdtemp(prefix="audit-fuzz-", dir=shared if shared.is_dir() else None))


def _databases() -> Sequence[bytes]:
    found = []
    with tarfile.open(REPOSITORY / "examples" / "interconnect.tar.gz") as archive:
        for name in ("nb.db", "sb.db"):
            [member] = (m for m in archive if m.name.endswith(f"ovn/ovn-worker/{name}"))
            content = archive.extractfile(member)
            assert content is not None
            small = _small(content.read())
            (_place() / name).write_bytes(small)
            found.append(name[:2].encode() + b"\n" + small)
    return found


_MOST_ROWS = 4


def _small(content: bytes) -> bytes:
    """Keep a few rows of each table: a million databases are to be read."""
    schema, *transactions = _records(content)
    rows: dict[str, dict[str, object]] = {}
    for transaction in map(json.loads, transactions):
        for table, changes in transaction.items():
            if isinstance(changes, dict):
                rows.setdefault(table, {}).update(changes)
    kept = {table: dict(list(found.items())[:_MOST_ROWS]) for table, found in rows.items()}
    return _file([schema, json.dumps(kept).encode()])


def _file(records: Sequence[bytes]) -> bytes:
    sums = (hashlib.sha1(record, usedforsecurity=False).hexdigest() for record in records)
    return b"".join(
        b"OVSDB JSON %d %s\n%s" % (len(record), checksum.encode(), record)
        for record, checksum in zip(records, sums, strict=True)
    )


def _zone(data: bytes) -> None:
    """Read a zone of which one database is damaged."""
    which, _, content = data.partition(b"\n")
    damaged = _place() / "damaged.db"
    damaged.write_bytes(content)
    pair = {"nb": _place() / "nb.db", "sb": _place() / "sb.db", which.decode(): damaged}
    read_zone(cast("DatabaseReader", _Files()), "z", pair["nb"], pair["sb"])


def _restated(seed: bytes, rng: random.Random) -> bytes:
    """Damage a record and state its checksum as if it was meant; sometimes the file itself."""
    which, _, content = seed.partition(b"\n")
    if rng.random() < 0.1:
        return which + b"\n" + mutated(content, rng)
    records = list(_records(content))
    number = rng.randrange(len(records))
    kept = records[number]
    at = rng.randrange(max(len(kept) - 400, 1))
    records[number] = kept[:at] + mutated(kept[at : at + 400], rng) + kept[at + 400 :]
    return which + b"\n" + _file(records)


def _records(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        line = content.index(b"\n", at) + 1
        length = int(content[at:line].split()[2])
        yield content[line : line + length]
        at = line + length


def _scope(data: bytes) -> None:
    parse_scope_file(_text(data), "scope.yaml")


def _manifests(data: bytes) -> None:
    file = _place() / "objects.yaml"
    file.write_bytes(data)
    manifests.read(str(file))


def _run_json(data: bytes) -> None:
    run = _place() / "run"
    run.mkdir(exist_ok=True)
    (run / layout.MANIFEST).write_bytes(data)
    manifest = layout.read_manifest(run)
    for table in TABLES:
        try:
            layout.table_files(run, manifest, table)
        except RunReadError:
            continue
    list(differences(run))


def _plan_json(data: bytes) -> None:
    run = _place() / "plan"
    run.mkdir(exist_ok=True)
    (run / layout.PLAN).write_bytes(data)
    options_of(unfinished.read_plan(run), {}, run)


SCOPE = b"""\
namespaces: [shop, team]
selector:
  matchLabels: {app: web}
  matchExpressions:
  - {key: tier, operator: NotIn, values: [cache, db]}
to:
  services: [shop/web, openshift-dns/*]
  ips: [10.0.0.1, "2001:db8::1"]
ports: [tcp/80, udp/53, tcp/8000-8100, http, declared]
family: both
"""
PLAN = {
    "schema_version": 3,
    "audit": "0.1.0",
    "started": "2026-11-25T08:12:20+00:00",
    "engine": {"name": "ovn-trace", "version": "25.03.0"},
    "scope": {"namespaces": ["shop"], "ports": ["tcp/80"], "family": "ip4"},
    "options": {
        "snapshot": "/a",
        "workers": "ray",
        "planes": ["logical"],
        "verify": 50,
        "cover": "legs",
    },
    "inputs": [{"path": "kube/pods.json", "size": 1, "sha256": "ab"}],
}
RUN = {
    "schema_version": 3,
    "outputs": [
        {"path": "cells/part-00000.parquet", "size": 12, "sha256": "ab"},
        {"path": "endpoints.parquet", "size": 12, "sha256": "cd"},
    ],
}


def _golden() -> Sequence[bytes]:
    files = sorted((REPOSITORY / "tests" / "trace" / "golden").glob("*/*/trace.txt"))
    return [file.read_bytes() for file in files]


def _recorded() -> Sequence[bytes]:
    return [one.output.encode() for cluster in CLUSTERS for one in recorded(cluster)]


def _objects() -> Sequence[bytes]:
    return [file.read_bytes() for file in sorted((REPOSITORY / "tests").rglob("*.yaml"))] or [
        b"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, labels: {a: b}}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {namespaceSelector: {}}]
    ports: [{protocol: TCP, port: 80, endPort: 90}, {port: http}]
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop}
  spec:
    replicas: 2
    template:
      metadata: {labels: {app: web}}
      spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
- apiVersion: policy.networking.k8s.io/v1alpha1
  kind: AdminNetworkPolicy
  metadata: {name: admin}
  spec:
    priority: 10
    subject: {namespaces: {matchLabels: {a: b}}}
    egress:
    - name: x
      action: Deny
      to: [{networks: [10.0.0.0/8]}]
      ports: [{portRange: {start: 1, end: 9}}]
- apiVersion: k8s.ovn.org/v1
  kind: EgressFirewall
  metadata: {name: default, namespace: shop}
  spec: {egress: [{type: Deny, to: {cidrSelector: 0.0.0.0/0}}, {type: Allow, to: {dnsName: a.b}}]}
"""
    ]


READERS = {
    "ovn-trace": Reader(seeds=_golden, read=_ovn_trace, own=tree.TraceSyntaxError),
    "ofproto-trace": Reader(
        seeds=_recorded, read=_ofproto_trace, own=ofproto_tree.OfprotoSyntaxError
    ),
    "ovsdb": Reader(seeds=_databases, read=_zone, own=DatabaseError, mutate=_restated),
    "scope": Reader(seeds=lambda: [SCOPE], read=_scope, own=ScopeError),
    "manifests": Reader(seeds=_objects, read=_manifests, own=SnapshotError),
    "run.json": Reader(
        seeds=lambda: [json.dumps(RUN, indent=1).encode()], read=_run_json, own=RunReadError
    ),
    "plan.json": Reader(
        seeds=lambda: [json.dumps(PLAN, indent=1).encode()], read=_plan_json, own=RunReadError
    ),
}


def fuzz(name: str, count: int, seed: int, seconds: float = float("inf")) -> Counter[str]:
    """Try `count` damaged inputs of a reader, each made of its own number; return what came out.

    Raises AssertionError with the number of the first that is neither read nor refused.
    """
    reader, counts = READERS[name], Counter[str]()
    seeds = reader.seeds()
    began = time.monotonic()
    for number in range(count):
        if time.monotonic() - began > seconds:
            break
        rng = random.Random(f"{seed}/{number}")  # noqa: S311 - damage, no secrets
        data = reader.mutate(rng.choice(seeds), rng)
        try:
            counts[reader.attempt(data)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: input {number} of seed {seed}: {error!r}") from error
    return counts


def main() -> int:
    """Try many, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], default=[])
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, per reader")
    given = parser.parse_args()
    for name in given.readers or READERS:
        began = time.monotonic()
        counts = fuzz(name, given.count, given.seed, given.seconds)
        took = time.monotonic() - began
        sys.stdout.write(
            f"{name:<14}{counts.total():>10,} inputs: {counts['read']:>9,} read, "
            f"{counts['refused']:>9,} refused, 0 otherwise, {took:,.0f} s\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
