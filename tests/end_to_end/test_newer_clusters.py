"""The datapath plane on clusters as newer OVN-Kubernetes makes them, which need a newer OVN."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from audit.cli import progress
from audit.errors import ExitCode
from audit.model.options import PlaneName
from audit.replay import toolchain as toolchains
from audit.scope import scope
from audit.tracing import switches
from audit.tracing.options import Options
from audit.tracing.plan import plan
from audit.tracing.switches import Running
from tests.end_to_end.test_cover import DATA
from tests.end_to_end.test_datapath import run

pytestmark = pytest.mark.ovn

NETWORKS = DATA / "head-shared-udn-ports.tar.xz"
OBSERVABILITY = DATA / "head-observability.tar.xz"


@pytest.fixture(scope="module")
def newest() -> Path | None:
    """Return the prefix of the newest OVN at hand."""
    if "AUDIT_OVN_PREFIX" in os.environ:
        return Path(os.environ["AUDIT_OVN_PREFIX"])
    return max(toolchains.find(), key=lambda candidate: candidate.version).prefix


@pytest.fixture(scope="module")
def running(newest: Path | None) -> Iterator[Running]:
    asked = Options(
        snapshot=NETWORKS,
        scope=scope.from_flags(namespaces=("np",), ports=("tcp/80",)),
        planes=frozenset({PlaneName.LOGICAL, PlaneName.DATAPATH}),
        ovn_prefix=newest,
    )
    silent = progress.Silent()
    with ExitStack() as stack:
        yield switches.replayed(plan(asked, silent, stack), silent, stack)


def test_ports_of_every_network_are_bound(running: Running) -> None:
    """A node has a management port in each network, named `k8s-…` as a namespace may be too."""
    assert not running.missing
    assert set(running.switches) == {"cp-1.lab.example", "worker-a", "worker-b"}
    for switch in running.switches.values():
        assert set(switch.vifs) == {vif.port for vif in switch.chassis.vifs}
        assert len({port.name for port in switch.vifs.values()}) == len(switch.vifs)
    management = [name for name in running.switches["worker-a"].vifs if name.startswith("k8s-")]
    assert len(management) > 1


def test_planes_and_packets_agree_beside_user_defined_networks(
    tmp_path: Path, newest: Path | None
) -> None:
    asked = scope.from_flags(namespaces=("np",), ports=("tcp/80", "tcp/8080"))
    ran = run(tmp_path, asked, snapshot=NETWORKS, ovn_prefix=newest, verify_packets=10**9)
    assert ran.code is ExitCode.FINDINGS  # worker-b's southbound was copied before northd came by
    errors = {one["kind"] for one in ran.said["findings"] if one["severity"] == "error"}
    assert errors == {"southbound-differs"}
    assert ran.drift["cells"] == 0
    assert ran.drift["of"] == ran.said["counts"]["cells"] > 20
    assert ran.said["packets"]["agree"] == ran.said["packets"]["of"] > 5
    assert ran.said["packets"]["disagreements"] == []


def test_switches_of_local_gateways_are_made_again(tmp_path: Path, newest: Path | None) -> None:
    asked = scope.from_flags(namespaces=("np",), ports=("tcp/80",))
    ran = run(tmp_path, asked, snapshot=OBSERVABILITY, ovn_prefix=newest, verify_packets=10**9)
    decided = "select count(*) from cells where datapath in ('reachable', 'blocked')"
    assert ran.rows(decided) == [(ran.said["counts"]["cells"],)]
    assert ran.said["packets"]["agree"] == ran.said["packets"]["of"] > 5
