"""Synthetic runs: a shop with policies, random verdicts, names that try to be markup."""

import base64
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Policy
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.packets import Family, Protocol
from audit.model.run import Run, TraceRecord
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    REASON_CODE,
    REASONS,
    VERDICTS,
    Blame,
    PolicyRef,
    Reason,
    Verdict,
)

HTTP = Port(protocol=Protocol.TCP, number=80)
SQL = Port(protocol=Protocol.TCP, number=5432)
DNS = Port(protocol=Protocol.UDP, number=53)

MANIFEST = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {name}
  namespace: {namespace}
spec:
  ingress:
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: shop
    ports:
    - port: 80
      protocol: TCP
  - from:
    - podSelector: {{}}
  podSelector: {{}}
  policyTypes:
  - Ingress
"""

RAW = """\
# tcp,reg14=0x7,metadata=0x3,dl_src=0a:58:0a:f4:00:07,dl_dst=0a:58:0a:f4:00:01,nw_ttl=64,tp_dst=80

ingress(dp="{zone}", inport="{port}")
-------------------------------------
 0. ls_in_check_port_sec (northd.c:8618): 1, priority 50, uuid 1f0a9c31
    reg0[15] = check_in_port_sec();
    next;
 4. ls_in_pre_acl (northd.c:6012): ip, priority 100, uuid 6f2c7a10
    reg0[0] = 1;
    next;
 5. ls_in_pre_lb (northd.c:6198): ip, priority 100, uuid 0c1b8e77
    reg0[2] = 1;
    next;
ct_next(ct_state=new|trk)
-------------------------
 8. ls_in_acl_eval (northd.c:6843): ip && !ct.est, priority 1, uuid 44a0e9d2
    reg0[1] = 1;
    next;
27. ls_in_l2_lkup (northd.c:9407): eth.dst == {mac}, priority 50, uuid 90b1c4aa
    outport = "{port}";
    output;

egress(dp="{zone}", inport="{port}", outport="{port}")
------------------------------------------------------
 3. ls_out_acl_eval (northd.c:6843): outport == @a1438, priority 2000, uuid {flow}
    {action}
