"""A headless service is its endpoints: its cells are what the cells to these agree on."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from audit.model.endpoints import EndpointKind
from audit.model.run import Run
from audit.model.verdicts import NO_VERDICT, REASONS, VERDICTS, Reason, Verdict
from audit.report.explain import explain
from audit.verdict.compose import Decision, combine
from audit.verdict.judge import Combine
from tests.parity import SNAPSHOTS, audit

pytestmark = pytest.mark.ovn


def listed(snapshot: Path, resource: str) -> list[dict[str, Any]]:
    """Return the items of a List in a recorded cluster."""
    with tarfile.open(snapshot) as archive:
        [member] = [m for m in archive if m.name.endswith(f"kube/{resource}.json")]
        file = archive.extractfile(member)
        assert file is not None
        items: list[dict[str, Any]] = json.load(file)["items"]
        return items


def endpoints_of(snapshot: Path, namespace: str, name: str) -> dict[str, int]:
    """Return the IPv4 addresses behind a service, and their port."""
    found = {}
    for item in listed(snapshot, "endpointslices"):
        metadata = item["metadata"]
        owner = metadata["labels"].get("kubernetes.io/service-name")
        if (metadata["namespace"], owner, item["addressType"]) == (namespace, name, "IPv4"):
            for endpoint in item["endpoints"]:
                if endpoint.get("conditions", {}).get("ready", True):
                    found[endpoint["addresses"][0]] = int(item["ports"][0]["port"])
    return found


def verdicts(run: Run, port: int) -> dict[tuple[str, str], tuple[int, Verdict]]:
    """Return each IPv4 cell on a port, by its source's key and the destination's."""
    matrix = run.matrix
    return {
        (matrix.endpoints[matrix.src[i]].key, matrix.endpoints[matrix.dst[i]].key): (
            i,
            VERDICTS[run.verdicts.verdict[i]],
        )
        for i in range(len(matrix))
        if matrix.family[i] == 0 and matrix.ports[matrix.port[i]].number == port
    }


@pytest.mark.parametrize(
    ("cluster", "service", "port"),
    [
        ("services-egressip", "svc/headless", 80),
        ("ovn-25.03-interconnect", "shop/db", 5432),
        ("ovn-23.03-central", "shop/db", 5432),
    ],
)
def test_a_headless_service_is_what_its_endpoints_agree_on(
    cluster: str, service: str, port: int, tmp_path: Path
) -> None:
    snapshot = SNAPSHOTS[cluster]
    namespace, name = service.split("/")
    behind = endpoints_of(snapshot, namespace, name)
    [target] = set(behind.values())
    run = audit(
        snapshot,
        tmp_path,
        to_services=(service,),
        to_namespaces=(namespace,),
        ports=sorted({f"tcp/{port}", f"tcp/{target}"}),
    )
    owners = {
        address: e.key
        for e in run.matrix.endpoints
        for address in e.addresses
        if e.kind is EndpointKind.POD and not e.host_network
    }
    pods, services = verdicts(run, target), verdicts(run, port)
    cells = {src: at for (src, dst), at in services.items() if dst == f"service {service}"}
    assert cells
    seen = set()
    for src, (cell, verdict) in cells.items():
        receivers = [owners[address] for address in behind if owners[address] != src]
        reason = REASONS[run.verdicts.reason[cell]]
        if not receivers:
            assert (verdict, reason) == (Verdict.UNTRACED, Reason.OWN_ENDPOINT)
            continue
        parts = [Decision(verdict=pods[src, key][1], reason=Reason.DELIVERED) for key in receivers]
        assert verdict is combine(parts, Combine.BACKENDS).verdict, src
        seen.add(verdict)
        text = " ".join(explain(run, cell).split())
        assert all(
            f"{address}:{behind[address]}" in text for address in behind if owners[address] != src
        )
        trace = run.traces.get(run.verdicts.trace_keys[run.verdicts.trace[cell]])
        assert trace is not None
        assert (trace.outcome, trace.microflow, trace.output) == ("continues", "", "")
        assert len(trace.next_keys) == len(receivers)
        if verdict is Verdict.REACHABLE:
            replies = [VERDICTS[run.verdicts.reply[pods[src, key][0]]] for key in receivers]
            assert set(replies) == {VERDICTS[run.verdicts.reply[cell]]}
            assert "Reply, hop by hop" in text
        else:
            assert run.verdicts.reply[cell] == NO_VERDICT
    assert seen


def test_a_port_without_endpoints_and_one_that_is_not_declared(tmp_path: Path) -> None:
    run = audit(
        SNAPSHOTS["services-egressip"],
        tmp_path,
        from_namespaces=("cli",),
        to_services=("svc/headless",),
        ports=("tcp/8080", "tcp/80"),
        family="both",
    )
    matrix = run.matrix
    # It has IPv4 endpoints only, so there is no cell of the other family.
    assert set(matrix.family.tolist()) == {0}
    for cell in range(0, len(matrix), 2):
        # No one translates a port: what 80 means to the service is 8080 to its endpoints.
        assert [matrix.ports[matrix.port[c]].number for c in (cell, cell + 1)] == [80, 8080]
        assert run.verdicts.verdict[cell] == run.verdicts.verdict[cell + 1]
