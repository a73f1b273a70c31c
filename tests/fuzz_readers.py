"""Every reader of what comes from outside, with small inputs that real programs wrote.

Inputs are small so that the time of a million goes to the readers; what they hold besides is left
out. Files that a reader wants on disk are in memory, where the machine has such a place.
"""

import io
import json
import random
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal, cast

import yaml

from audit.commands.plan_file import options_of
from audit.errors import DatabaseError, RunReadError, ScopeError, SnapshotError
from audit.facts import (
    archive,
    kube,
    manifests,
    mustgather,
    objects,
    policyobjects,
    snapshot,
    validity,
)
from audit.facts.ovn import read_zone
from audit.model.datapath import Pipelines, Switch
from audit.model.engine import DatabaseReader
from audit.model.engine import Tables as TablesProtocol
from audit.replay import tables
from audit.replay.tables import Tables
from audit.report.formats import history as told
from audit.scope import expectations
from audit.scope.scope import parse_scope_file
from audit.store import history, layout, unfinished
from audit.store.evidence import differences
from audit.store.schema import SCHEMA_VERSION, TABLES
from audit.trace import ofproto_tree, ofproto_walk, tree, walk
from audit.trace.unixctl import RefusedError, Unixctl, UnixctlError
from tests.conftest import REPOSITORY
from tests.fuzz import Reader, mutated, reshaped
from tests.policy_seeds import SEEDS, accepted_by_schemas
from tests.trace.recorded_datapath import CLUSTERS, recorded
from tests.verdict import made

_EXAMPLE = REPOSITORY / "examples" / "interconnect.tar.gz"
_SHORT = 10_000
"""Bytes of a trace; longer ones say the same more often."""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@cache
def _place(name: str) -> Path:
    """Return a directory in memory, where there is one: a million files are written to it."""
    shared = Path("/dev/shm")  # noqa: S108 - a directory of its own below
    prefix = f"audit-fuzz-{name}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=shared if shared.is_dir() else None))


@contextmanager
def _damaged(file: Path, text: bytes) -> Iterator[None]:
    """Have another text in a file, if it is there, for as long as the block takes."""
    kept = file.read_bytes() if file.exists() else None
    file.write_bytes(text)
    try:
        yield
    finally:
        if kept is None:
            file.unlink()
        else:
            file.write_bytes(kept)


@cache
def _members() -> dict[str, bytes]:
    """Return the files of the example cluster."""
    with tarfile.open(_EXAMPLE) as packed:
        return {
            member.name.removeprefix("./"): cast("Any", packed.extractfile(member)).read()
            for member in packed
            if member.isfile()
        }


# -- Traces -----------------------------------------------------------------------------------


def _golden() -> Sequence[bytes]:
    files = sorted((REPOSITORY / "tests" / "trace" / "golden").glob("*/*/trace.txt"))
    return [text for file in files if len(text := file.read_bytes()) < _SHORT]


def _ovn_trace(data: bytes) -> None:
    walk.read(tree.parse(_text(data)), target="p2", select=len(data) % 3)


def _recorded() -> Sequence[bytes]:
    found = (one.output.encode() for cluster in CLUSTERS for one in recorded(cluster))
    return [text for text in found if len(text) < _SHORT]


def _ofproto_trace(data: bytes) -> None:
    zone = made.zone(ports=())
    symbols = ofproto_walk.Symbols(
        switch=cast("Switch", SimpleNamespace(localnets={})),
        zone=zone,
        pipelines=Pipelines(stages=MappingProxyType({}), datapaths=MappingProxyType({1: "a"})),
        vif_of={1: "p1"},
        localnet_of={},
    )
    ofproto_walk.read(ofproto_tree.parse(_text(data)), symbols, target="p1", groups={})


def _replies() -> Sequence[bytes]:
    said = [text[:600].decode() for text in _golden()[:5]]
    return [
        *(json.dumps({"id": 1, "result": text, "error": None}).encode() for text in said),
        b'{"error":"unknown port shop_a\\n","id":1,"result":null}\n',
    ]


@cache
def _listener() -> tuple[Path, socket.socket]:
    path = _place("unixctl") / "socket"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return path, listener