"""


@dataclass(frozen=True)
class Traces:
    """A TraceReader over a dict."""

    records: Mapping[str, TraceRecord]

    def all(self) -> Iterator[TraceRecord]:
        return (self.records[key] for key in sorted(self.records))

    def get(self, key: str) -> TraceRecord | None:
        return self.records.get(key)

    def reply_to(self, key: str) -> TraceRecord | None:
        return next((record for record in self.all() if key in record.reply_of), None)

    def deciding(self, zone: str, like: Blame) -> TraceRecord | None:
        return next(
            (
                record
                for record in self.all()
                if (record.zone, record.acl_match) == (zone, like.acl_match)
                and (record.policy_direction, record.policy_rule) == (like.direction, like.rule)
            ),
            None,
        )


def trace(key: str, **fields: object) -> TraceRecord:
    """Return a trace that says nothing but `fields`."""
    empty: dict[str, Any] = dict.fromkeys(TraceRecord.__slots__, "")
    empty |= {"plane": "logical", "zone": "worker-a", "state": "new", "outcome": "reachable"}
    empty |= {"policy_rule": -1, "policies": (), "next_keys": (), "reply_of": ()}
    everything: dict[str, Any] = {**empty, "key": key, **fields}
    return TraceRecord(**everything)


def policy(namespace: str, name: str, manifest: str = MANIFEST) -> Policy:
    """Return a NetworkPolicy with two ingress rules."""
    return Policy(
        ref=PolicyRef(kind="NetworkPolicy", namespace=namespace, name=name),
        directions=("ingress",),
        rules=(2, 0),
        text=manifest.format(name=name, namespace=namespace),
    )


def pod(namespace: str, name: str, workload: str = "", address: str = "10.244.0.5") -> Endpoint:
    """Return a pod."""
    return Endpoint(
        kind=EndpointKind.POD,
        namespace=namespace,
        name=name,
        node="worker-a",
        addresses=(address,),
        workload=workload,
    )


Cell = tuple[Verdict, Reason, int, int]
"""(verdict, reason, reply code, blame index)."""
Decide = Callable[[Endpoint, Endpoint, Family, Port], Cell | None]


def assemble(  # noqa: PLR0913 - the parts of a run
    endpoints: Sequence[Endpoint],
    ports: Sequence[Port],
    decide: Decide,
    *,
    families: Sequence[Family] = (Family.IP4,),
    blames: Sequence[Blame] = (),
    policies: Sequence[Policy] = (),
    traced: bool = True,
    manifest: Mapping[str, Any] | None = None,
) -> Run:
    """Return the run of every pair of endpoints for which `decide` has an answer."""
    rows: list[tuple[int, ...]] = []
    records: dict[str, TraceRecord] = {}
    for s, src in enumerate(endpoints):
        for d, dst in enumerate(endpoints):
            for family in families:
                for p, port in enumerate(ports):
                    cell = decide(src, dst, family, port) if s != d else None
                    if cell is None:
                        continue
                    verdict, reason, reply, blame = cell
                    key = -1
                    if traced and verdict is not Verdict.UNTRACED:
                        key = len(rows)
                        why = blames[blame] if blame >= 0 else None
                        records |= _records(f"t{key:06}", src, dst, verdict, reason, reply, why)
                    at = (s, d, FAMILIES.index(family), p)
                    codes = (CODE[verdict], reply, REASON_CODE[reason], blame)
                    rows.append((*at, *codes, key))
    table = np.array(rows, np.int64).reshape(len(rows), 9)
    counts = {v: int((table[:, 4] == CODE[v]).sum()) for v in VERDICTS}
    proven = len(rows) - counts[Verdict.INCONCLUSIVE] - counts[Verdict.UNTRACED]
    return Run(
        path="runs/20260214-021500",
        manifest={
            "schema_version": 1,
            "run_id": "20260214-021500",
            "started": "2026-02-14T02:15:00+00:00",
            "finished": "2026-02-14T02:15:41+00:00",
            "source": "snapshot nightly.tar.gz",
            "scope": {"namespaces": "all", "ports": ["declared"], "family": "ip4"},
            "command": "audit run --snapshot nightly.tar.gz",
            "engine": {"name": "ovn-trace", "version": "25.03.1"},
            "databases": [
                {"zone": zone, "northd_version": "25.03.1-20.41.0-78.8", "sequence": "1042"}
                for zone in ("worker-a", "worker-b")
            ],
            "planes": ["logical"],
            "cover": "exhaustive",
            "counts": {"cells": len(rows), **counts, "traces": len(records)},
            "coverage": {"proven": proven, "total": len(rows)},
            "notes": [],
            "verify": None,
            **(manifest or {}),
        },
        matrix=Matrix(
            endpoints=tuple(endpoints),
            ports=tuple(ports),
            src=table[:, 0].astype(np.int32),
            dst=table[:, 1].astype(np.int32),
            family=table[:, 2].astype(np.int8),
            port=table[:, 3].astype(np.int32),
        ),
        verdicts=CellVerdicts(
            verdict=table[:, 4].astype(np.uint8),
            reply=table[:, 5].astype(np.uint8),
            reason=table[:, 6].astype(np.uint8),
            blame=table[:, 7].astype(np.int32),
            trace=table[:, 8].astype(np.int32),
            blames=tuple(blames),
            trace_keys=tuple(f"t{key:06}" for key in range(len(rows))),
        ),
        policies=tuple(policies),
        traces=Traces(records),
    )


def _records(
    key: str,
    src: Endpoint,
    dst: Endpoint,
    verdict: Verdict,
    reason: Reason,
    reply: int,
    blame: Blame | None,
) -> dict[str, TraceRecord]:
    """Return two hops of a request, and one of its reply where there is one."""
    flow = "a7c3f001" if verdict is Verdict.BLOCKED else "5d8e2b19"
    action = "/* drop */" if verdict is Verdict.BLOCKED else f'/* output to "{dst.name}" */'
    text = RAW.format(
        zone="worker-b", port=dst.name, mac="0a:58:0a:f4:01:09", flow=flow, action=action
    )
    first = RAW.format(
        zone="worker-a", port=src.name, mac="0a:58:0a:f4:01:09", flow="77de0112", action="output;"
    )
    ref = blame.policy if blame else None
    named: dict[str, Any] = {}
    if ref is not None and blame is not None:
        named = {"policy_kind": ref.kind, "policy_namespace": ref.namespace}
        named |= {"policy_name": ref.name, "policy_direction": blame.direction}
        named |= {"policy_rule": blame.rule, "acl": blame.acl}
    last = f"{key}-2"
    microflow = f'inport=="{src.name}" && ip4.dst=={dst.addresses[0]} && tcp.dst==80'
    outcome = "blocked" if verdict is Verdict.BLOCKED else "reachable"
    records = {
        key: trace(key, microflow=microflow, outcome="continues", output=first, next_keys=(last,)),
        last: trace(
            last,
            zone="worker-b",
            microflow=microflow,
            outcome=outcome,
            reason=str(reason),
            stage="ls_out_acl_eval",
            logical_flow=flow,
            output=text,
            **named,
        ),
    }
    if reply != NO_VERDICT:
        back = f"{key}-r"
        records[back] = trace(back, zone="worker-b", state="est,rpl", reply_of=(key,), output=text)
    return records


SHOP = {
    "default": ("web", "cache"),
    "data": ("postgres", "backup"),
    "ingress": ("router",),
    "monitoring": ("prometheus", "grafana"),
    "payments": ("api", "ledger", "worker"),
    "shop": ("front", "cart", "search"),
}

BLAMES = (
    Blame(
        action="drop",
        direction="ingress",
        policy=PolicyRef(kind="NetworkPolicy", namespace="default", name="deny-by-default"),
        policies=(PolicyRef(kind="NetworkPolicy", namespace="default", name="deny-by-default"),),
        acl="a7c3f001",
        acl_match="outport == @a14380183 && ip",
        logical_flow="a7c3f001",
        stage="ls_out_acl_eval",
        zone="worker-b",
    ),
    Blame(
        action="drop",
        direction="ingress",
        policy=PolicyRef(kind="NetworkPolicy", namespace="payments", name="api-from-shop"),
        policies=(
            PolicyRef(kind="NetworkPolicy", namespace="payments", name="api-from-shop"),
            PolicyRef(kind="NetworkPolicy", namespace="payments", name="same-namespace"),
        ),
        acl="0b44d9e2",
        acl_match="outport == @a9921774 && ip",
        stage="ls_out_acl_eval",
        zone="worker-a",
    ),
    Blame(
        action="drop",
        direction="egress",
        policy=PolicyRef(kind="AdminNetworkPolicy", namespace="", name="data-stays-inside"),
        rule=1,
        acl="c1d2e3f4",
        acl_match="inport == @a55 && (ip4.dst == 0.0.0.0/0)",
        stage="ls_in_acl_after_lb_eval",
        zone="worker-a",
    ),
    Blame(
        action="allow-related",
        direction="ingress",
        policy=PolicyRef(kind="NetworkPolicy", namespace="payments", name="same-namespace"),
        rule=1,
        acl="9e8d7c6b",
        stage="ls_out_acl_eval",
        zone="worker-a",
    ),
)


YES = CODE[Verdict.REACHABLE]
DELIVERED: Cell = (Verdict.REACHABLE, Reason.DELIVERED, YES, -1)


def shop_decides(src: Endpoint, dst: Endpoint, family: Family, port: Port) -> Cell | None:
    """Return verdicts as a real cluster might have them; `family` makes no difference to them."""
    del family
    if src.kind is not EndpointKind.POD:
        return None
    if dst.kind is EndpointKind.NODE:
        return (Verdict.EXITS, Reason.LEFT_BY_HOST, CODE[Verdict.INCONCLUSIVE], -1)
    if dst.kind is EndpointKind.SERVICE:
        return (Verdict.INCONCLUSIVE, Reason.BACKENDS_DIFFER, NO_VERDICT, -1)
    if dst.kind is EndpointKind.EXTERNAL:
        if src.namespace == "data":
            return (Verdict.BLOCKED, Reason.ACL_DROP, NO_VERDICT, 2)
        return (Verdict.EXITS, Reason.LEFT_BY_GATEWAY, CODE[Verdict.UNTRACED], -1)
    return pods_decide(src, dst, port)


def pods_decide(src: Endpoint, dst: Endpoint, port: Port) -> Cell:
    """Return the verdict between two pods."""
    cases: tuple[tuple[bool, Cell], ...] = (
        (
            dst.namespace == "default" and not (src.namespace == "shop" and port is HTTP),
            (Verdict.BLOCKED, Reason.DEFAULT_DENY, NO_VERDICT, 0),
        ),
        (
            dst.namespace == "payments" != src.namespace,
            (Verdict.BLOCKED, Reason.DEFAULT_DENY, NO_VERDICT, 1),
        ),
        (
            dst.namespace == "payments",
            (Verdict.REACHABLE, Reason.ALLOWED_BY_ACL, YES, 3),
        ),
        (
            src.workload == "backup" and port is HTTP,
            (Verdict.UNROUTABLE, Reason.NO_ROUTE, NO_VERDICT, -1),
        ),
        (
            dst.name == "grafana-0",
            (Verdict.UNTRACED, Reason.USER_DEFINED_NETWORK, NO_VERDICT, -1),
        ),
        (
            src.workload == "router" and dst.workload == "search",
            (Verdict.REACHABLE, Reason.DELIVERED, CODE[Verdict.BLOCKED], -1),
        ),
    )
    return next((cell for applies, cell in cases if applies), DELIVERED)


def pods_only(src: Endpoint, dst: Endpoint, family: Family, port: Port) -> Cell | None:
    """Return the verdict of `pods_decide`, whatever the family."""
    del family
    return pods_decide(src, dst, port)


def shop(replicas: int = 3, *, traced: bool = True, families: Sequence[Family] = ()) -> Run:
    """Return the run most tests look at: 13 workloads, a service, a node, an external address."""
    pods = [
        pod(namespace, f"{workload}-{number}", workload, f"10.244.{number}.{len(workload)}")
        for namespace, workloads in SHOP.items()
        for workload in workloads
        for number in range(replicas)
    ]
    service = Endpoint(
        kind=EndpointKind.SERVICE, namespace="shop", name="cart", addresses=("10.96.0.17",)
    )
    node = Endpoint(kind=EndpointKind.NODE, name="worker-a", addresses=("172.18.0.3",))
    external = Endpoint(
        kind=EndpointKind.EXTERNAL,
        name="198.51.100.7",
        node="worker-a",
        addresses=("198.51.100.7",),
    )
    return assemble(
        [*pods, service, node, external],
        [HTTP, SQL],
        shop_decides,
        families=families or (Family.IP4,),
        blames=BLAMES,
        policies=[
            policy("default", "deny-by-default"),
            policy("payments", "api-from-shop"),
            policy("payments", "same-namespace"),
        ],
        traced=traced,
        manifest={
            "notes": [
                {
                    "code": "udn-not-traced",
                    "text": "Pods in user-defined networks are not traced.",
                    "subjects": ["pod monitoring/grafana-0"],
                }
            ]
        },
    )


HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "\"'><img src=x onerror=alert(3)>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "a,b&cell=%3Cb%3E#\u2028",
    "=HYPERLINK(1)",
    "\u202egnp.exe",
    "n" * 253,
    "\N{PILE OF POO}\N{FLAG IN HOLE}",
)


def hostile() -> Run:
    """Return a run in which every name and text tries to be something else than text."""
    pods = [pod(f"ns {text}", f"pod {text}", f"load {text}") for text in HOSTILE]
    ref = PolicyRef(kind="NetworkPolicy", namespace=f"ns {HOSTILE[0]}", name=HOSTILE[1])
    other = PolicyRef(kind="NetworkPolicy", namespace=f"ns {HOSTILE[0]}", name=HOSTILE[2])
    blame = Blame(
        action="drop",
        direction="ingress",
        policy=ref,
        policies=(ref, other),
        acl_match=HOSTILE[0],
        stage=HOSTILE[3],
        zone=HOSTILE[1],
        owner=HOSTILE[4],
    )
    text = "\n".join(f"  {line}" for line in HOSTILE)
    manifest = f"metadata:\n{text}\nspec:\n  podSelector: {{}}\n"
    return assemble(
        pods,
        [HTTP],
        lambda *_: (Verdict.BLOCKED, Reason.DEFAULT_DENY, NO_VERDICT, 0),
        blames=[blame],
        policies=[Policy(ref=ref, directions=("ingress",), rules=(0, 0), text=manifest)],
        manifest={
            "run_id": HOSTILE[1],
            "source": HOSTILE[0],
            "scope": {HOSTILE[2]: HOSTILE[3]},
            "command": HOSTILE[4],
            "notes": [{"code": HOSTILE[0], "text": HOSTILE[1], "subjects": list(HOSTILE)}],
        },
    )


def hostile_with_formula() -> Run:
    """Return a run whose namespaces are formulas."""
    return assemble([pod("=HYPERLINK(1)", "a"), pod("+1", "b")], [HTTP], pods_only)


def random_run(seed: int, pods: int = 7) -> Run:
    """Return a run whose every code is drawn at random, with gaps in the matrix."""
    draw = np.random.default_rng(seed)
    names = [pod(f"ns{draw.integers(3)}", f"p{number}") for number in range(pods)]
    families = FAMILIES if draw.integers(2) else (Family.IP4,)

    def decide(*_: object) -> Cell | None:
        if draw.random() < 0.2:
            return None
        verdict = VERDICTS[draw.integers(len(VERDICTS))]
        reply = draw.choice([NO_VERDICT, *range(len(VERDICTS))])
        reason = REASONS[draw.integers(len(REASONS))]
        return verdict, reason, int(reply), int(draw.integers(-1, len(BLAMES)))

    return assemble(names, [HTTP, SQL, DNS], decide, families=families, blames=BLAMES)


def drifting() -> Run:
    """Return a small shop of which the datapath stops one cell that the logical plane lets by."""
    run = shop(1)
    verdicts, size = run.verdicts, len(run.matrix)
    cell = int(np.flatnonzero(verdicts.verdict == CODE[Verdict.REACHABLE])[0])
    logical, datapath = verdicts.verdict.copy(), verdicts.verdict.copy()
    datapath[cell] = CODE[Verdict.BLOCKED]
    other = np.full(size, -1, np.int32)
    keys = (*verdicts.trace_keys, "datapath")
    other[cell], verdicts.trace[cell] = verdicts.trace[cell], len(keys) - 1
    seen = trace(
        "datapath",
        plane="datapath",
        node="worker-b",
        outcome="blocked",
        stage="ls_out_acl_eval",
        microflow="in_port=3,tcp",
        output="bridge br-int: cookie 0xa7c3f001, drop",
    )
    records = {record.key: record for record in run.traces.all()} | {"datapath": seen}
    drift = np.zeros(size, np.uint8)
    drift[cell] = 1
    blame = verdicts.blame.copy()
    blame[cell] = 0
    reason = verdicts.reason.copy()
    reason[cell] = REASON_CODE[Reason.DEFAULT_DENY]
    return replace(
        run,
        manifest={**run.manifest, "planes": ["logical", "datapath"]},
        traces=Traces(records),
        verdicts=replace(
            verdicts,
            verdict=datapath.copy(),
            blame=blame,
            reason=reason,
            logical=logical,
            datapath=datapath,
            drift=drift,
            other_trace=other,
            trace_keys=keys,
        ),
    )


def large_run(side: int) -> Run:
    """Return a run of side by side pods in 12 namespaces, made without a loop over its cells."""
    namespaces = 12
    pods = [
        pod(f"team-{number * namespaces // side:02}", f"app-{number:04}", f"app-{number // 5:04}")
        for number in range(side)
    ]
    index = np.arange(side * side, dtype=np.int32)
    src, dst = index // side, index % side
    apart = src * namespaces // side != dst * namespaces // side
    blocked = apart & (dst * namespaces // side % 3 == 0)
    verdict = np.where(blocked, CODE[Verdict.BLOCKED], CODE[Verdict.REACHABLE]).astype(np.uint8)
    denied, delivered = REASON_CODE[Reason.DEFAULT_DENY], REASON_CODE[Reason.DELIVERED]
    small = assemble(pods[:2], [HTTP], shop_decides)
    return Run(
        path=small.path,
        manifest=small.manifest,
        matrix=Matrix(
            endpoints=tuple(pods),
            ports=(HTTP,),
            src=src,
            dst=dst,
            family=np.zeros(side * side, np.int8),
            port=np.zeros(side * side, np.int32),
        ),
        verdicts=CellVerdicts(
            verdict=verdict,
            reply=np.where(blocked, NO_VERDICT, 0).astype(np.uint8),
            reason=np.where(blocked, denied, delivered).astype(np.uint8),
            blame=np.where(blocked, 0, -1).astype(np.int32),
            trace=np.full(side * side, -1, np.int32),
            blames=BLAMES,
            trace_keys=(),
        ),
        policies=(),
        traces=Traces({}),
    )


def data_of(html: str) -> dict[str, Any]:
    """Return the page's data block, read as a browser would find it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpack(text: str) -> bytes:
    """Undo base64 and raw deflate."""
    return zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS)


