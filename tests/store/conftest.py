"""A small run: three pods, a node and an external, with policies and the traces behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from audit.model.endpoints import Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import Policy
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.packets import Protocol
from audit.model.run import TraceRecord
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    REASON_CODE,
    Blame,
    PolicyRef,
    Reason,
    Verdict,
)
from audit.store.writer import RunWriter

HTTP = Port(protocol=Protocol.TCP, number=80)
DNS = Port(protocol=Protocol.UDP, number=53)
DENY = PolicyRef(kind="NetworkPolicy", namespace="default", name="web-from-shop")
BASELINE = PolicyRef(kind="BaselineAdminNetworkPolicy", namespace="", name="default")


def trace(key: str, **fields: object) -> TraceRecord:
    """Return a trace in which nothing is decided, except for `fields`."""
    empty: dict[str, object] = {
        "key": key,
        "plane": "logical",
        "zone": "worker-a",
        "state": "new",
        "microflow": f'inport=="{key}"',
        "outcome": "output",
        "reason": "delivered",
        "stage": "",
        "logical_flow": "",
        "acl": "",
        "acl_match": "",
        "policy_kind": "",
        "policy_namespace": "",
        "policy_name": "",
        "policy_direction": "",
        "policy_rule": -1,
        "policies": (),
        "detail": "",
        "next_keys": (),
        "reply_of": (),
        "output": f"# {key}\n0. ls_in_check_port_sec: ünïcode\n",
    }
    return TraceRecord(**(empty | fields))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What a run is written from."""

    endpoints: tuple[Endpoint, ...]
    matrix: Matrix
    verdicts: CellVerdicts
    policies: tuple[Policy, ...]
    batches: dict[str, tuple[TraceRecord, ...]]

    def write(self, root: Path, run_id: str = "run") -> RunWriter:
        """Write everything but run.json."""
        writer = RunWriter(root, run_id)
        writer.write_endpoints(self.endpoints)
        writer.write_policies(self.policies)
        for name, records in self.batches.items():
            writer.write_traces(name, records)
        writer.write_cells(self.matrix, self.verdicts, chunk=2)
        return writer


def _endpoints() -> tuple[Endpoint, ...]:
    def pod(namespace: str, name: str, node: str, address: str) -> Endpoint:
        return Endpoint(
            kind=EndpointKind.POD,
            namespace=namespace,
            name=name,
            node=node,
            addresses=(address, f"fd00::{address[-1]}"),
            labels=(("app", name), ("tier", "front")),
            workload=f"Deployment {namespace}/{name}",
            declared=(NamedPort(name="http", port=HTTP), NamedPort(name="", port=DNS)),
            attachment=Attachment(
                zone=node,
                switch=node,
                port=f"{namespace}_{name}",
                mac="0a:58:0a:f4:00:01",
                gateway_mac="0a:58:0a:f4:00:fe",
                addresses=(address,),
            ),
        )

    return (
        pod("default", "web", "worker-a", "10.244.0.1"),
        pod("shop", "cart", "worker-a", "10.244.0.2"),
        pod("test", "probe", "worker-b", "10.244.1.3"),
        Endpoint(kind=EndpointKind.NODE, name="worker-a", host_network=True, obstacle="underlay"),
        Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.7", node="worker-a"),
    )


def _verdicts(rows: Sequence[tuple[Verdict, Verdict | None, Reason, int, int]]) -> CellVerdicts:
    return CellVerdicts(
        verdict=np.array([CODE[row[0]] for row in rows], np.uint8),
        reply=np.array([NO_VERDICT if row[1] is None else CODE[row[1]] for row in rows], np.uint8),
        reason=np.array([REASON_CODE[row[2]] for row in rows], np.uint8),
        blame=np.array([row[3] for row in rows], np.int32),
        trace=np.array([row[4] for row in rows], np.int32),
        blames=(
            Blame(
                action="drop",
                direction="ingress",
                policy=DENY,
                policies=(DENY, BASELINE),
                acl="0b1c2d3e",
                logical_flow="deadbeef",
                stage="ls_out_acl_eval",
                zone="worker-b",
            ),
            Blame(
                action="allow",
                direction="ingress",
                policy=DENY,
                policies=(DENY,),
                rule=0,
                acl="1a2b3c4d",
                logical_flow="0badcafe",
                stage="ls_out_acl_eval",
                zone="worker-a",
            ),
            Blame(
                action="reject",
                direction="",
                owner="default-network-controller:Strange:x",
                acl="99999999",
                logical_flow="12345678",
                stage="ls_in_acl_eval",
                zone="worker-a",
            ),
        ),
        trace_keys=("t-allow", "t-far", "t-odd"),
    )


def _traces() -> dict[str, tuple[TraceRecord, ...]]:
    policy = {
        "policy_kind": DENY.kind,
        "policy_namespace": DENY.namespace,
        "policy_name": DENY.name,
        "policy_direction": "ingress",
        "stage": "ls_out_acl_eval",
    }
    allow = trace(
        "t-allow",
        **policy,
        policy_rule=0,
        policies=(str(DENY),),
        acl="1a2b3c4d",
        logical_flow="0badcafe",
    )
    near = trace("t-far", next_keys=("t-near",), detail="left by a remote port")
    far = trace(
        "t-near",
        **policy,
        zone="worker-b",
        outcome="dropped",
        reason="default-deny",
        policies=(str(DENY), str(BASELINE)),
        acl="0b1c2d3e",
        logical_flow="deadbeef",
    )
    odd = trace(
        "t-odd", outcome="rejected", acl="99999999", logical_flow="12345678", stage="ls_in_acl_eval"
    )
    reply = trace("t-allow-reply", state="est,rpl", reply_of=("t-allow",))
    return {"worker-a-new-0": (near, allow), "worker-a-rpl-0": (reply,), "b-0": (odd, far)}


@pytest.fixture
def example() -> Example:
    """Return a small cluster's cells, in which each kind of null and blame occurs."""
    endpoints = _endpoints()
    rows = [
        (Verdict.REACHABLE, Verdict.REACHABLE, Reason.ALLOWED_BY_ACL, 1, 0),
        (Verdict.BLOCKED, None, Reason.DEFAULT_DENY, 0, 1),
        (Verdict.BLOCKED, None, Reason.ACL_REJECT, 2, 2),
        (Verdict.UNTRACED, None, Reason.HOST_TO_HOST, -1, -1),
        (Verdict.EXITS, Verdict.REACHABLE, Reason.LEFT_BY_GATEWAY, -1, 0),
    ]
    return Example(
        endpoints=endpoints,
        matrix=Matrix(
            endpoints=endpoints,
            ports=(HTTP, DNS),
            src=np.array([1, 2, 2, 3, 4], np.int16),
            dst=np.array([0, 0, 0, 0, 2], np.int16),
            family=np.array([0, 0, 0, 1, 0], np.int8),
            port=np.array([0, 0, 1, 0, 1], np.int16),
        ),
        verdicts=_verdicts(rows),
        policies=tuple(
            Policy(ref=ref, directions=("ingress",), rules=(1, 0), text=f"name: {ref.name}\n")
            for ref in (BASELINE, DENY)
        ),
        batches=_traces(),
    )


@pytest.fixture
def run_path(example: Example, tmp_path: Path) -> Path:
    """Return a finished run of the example."""
    writer = example.write(tmp_path / "runs")
    writer.finish({"scope": {"namespaces": []}})
    return writer.path
