"""What is said of a kind of pods holds for all of them, or is not said."""

from dataclasses import replace

import numpy as np
import pytest

from audit.commands import meaning
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Policy
from audit.model.matrix import Cells
from audit.model.networks import Role
from audit.model.packets import Protocol
from audit.model.run import StreamedRun
from audit.model.verdicts import CODE, NO_VERDICT, REASON_CODE, PolicyRef, Reason, Verdict
from audit.report.grid import gather
from audit.store.traces import TraceFiles

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: db, namespace: shop}}
spec:
  podSelector: {{}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - ipBlock: {{cidr: {cidr}}}
"""


def run_of(cidr: str) -> StreamedRun:
    """Return a run of two pods alike that ask a third, in vain."""
    pods = [("shop", "db", "10.9.0.1"), ("jobs", "j-0", "10.1.0.7"), ("jobs", "j-1", "10.1.0.8")]
    ref = PolicyRef(kind="NetworkPolicy", namespace="shop", name="db")
    manifest = POLICY.format(cidr=cidr)
    return StreamedRun(
        path="run",
        manifest={"labels": {"namespaces": {"shop": {}, "jobs": {}}, "nodes": {}}},
        endpoints=tuple(
            Endpoint(
                kind=EndpointKind.POD,
                namespace=namespace,
                name=name,
                addresses=(address,),
                labels=(("app", namespace),),
            )
            for namespace, name, address in pods
        ),
        ports=(Port(protocol=Protocol.TCP, number=80),),
        policies=(Policy(ref=ref, directions=("ingress",), rules=(1, 0), text=manifest),),
        traces=TraceFiles(()),
        parts=lambda: iter(
            [
                Cells(
                    src=np.array([1, 2], np.int16),
                    dst=np.zeros(2, np.int16),
                    family=np.zeros(2, np.int8),
                    port=np.zeros(2, np.int16),
                    blame=np.full(2, -1, np.int32),
                    drift=np.full(2, NO_VERDICT, np.uint8),
                    verdict=np.full(2, CODE[Verdict.BLOCKED], np.uint8),
                    reply=np.full(2, NO_VERDICT, np.uint8),
                    reason=np.full(2, REASON_CODE[Reason.DEFAULT_DENY], np.uint8),
                )
            ]
        ),
        blames=list,
        trace_keys=list,
    )


@pytest.mark.parametrize(("cidr", "said"), [("10.2.0.0/16", 1), ("10.1.0.8/32", 0)])
def test_pods_that_a_policy_tells_apart_are_not_spoken_of(cidr: str, said: int) -> None:
    run = run_of(cidr)
    found = meaning.of_run(run, gather(run))
    assert found is not None
    assert [meant.verdict for meant in found.of.values()] == [Verdict.BLOCKED] * said
    assert found.kind_of["pod jobs/j-0"] == found.kind_of["pod jobs/j-1"]


def test_of_locked_ports_and_between_networks_nothing_is_said() -> None:
    run = run_of("10.2.0.0/16")
    shut, locked, away = run.endpoints
    on_network = replace(away, network="blue_l3")
    run = replace(run, endpoints=(shut, replace(locked, role=Role.LOCKED), on_network))
    found = meaning.of_run(run, gather(run))
    assert found is not None
    assert not found.of
    assert set(found.kind_of) == {shut.key, on_network.key}