def _unixctl(data: bytes) -> None:
    """Take a reply that a daemon sends before it goes away."""
    path, listener = _listener()
    with Unixctl(path, timeout_s=10) as client, listener.accept()[0] as daemon:
        daemon.sendall(data)
        daemon.shutdown(socket.SHUT_WR)
        with suppress(RefusedError):  # an answer, too
            client.transact("trace", "x")


# -- OVN databases ----------------------------------------------------------------------------


class _Files:
    """Reads database files that need no staging."""

    def stage(self, source: Path, target: Path) -> bool:
        raise NotImplementedError

    def tables(self, database: Path, schema: str) -> TablesProtocol:
        return Tables.of(database, schema)


_MOST_ROWS = 2


@cache
def _databases() -> Sequence[bytes]:
    found = []
    for name in ("nb.db", "sb.db"):
        small = _small(_members()[f"ovn/ovn-worker/{name}"])
        (_place("ovsdb") / name).write_bytes(small)
        found.append(name[:2].encode() + b"\n" + small)
    return found


def _small(content: bytes) -> bytes:
    """Keep a few rows of each table, and of the schema the tables that have some."""
    first, *transactions = map(bytes, _records(content))
    rows: dict[str, dict[str, object]] = {}
    for transaction in map(json.loads, transactions):
        for table, changes in transaction.items():
            if isinstance(changes, dict):
                rows.setdefault(table, {}).update(changes)
    kept = {table: dict(list(found.items())[:_MOST_ROWS]) for table, found in rows.items()}
    schema = json.loads(first)
    schema["tables"] = {name: table for name, table in schema["tables"].items() if name in kept}
    return database([json.dumps(schema).encode(), json.dumps(kept).encode()])


def database(records: Sequence[bytes]) -> bytes:
    """Return a database file of these records."""
    return b"".join(map(tables.record, records))


def _zone(data: bytes) -> None:
    """Read a zone of which one database is damaged."""
    which, _, content = data.partition(b"\n")
    place = _place("ovsdb")
    damaged = place / "damaged.db"
    damaged.write_bytes(content)
    pair = {"nb": place / "nb.db", "sb": place / "sb.db", which.decode(): damaged}
    read_zone(cast("DatabaseReader", _Files()), "z", pair["nb"], pair["sb"])


def _restated(seed: bytes, rng: random.Random) -> bytes:
    """Damage a record and state its checksum as if it was meant; sometimes the file itself."""
    which, _, content = seed.partition(b"\n")
    if rng.random() < 0.1:
        return which + b"\n" + mutated(content, rng)
    records = list(map(bytes, _records(content)))
    number = rng.randrange(len(records))
    kept = records[number]
    if rng.random() < 0.5:
        records[number] = reshaped(kept, rng)
    else:
        at = rng.randrange(max(len(kept) - 400, 1))
        records[number] = kept[:at] + mutated(kept[at : at + 400], rng) + kept[at + 400 :]
    return which + b"\n" + database(records)