def tables_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the tables: lists that are in several pieces are put together."""
    tables: dict[str, Any] = {}
    for piece in data["blobs"]["tables"]:
        for name, part in json.loads(unpack(piece)).items():
            tables[name] = tables[name] + part if name in tables else part
    return tables


@dataclass(frozen=True)
class Made:
    """The makers above, for tests: test modules are not importable from each other."""

    shop: Callable[..., Run] = shop
    hostile: Callable[[], Run] = hostile
    hostile_with_formula: Callable[[], Run] = hostile_with_formula
    tables_of: Callable[[dict[str, Any]], dict[str, Any]] = tables_of
    random: Callable[..., Run] = random_run
    large: Callable[[int], Run] = large_run
    drifting: Callable[[], Run] = drifting
    trace: Callable[..., TraceRecord] = trace
    traces: Callable[[Mapping[str, TraceRecord]], Traces] = Traces
    pod: Callable[..., Endpoint] = pod
    assemble: Callable[..., Run] = assemble
    shop_decides: Decide = shop_decides
    pods_only: Decide = pods_only
    data_of: Callable[[str], dict[str, Any]] = data_of
    unpack: Callable[[str], bytes] = unpack
    blames: tuple[Blame, ...] = BLAMES
    families: tuple[Family, ...] = FAMILIES
    manifest: str = MANIFEST
    hostile_texts: tuple[str, ...] = HOSTILE


@pytest.fixture(scope="session")
def made() -> Made:
    """Return the makers of synthetic runs."""
    return Made()


CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium; root needs it without its sandbox."""
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()
