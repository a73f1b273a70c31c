"""Measure manifests with the outside as ranges: `python -m bench.outside --workloads 5000`.

Writes Deployments and NetworkPolicies (a default deny for each namespace, then policies with pod
peers and ipBlocks in turn), and runs `audit run --manifests` on them as a process of its own, whose
time and highest memory are printed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]
SPACES = 100


def objects(workloads: int, policies: int) -> Iterator[Object]:
    """Yield the manifests of a cluster."""
    for space in range(SPACES):
        yield {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": f"team-{space}", "labels": {"tier": f"tier-{space % 5}"}},
        }
    for number in range(workloads):
        labels = {"app": f"app-{number // SPACES}"}
        ports = [{"containerPort": 8000 + number // SPACES % 5}]
        pod = {"containers": [{"name": "c", "image": "registry.local/app:1", "ports": ports}]}
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"app-{number // SPACES}", "namespace": f"team-{number % SPACES}"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    for number in range(policies):
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"policy-{number}", "namespace": f"team-{number % SPACES}"},
            "spec": _spec(number),
        }


def _spec(number: int) -> Object:
    turn = number // SPACES
    if not turn:
        return {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    subject = {"matchLabels": {"app": f"app-{turn}"}}
    port = {"port": 8000 + turn % 5}
    if turn % 2:
        peer: Object = {"namespaceSelector": {"matchLabels": {"tier": f"tier-{number % 5}"}}}
    else:
        octet = number % 200
        peer = {"ipBlock": {"cidr": f"10.{octet}.0.0/16", "except": [f"10.{octet}.{turn}.0/24"]}}
    return {
        "podSelector": subject,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [peer], "ports": [port]}],
        "egress": [{"to": [peer], "ports": [port]}],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="bench.outside", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--workloads", type=int, default=5000)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--port", action="append", help="as of audit run; all unless given")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "objects.yaml"
        with file.open("w") as out:
            for one in objects(given.workloads, given.policies):
                out.write("---\n" + json.dumps(one) + "\n")
        ports = [word for port in given.port or ["all"] for word in ("--port", port)]
        started = time.monotonic()
        done = subprocess.run(  # noqa: S603 - this Python, and arguments of our own
            [
                *(sys.executable, "-m", "audit", "run", "--manifests", str(file)),
                *(*ports, "--out", str(Path(made) / "runs"), "-q"),
            ],
            check=False,
        )
        took = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, cpu = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    print(  # CPU time besides, as other work on the machine does not count in it
        f"{os.cpu_count()} CPUs: {given.workloads} workloads, {given.policies} policies: exit code "
        f"{done.returncode} after {took:.1f} s ({cpu:.1f} s of CPU), at most {peak:.0f} MiB"
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
