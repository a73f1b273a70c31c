"""Services by legs: what few traces say of every cell to one is what its own trace says."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from audit.model.endpoints import EndpointKind
from audit.model.verdicts import VERDICTS
from tests import mutate
from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import Audit
from tests.mutable import SELECTED, Cluster, copied

pytestmark = pytest.mark.ovn

EXAMPLE = REPOSITORY / "examples" / "interconnect.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """The same cells by legs and each by its own trace, and what of them differs."""

    few: mutate.Ran
    every: mutate.Ran
    differences: list[mutate.Difference]


def asked_twice(name: str, family: str, root: Path) -> Both:
    """Ask what some pods may send to every Service of a recorded cluster, at its own ports."""
    engine = mutate.Clusters(root / "c", [name]).engine(name)
    assert engine is not None
    cluster = Cluster(root=copied(engine.snapshot, root / "s"), rng=random.Random(7))  # noqa: S311
    cluster.choose(most=10)
    services = cluster.objects("services")
    cluster.write()
    flags = {
        "family": family,
        "ports": tuple(mutate.served(services)),
        "from_selector": f"{SELECTED}=yes",
        "to_services": ("*/*",),
    }
    few, every = mutate.audit(cluster.root, engine, flags, mutate.Memory())
    return Both(few=few, every=every, differences=list(mutate.differences(few, every)))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("interconnect", "ip4"),
        ("interconnect", "ip6"),
        ("ovn-23.03-central", "ip4"),
        ("services-egressip", "ip4"),
        ("head-shared", "ip4"),
    ],
)
def test_few_traces_say_of_services_what_tracing_every_cell_says(
    name: str, family: str, tmp_path: Path
) -> None:
    both = asked_twice(name, family, tmp_path)
    assert both.differences == []
    planned, traced = both.few
    composed = np.concatenate([some.cells for some in planned.services])
    groups = sum(int(some.group.max()) + 1 for some in planned.services)
    assert len(composed) > 2 * groups
    headless = any(some.sent for some in planned.services)
    assert headless is (family == "ip4" and name != "head-shared")
    assert traced.count < both.every[1].count
    matrix = planned.matrix
    assert {matrix.endpoints[end].kind for end in matrix.dst[composed]} == {EndpointKind.SERVICE}
    # A comparison of nothing would hold too.
    assert len({VERDICTS[code] for code in traced.verdicts.verdict[composed].tolist()}) > 1


def test_a_cell_decided_by_others_traces_tells_of_its_own_endpoints(
    audit: Audit, tmp_path: Path
) -> None:
    """What stands for its packets went to others: the Service's own endpoints are named."""
    audit(
        *("run", "-q", "--exit-zero", "--verify", "0", "--snapshot", str(EXAMPLE)),
        *("--from-namespace", "shop", "--from-namespace", "default", "--to-service", "*/*"),
        *("--out", tmp_path / "runs"),
    )
    (run,) = (path for path in (tmp_path / "runs").iterdir() if (path / "run.json").is_file())
    cell = ("shop/back-1", "svc/openshift-dns/dns-default", "udp/53")
    text = audit("explain", str(run), *cell).out
    assert text.startswith("pod shop/back-1 cannot reach service openshift-dns/dns-default")
    assert "\n\nDecided together with an equivalent packet: pod shop/back-" in text
    assert "Backends 0 of 3 can be reached" in text
    assert "\n  1. load balancer: continues\n" in text
    told = audit("explain", str(run), *cell, "-o", "json").json
    (one,) = told if isinstance(told, list) else [told]
    pods = {"10.128.0.7:5353", "10.129.0.5:5353", "10.130.0.8:5353"}
    assert {backend["target"] for backend in one["backends"]} == pods
    assert {backend["verdict"] for backend in one["backends"]} == {"blocked"}
