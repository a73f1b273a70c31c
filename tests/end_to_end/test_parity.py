"""Whole audits of recorded clusters against what the real tools said there, cell by cell."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.model.options import Covering
from audit.model.run import Run
from tests import parity, parity_networks, parity_services

pytestmark = pytest.mark.ovn

Traced = Callable[[str], Run]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Audit a recorded cluster cell by cell, once for all that was recorded of it."""
    root = tmp_path_factory.mktemp("traced")
    return functools.cache(lambda name: parity.audit_pods(name, root, Covering.EXHAUSTIVE))


@pytest.mark.parametrize("name", parity.POD_ANSWERS)
def test_every_recorded_cell_is_decided_as_ovn_trace_did(name: str, traced: Traced) -> None:
    delivery, blame = parity.compare_pods(name, traced(name))
    assert not delivery.wrong, (str(delivery), delivery.wrong[:5])
    assert not blame.wrong, (str(blame), blame.wrong[:5])
    assert delivery.total > 4_000
    assert blame.total > 2_000


@pytest.mark.parametrize("name", parity.POD_ANSWERS)
def test_every_recorded_cell_comes_out_of_legs_as_well(name: str, tmp_path: Path) -> None:
    score, composed = parity.compare_legs(name, tmp_path)
    assert not score.wrong, (str(score), score.wrong[:5])
    assert score.total > 4_000
    assert composed.good, (str(composed), composed.wrong[:5])


# Of the larger two, `make parity` asks every port.
NETWORKS = {
    "udn-interconnect": ((), 80),
    "head-shared": (("tcp/80",), 8_000),
    "head-observability": (("tcp/80", "sctp/3868"), 6_000),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_pods_of_the_default_network_are_decided_beside_other_networks(
    name: str, tmp_path: Path
) -> None:
    ports, least = NETWORKS[name]
    score, composed = parity.compare_legs(name, tmp_path, ports)
    assert not score.wrong, (str(score), score.wrong[:5])
    assert score.total >= least
    assert composed.good, (str(composed), composed.wrong[:5])


@pytest.mark.parametrize(
    ("name", "cover", "ports", "recorded"),
    [
        ("udn-interconnect", Covering.EXHAUSTIVE, (), [1_600, 1_127, 133]),
        # a NodePort and pings among them
        ("head-shared", Covering.LEGS, ("tcp/80", "tcp/30880", "icmp"), [2_658, 31]),
        (parity_networks.CAUGHT_UP, Covering.LEGS, ("tcp/80",), [2_084, 50]),
    ],
)
def test_packets_in_and_between_networks_end_where_ovn_trace_ended(
    name: str, cover: Covering, ports: tuple[str, ...], recorded: list[int]
) -> None:
    with tempfile.TemporaryDirectory(prefix="np") as directory:  # short: sockets are made in it
        scores = parity_networks.compare(name, Path(directory), cover, ports)
    for score in scores:
        assert not score.wrong, (str(score), score.wrong[:5])
    assert [score.total for score in scores] == recorded


@pytest.mark.parametrize("name", parity.REPLY_ANSWERS)
def test_every_recorded_reply_is_decided_as_ovn_trace_did(name: str, traced: Traced) -> None:
    score = parity.compare_replies(name, traced(name))
    assert not score.wrong, (str(score), score.wrong[:5])
    assert score.total >= 60


@pytest.mark.timeout(1200)  # seven audits, and IPv6 floods that print hundreds of kilobytes
def test_services_gateways_and_hosts_end_where_ovn_trace_ended(tmp_path: Path) -> None:
    for score in parity_services.compare(tmp_path):
        assert not score.wrong, (str(score), score.wrong[:5])
        assert score.total
