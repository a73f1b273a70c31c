"""Measure the outside in a diff of two runs: `python -m bench.diff_outside --workloads 5000`.

Makes the endpoints and policies of two runs in memory, those of `bench.outside`, with the
ipBlocks of some policies (`--changed`) of the later one elsewhere, and has them compared by what
the policies alone say. Prints the time, the highest memory and what was counted.
"""

import argparse
import copy
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import yaml

from audit.commands import outside
from audit.compare.common import Common
from audit.model.endpoints import Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import Policy
from audit.model.matrix import Cells
from audit.model.packets import Protocol
from audit.model.recorded import Recorded
from audit.model.verdicts import Blame, PolicyRef
from bench.outside import SPACES, Object, objects

RANGE = 10


class _NoCells:
    """Cells that nobody reads: what is measured needs none."""

    blames: tuple[Blame, ...] = ()

    def of_source(self, source: int) -> Cells:
        raise NotImplementedError

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Cells]:
        return iter(())


def recorded(name: str, made: Sequence[Object], port: str) -> Recorded:
    """Return a run of these objects, as it is read from disk."""
    pods = [item for item in made if item["kind"] == "Deployment"]
    policies = [item for item in made if item["kind"] == "NetworkPolicy"]
    spaces = {i["metadata"]["name"]: i["metadata"]["labels"] for i in made[:SPACES]}
    return Recorded(
        path=name,
        manifest={
            "run_id": name,
            "planes": ["intent", "logical"],
            "scope": {"ports": [port], "family": "ip4"},
            "labels": {"complete": True, "nodes": {}, "namespaces": spaces},
        },
        endpoints=tuple(_pod(number, item) for number, item in enumerate(pods)),
        ports=(),
        policies=tuple(map(_policy, policies)),
        cells=_NoCells(),
    )


def _pod(number: int, item: Object) -> Endpoint:
    template = item["spec"]["template"]
    declared = template["spec"]["containers"][0]["ports"][0]["containerPort"]
    return Endpoint(
        kind=EndpointKind.POD,
        namespace=item["metadata"]["namespace"],
        name=f"{item['metadata']['name']}-0",
        workload=f"Deployment/{item['metadata']['name']}",
        labels=tuple(template["metadata"]["labels"].items()),
        addresses=(f"10.244.{number // 250}.{number % 250 + 2}",),
        declared=(NamedPort(name="", port=Port(protocol=Protocol.TCP, number=declared)),),
    )


def _policy(item: Object) -> Policy:
    meta = item["metadata"]
    ref = PolicyRef(kind="NetworkPolicy", namespace=meta["namespace"], name=meta["name"])
    text = yaml.safe_dump(item)
    return Policy(ref=ref, directions=("egress", "ingress"), rules=(1, 1), text=text)


def _moved(made: Sequence[Object], changed: int) -> Iterator[Object]:
    """Yield the objects, the first ipBlocks of them somewhere else."""
    left = changed
    for item in made:
        spec: dict[str, Any] = item["spec"] if item["kind"] == "NetworkPolicy" else {}
        block = ((spec.get("egress") or [{}])[0].get("to") or [{}])[0].get("ipBlock")
        if not block or not left:
            yield item
            continue
        left -= 1
        other = copy.deepcopy(item)
        for peers in (other["spec"]["egress"][0]["to"], other["spec"]["ingress"][0]["from"]):
            cidr = peers[0]["ipBlock"]["cidr"].replace("10.", f"{RANGE + 1}.", 1)
            peers[0]["ipBlock"] = {"cidr": cidr}
        yield other


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two runs."""
    parser = argparse.ArgumentParser(
        prog="bench.diff_outside", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--workloads", type=int, default=5000)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--changed", type=int, default=10)
    parser.add_argument("--port", default="declared")
    options = parser.parse_args(argv)
    made = [*objects(options.workloads, options.policies)]
    runs = [
        recorded("before", made, options.port),
        recorded("after", [*_moved(made, options.changed)], options.port),
    ]
    masks = [np.ones(len(run.endpoints), np.bool_) for run in runs]
    started = time.monotonic()
    found = outside.compare(runs[0], runs[1], Common(before=masks[0], after=masks[1]))
    seconds = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = (found.compared, found.decided, dict(found.counts)) if found else None
    sys.stdout.write(f"{seconds:.1f} s, {memory:,.0f} MB, {counts}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
