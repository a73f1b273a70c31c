"""The measurement measures something: on the smallest cluster, everything it prints."""

import itertools
import re

import pytest

from bench import run
from bench.cluster import Size
from bench.generate import cluster_of


@pytest.mark.ovn
def test_it_prints_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    run.main(["--sizes", "12", "--sample", "1", "--", "--workers", "inline"])
    out = capsys.readouterr().out
    assert "12 pods, 2 zones" in out
    assert "s a call (1 calls" in out
    assert "ms a trace" in out
    assert "every pod to every pod, cover" in out
    found = re.search(r"([\d,]+) cells by ([\d,]+) traces", out)
    assert found
    # Two exporters share their nodes' addresses: 14 pods in all, three ports.
    assert int(found[1].replace(",", "")) == 14 * 13 * 3
    assert "tracing " in out
    assert re.search(r"\n +12 +[\d.]+ +\d+ +\d+ +\d+\n", out)


def test_a_scope_is_restricted_to_namespaces_until_it_is_small_enough() -> None:
    cluster = cluster_of(Size(pods=200, nodes=3, namespaces=20, policies=10))
    whole, named = run.scope_of(cluster, 0)
    assert "--namespace" not in whole
    assert named == "every pod to every pod"
    flags, named = run.scope_of(cluster, 3_000)
    names = [value for flag, value in itertools.pairwise(flags) if flag == "--namespace"]
    pods = sum(len(cluster.pods_of[name]) for name in names)
    assert 1_000 < pods * (pods - 1) * len(run.PORTS) <= 3_000
    assert f"{len(names)} namespaces ({pods} pods)" in named


def test_other_sizes_keep_the_proportions() -> None:
    assert run.size_of(1000).policies == 400
    assert run.size_of(500) == Size(pods=500, nodes=5, namespaces=31, policies=200)