def _records(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        line = content.index(b"\n", at) + 1
        length = int(content[at:line].split()[2])
        yield content[line : line + length]
        at = line + length


# -- Kubernetes objects -----------------------------------------------------------------------

_SNAPSHOT_JSON = {
    "source": "context dev",
    "notes": [{"code": "zone-missing", "text": "zone x is missing", "subjects": ["x"]}],
    "unread_policies": ["egressfirewalls"],
    "changed": ["shop/web-0"],
}


@cache
def _lists() -> Sequence[bytes]:
    """Return each List of the example cut to an object, with the name of its file."""
    place = _place("lists")
    (place / "kube").mkdir()
    found = {"snapshot.json": _SNAPSHOT_JSON}
    for name, content in _members().items():
        if name.startswith("kube/"):
            said = json.loads(content)
            kept = max(map(_cut, said["items"]), key=lambda item: len(json.dumps(item)))
            found[name] = {**said, "items": [kept]}
    texts = {name: json.dumps(value).encode() for name, value in found.items()}
    for name, text in texts.items():
        if Path(name).stem not in kube.POLICY_RESOURCES:  # read when it is damaged
            (place / name).write_bytes(text)
    return [name.encode() + b"\n" + text for name, text in texts.items()]


def _cut(value: Any) -> Any:
    """Keep of each list its first member: all fields there are, once."""
    if isinstance(value, dict):
        return {key: _cut(one) for key, one in value.items() if key != "managedFields"}
    return [_cut(one) for one in value[:1]] if isinstance(value, list) else value


def _relisted(seed: bytes, rng: random.Random) -> bytes:
    name, _, text = seed.partition(b"\n")
    return name + b"\n" + reshaped(text, rng)


def _snapshot(data: bytes) -> None:
    """Read a snapshot of which one List, or its description, is damaged."""
    name, _, text = data.partition(b"\n")
    with _damaged(_place("lists") / name.decode(), text):
        objects.load_snapshot(_place("lists"), _place("lists"))


def _archives() -> Sequence[bytes]:
    place = _place("packed")
    modes: tuple[Literal["w:gz", "w:xz", "w"], ...] = ("w:gz", "w:xz", "w")
    for mode in modes:
        with tarfile.open(place / mode, mode) as packed:
            for name in ("kube/pods.json", "ovn/a/nb.db", "ovn/a/sb.db"):
                member = tarfile.TarInfo(f"cluster/{name}")
                member.size = 5
                packed.addfile(member, io.BytesIO(b"12345"))
    return [file.read_bytes() for file in sorted(place.iterdir())]


def _archive(data: bytes) -> None:
    place = _place("archive")
    (place / "a.tar.gz").write_bytes(data)
    try:
        snapshot.open_snapshot(place / "a.tar.gz", place)
    finally:
        shutil.rmtree(place / "snapshot", ignore_errors=True)


@cache
def _gathered() -> Sequence[bytes]:
    """Return the YAML files of a small must-gather, with their names."""
    files = {
        "cluster-scoped-resources/core/nodes/n.yaml": "nodes",
        "namespaces/shop/shop.yaml": "namespaces",
        "namespaces/shop/core/pods.yaml": "pods",
        "namespaces/shop/networking.k8s.io/networkpolicies.yaml": "networkpolicies",
    }
    place, found = _place("gathered"), []
    for name, resource in files.items():
        said = json.loads(_members()[f"kube/{resource}.json"])
        kept = min(map(_cut, said["items"]), key=lambda item: len(json.dumps(item)))
        text = json.dumps({**said, "items": [kept]} if name.endswith("s.yaml") else kept).encode()
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(text)
        found.append(name.encode() + b"\n" + text)
    return found


def _must_gather(data: bytes) -> None:
    name, _, text = data.partition(b"\n")
    place, target = _place("gathered"), _place("converted") / "snapshot"
    try:
        with _damaged(place / name.decode(), text):
            gathered = mustgather.find(place, str(place))
            assert gathered is not None
            mustgather.convert(gathered, target, archive.Limit(), databases=False)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _flow(text: bytes) -> bytes:
    """Return the last document of YAML as JSON, which is YAML too, and can be reshaped."""
    *_, last = yaml.safe_load_all(text)
    return json.dumps(last, default=str).encode()


def _respelled(seed: bytes, rng: random.Random) -> bytes:
    """Damage YAML as text, or, where it is JSON, its values."""
    return reshaped(seed, rng) if seed.startswith(b"{") else mutated(seed, rng)


def _manifests(data: bytes) -> None:
    file = _place("manifests") / "objects.yaml"
    file.write_bytes(data)
    manifests.read(str(file))


def _policy(data: bytes) -> None:
    """Read a policy as manifests are; what is read is what the schemas accept, too."""
    try:
        item = json.loads(data)
        kind = item["kind"]
        faults = validity.of_policy(item, kind) if kind in _POLICY_KINDS else ["no policy"]
        if not faults:
            assert accepted_by_schemas(item, kind), item
            policyobjects.policy(item, kind)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SnapshotError(str(error)) from error
    if faults:
        raise SnapshotError(str(faults[0]))


_POLICY_KINDS = frozenset(kube.POLICY_RESOURCES.values())


# -- What a user writes -----------------------------------------------------------------------


def _scope(data: bytes) -> None:
    parse_scope_file(_text(data), "scope.yaml")


def _expectations(data: bytes) -> None:
    expectations.parse(_text(data), "expectations.yaml")


# -- A run ------------------------------------------------------------------------------------


def _run_json(data: bytes) -> None:
    run = _place("run")
    (run / layout.MANIFEST).write_bytes(data)
    manifest = layout.read_manifest(run)
    for table in TABLES:
        try:
            layout.table_files(run, manifest, table)
        except RunReadError:
            continue
    list(differences(run))


def _history(data: bytes) -> None:
    """List a run that is damaged, twice, so that it is compared too."""
    root = _place("runs")
    (root / "one").mkdir(exist_ok=True)
    (root / "one" / layout.MANIFEST).write_bytes(data)
    found = history.find(root)
    told.history(found.runs * 2)
    for sentence in found.skipped:
        raise RunReadError(sentence)


def _plan_json(data: bytes) -> None:
    run = _place("plan")
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
EXPECTATIONS = (
    b"""\
expectations:
- name: db-only-from-api
  description: The database is for the API alone.
  from: {kinds: [pod]}
  to: {namespaces: [shop], selector: app=db, ips: [10.0.0.0/8, "fd00::1"]}
  ports: [tcp/5432, tcp/8000-8100, udp]
  expect: blocked
  by: networkpolicy shop/db-in
  except:
  - from: {workloads: [shop/api], names: [shop/api-0], nodes: [worker]}
    reason: the API reads it
    owner: team-shop
    expires: 2027-03-31
waivers:
- {for: [a], to: {names: [shop/db]}, reason: r, owner: o, expires: 2027-03-31}
""",
    b"""\
expectations:
- name: no-strangers
  from: {namespaceSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [a, b]}]}}
  where: across-namespaces
  expect: any
  by: policy
  needs: a run with --to-ip
""",
)
PLAN = {
    "schema_version": SCHEMA_VERSION,
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
KEPT = {
    **RUN,
    "run_id": "20261125T081220Z-be65",
    "started": "2026-11-25T08:12:20+00:00",
    "scope": {"namespaces": ["shop"]},
    "planes": ["logical"],
    "counts": {"cells": 24, "reachable": 12, "blocked": 12, "traces": 51},
    "coverage": {"proven": 24, "total": 24},
    "pairs": {"total": 24, "passing": 12},
    "drifting": 0,
    "exposure": {"shop": {"passes": 12, "proven": 24, "cells": 24}},
    "verify": {"of": 5, "disagreements": []},
    "findings": [],
}
MANIFESTS = (
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
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
""",
    b"""\
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
""",
)


def _spelled(*texts: bytes) -> Sequence[bytes]:
    return [*texts, *map(_flow, texts)]


def _json(value: object) -> Sequence[bytes]:
    return [json.dumps(value, indent=1).encode()]


READERS = {
    "run.json": Reader(seeds=lambda: _json(RUN), read=_run_json, own=RunReadError, mutate=reshaped),
    "plan.json": Reader(
        seeds=lambda: _json(PLAN), read=_plan_json, own=RunReadError, mutate=reshaped
    ),
    "history": Reader(seeds=lambda: _json(KEPT), read=_history, own=RunReadError, mutate=reshaped),
    "unixctl": Reader(seeds=_replies, read=_unixctl, own=UnixctlError, mutate=reshaped),
    "ovn-trace": Reader(seeds=_golden, read=_ovn_trace, own=tree.TraceSyntaxError),
    "archive": Reader(seeds=_archives, read=_archive, own=SnapshotError),
    "snapshot": Reader(
        seeds=_lists, read=_snapshot, own=SnapshotError, mutate=_relisted, named=True
    ),
    "manifests": Reader(
        seeds=lambda: _spelled(*MANIFESTS), read=_manifests, own=SnapshotError, mutate=_respelled
    ),
    "policies": Reader(
        seeds=lambda: [json.dumps(seed).encode() for seed in SEEDS],
        read=_policy,
        own=SnapshotError,
        mutate=reshaped,
    ),
    "must-gather": Reader(
        seeds=_gathered, read=_must_gather, own=SnapshotError, mutate=_relisted, named=True
    ),
    "expectations": Reader(
        seeds=lambda: _spelled(*EXPECTATIONS),
        read=_expectations,
        own=ScopeError,
        mutate=_respelled,
    ),
    "scope": Reader(seeds=lambda: _spelled(SCOPE), read=_scope, own=ScopeError, mutate=_respelled),
    "ofproto-trace": Reader(
        seeds=_recorded, read=_ofproto_trace, own=ofproto_tree.OfprotoSyntaxError
    ),
    "ovsdb": Reader(seeds=_databases, read=_zone, own=DatabaseError, mutate=_restated, named=True),
}
