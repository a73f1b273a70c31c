"""What policies let in by Ingress, Route and Gateway API objects, from controllers not known.

Each verdict is what the API's documentation says of every pod that may be the controller's: where
they do not all fare alike it is inconclusive.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from audit.commands import intent
from audit.commands import run as command
from audit.commands.diff import compare_manifests, diff_runs
from audit.commands.explain import explain
from audit.facts.manifests import NOTHING_MORE, Surroundings
from audit.model.facts import Controller
from audit.model.findings import FindingKind
from audit.model.matrix import Cells
from audit.model.options import PlaneName
from audit.model.selectors import UNSAID
from audit.model.verdicts import REASONS, VERDICTS
from audit.scope import scope
from audit.tracing.options import Options, Progress
from tests.commands.test_manifests import Object

NETWORKING = "networking.k8s.io/v1"
ADMIN = "policy.networking.k8s.io/v1alpha1"
NAME = "kubernetes.io/metadata.name"
ROUTER = Surroundings(
    controller=Controller(namespace="edge", labels=(("app", "router"), (UNSAID, UNSAID)))
)


def pod(name: str, space: str = "shop", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": ports}], **spec},
    }


def made(kind: str, version: str, name: str, space: str = "shop", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": space} if space else {"name": name}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def service(name: str, space: str = "shop") -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": "http"}]
    return made("Service", "v1", name, space, selector={"app": name}, ports=ports)


def ingress(to: str = "web", space: str = "shop") -> dict[str, Any]:
    port = {"number": 80}
    backend = {"service": {"name": to, "port": port}}
    return made("Ingress", NETWORKING, "in", space, defaultBackend=backend)


def http_route(gateway: Object) -> dict[str, Any]:
    rules = [{"backendRefs": [{"name": "web", "port": 80}]}]
    version = "gateway.networking.k8s.io/v1"
    return made("HTTPRoute", version, "in", parentRefs=[gateway], rules=rules)


def policy(name: str = "p", space: str = "shop", **spec: Any) -> dict[str, Any]:
    return made("NetworkPolicy", NETWORKING, name, space, **{"podSelector": {}, **spec})


def let_in(*peers: Object) -> dict[str, Any]:
    """Return a policy for all pods of shop, with a rule for these peers."""
    return policy(policyTypes=["Ingress"], ingress=[{"from": [*peers]}])


def admin(**spec: Any) -> dict[str, Any]:
    return made(
        "AdminNetworkPolicy",
        ADMIN,
        "a",
        space="",
        **{"priority": 5, "subject": {"namespaces": {}}, **spec},
    )


def space(*names: str, operator: str = "In") -> dict[str, Any]:
    return {"matchExpressions": [{"key": NAME, "operator": operator, "values": [*names]}]}


APPS = [pod("web"), service("web"), pod("db", "data")]


def options(place: Path, around: Surroundings = NOTHING_MORE, **flags: Any) -> Options:
    asked = scope.from_flags(**{"family": scope.FamilyChoice.IP4, **flags})
    return Options(
        snapshot=None,
        scope=asked,
        manifests=str(place),
        surroundings=around,
        planes=frozenset({PlaneName.INTENT}),
    )


class Asked:
    """Manifests evaluated: the cells that something leads in by, as words."""

    def __init__(self, place: Path, *objects: Object, **flags: Any) -> None:
        around = flags.pop("around", NOTHING_MORE)
        (place / "all.yaml").write_text(yaml.safe_dump_all(objects))
        with ExitStack() as stack:
            planned = intent.plan(options(place, around, **flags), Mock(spec=Progress), stack)
        judged = intent.alone(planned, Mock(spec=Progress))
        self.notes = {note.code: note for note in planned.notes}
        self.findings = {one.kind: one for one in judged.findings}
        cells = Cells.joined(list(judged.blocks.parts()))
        endpoints, ports = planned.layout.endpoints, planned.layout.ports
        self.cells = {
            f"{endpoints[src].key} to {endpoints[dst].key} on {ports[port]}": (_word(cells, cell))
            for cell, (src, dst, port) in enumerate(
                zip(cells.src.tolist(), cells.dst.tolist(), cells.port.tolist(), strict=True)
            )
            if endpoints[src].kind == "ingress"
        }


def _word(verdicts: Cells, cell: int) -> str:
    return f"{VERDICTS[verdicts.verdict[cell]]} ({REASONS[verdicts.reason[cell]]})"


WEB = "ingress shop/in to pod shop/web on tcp/8080"


@pytest.mark.parametrize(
    ("policies", "not_known", "known"),
    [
        ([], "reachable", "reachable"),
        ([policy(ingress=[{}])], "reachable", "reachable"),
        ([let_in({"namespaceSelector": {}})], "reachable", "reachable"),
        ([let_in({"ipBlock": {"cidr": "0.0.0.0/0"}})], "reachable", "reachable"),
        ([let_in({"ipBlock": {"cidr": "10.0.0.0/8"}})], "inconclusive", "inconclusive"),
        ([policy(policyTypes=["Ingress"])], "blocked", "blocked"),
        # It is not one of the pods that it serves.
        ([let_in({"podSelector": {}})], "blocked", "blocked"),
        ([let_in({"namespaceSelector": space("shop")})], "blocked", "blocked"),
        ([let_in({"namespaceSelector": space("shop", operator="NotIn")})], *["reachable"] * 2),
        # Any other namespace may be its own, whether its pods are in the manifests or not.
        ([let_in({"namespaceSelector": space("edge")})], "inconclusive", "reachable"),
        ([let_in({"namespaceSelector": space("data")})], "inconclusive", "blocked"),
        (
            [let_in({"namespaceSelector": space("edge", operator="NotIn")})],
            "inconclusive",
            "blocked",
        ),
        (
            [let_in({"namespaceSelector": {"matchLabels": {"team": "net"}}})],
            "inconclusive",
            "inconclusive",
        ),
        (
            [
                let_in(
                    {
                        "namespaceSelector": space("edge"),
                        "podSelector": {"matchLabels": {"app": "router"}},
                    }
                )
            ],
            "inconclusive",
            "reachable",
        ),
        (
            [
                let_in(
                    {
                        "namespaceSelector": space("edge"),
                        "podSelector": {"matchLabels": {"app": "db"}},
                    }
                )
            ],
            "inconclusive",
            "blocked",
        ),
        (
            [
                let_in(
                    {
                        "namespaceSelector": space("edge"),
                        "podSelector": {"matchLabels": {"shard": "a"}},
                    }
                )
            ],
            "inconclusive",
            "inconclusive",
        ),
        # The policy is asked about the pod's port, not about the Service's.
        ([policy(ingress=[{"ports": [{"port": 80}]}])], "blocked", "blocked"),
        ([policy(ingress=[{"ports": [{"port": 8080}]}])], "reachable", "reachable"),
        ([policy(ingress=[{"ports": [{"port": "http"}]}])], "reachable", "reachable"),
        # What the controller may send, by the policies of where it may be.
        ([policy(policyTypes=["Egress"])], "reachable", "reachable"),
        ([policy(space="edge", policyTypes=["Egress"])], "inconclusive", "blocked"),
        ([policy(space="data", policyTypes=["Egress"])], "inconclusive", "reachable"),
        (
            [admin(ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}])],
            "blocked",
            "blocked",
        ),
        (
            [admin(egress=[{"action": "Deny", "to": [{"namespaces": {}}]}])],
            "blocked",
            "blocked",
        ),
        (
            [admin(ingress=[{"action": "Deny", "from": [{"namespaces": space("data")}]}])],
            "inconclusive",
            "reachable",
        ),
    ],
)
def test_what_policies_let_in(
    tmp_path: Path, policies: list[Object], not_known: str, known: str
) -> None:
    objects = [*APPS, ingress(), *policies]
    for around, wanted in ((NOTHING_MORE, not_known), (ROUTER, known)):
        cells = Asked(tmp_path, *objects, around=around).cells
        assert [*cells] == [WEB]
        assert cells[WEB].partition(" ")[0] == wanted, around


@pytest.mark.parametrize(
    ("gateway", "verdict"),
    [({"name": "g"}, "inconclusive"), ({"name": "g", "namespace": "infra"}, "blocked")],
)
def test_the_pods_of_a_gateway_may_be_beside_it(
    tmp_path: Path, gateway: Object, verdict: str
) -> None:
    """Several implementations make them in the Gateway's namespace."""
    cells = Asked(tmp_path, *APPS, http_route(gateway), let_in({"podSelector": {}})).cells
    assert [*cells] == ["httproute shop/in to pod shop/web on tcp/8080"]
    assert [one.partition(" ")[0] for one in cells.values()] == [verdict]


def test_each_row_is_away_from_its_own_namespace_only(tmp_path: Path) -> None:
    """The controller that serves one application may be beside another."""
    blog = [pod("web", "blog"), service("web", "blog"), ingress(space="blog")]
    cells = Asked(tmp_path, *APPS, ingress(), *blog, let_in({"namespaceSelector": space("blog")}))
    assert {key: one.partition(" ")[0] for key, one in cells.cells.items()} == {
        WEB: "inconclusive",
        "ingress blog/in to pod blog/web on tcp/8080": "reachable",
    }


def test_no_policy_isolates_a_host(tmp_path: Path) -> None:
    objects = [pod("web", hostNetwork=True), service("web"), ingress()]
    cells = Asked(tmp_path, *objects, policy(policyTypes=["Ingress"])).cells
    assert cells[WEB] == "reachable (no-policy)"


def test_a_network_of_its_own(tmp_path: Path) -> None:
    """Which network the controller is on is not known, so neither is whether there is a way."""
    label = "k8s.ovn.org/primary-user-defined-network"
    shop = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {label: ""}},
    }
    network = made(
        "UserDefinedNetwork",
        "k8s.ovn.org/v1",
        "own",
        topology="Layer2",
        layer2={"role": "Primary", "subnets": ["10.9.0.0/16"]},
    )
    cells = Asked(tmp_path, *APPS, ingress(), shop, network).cells
    assert cells[WEB] == "inconclusive (network-unknown)"


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        ({}, True),
        ({"ports": ("tcp/8080",)}, True),
        ({"ports": ("http",)}, True),
        ({"ports": ("all",)}, True),
        ({"ports": ("tcp/80", "udp/8080")}, False),
        ({"namespaces": ("shop",)}, True),
        ({"namespaces": ("data",)}, False),
        ({"to_namespaces": ("data",)}, False),
        ({"from_namespaces": ("data",)}, False),
        ({"from_namespaces": ("data",), "from_ips": ("all",)}, True),
        ({"namespaces": ("shop",), "with_peers": True}, True),
        ({"namespaces": ("data",), "with_peers": True}, False),
    ],
)
def test_rows_are_there_as_the_outside_is(
    tmp_path: Path, flags: dict[str, Any], *, there: bool
) -> None:
    assert [*Asked(tmp_path, *APPS, ingress(), **flags).cells] == ([WEB] if there else [])


def test_what_is_told(tmp_path: Path) -> None:
    asked = Asked(tmp_path, *APPS, ingress(), policy(policyTypes=["Ingress"]))
    found = asked.findings[FindingKind.INGRESS_BLOCKED]
    assert found.text == (
        "1 object leads from outside to pods that policies do not let it reach: "
        "ingress shop/in to pod shop/web on tcp/8080 (networkpolicy shop/p ingress)"
    )
    assert found.severity == "warning"
    assert found.cells == 1
    assert "ingress-controller-unknown" not in asked.notes


def test_a_controller_that_is_not_known_is_told_where_it_matters(tmp_path: Path) -> None:
    """And a rule that is for it is not taken for one that matches nobody."""
    objects = [*APPS, ingress(), let_in({"namespaceSelector": space("edge")})]
    asked = Asked(tmp_path, *objects)
    assert asked.notes["ingress-controller-unknown"].subjects == ("ingress/shop/in",)
    assert not {FindingKind.INGRESS_BLOCKED, FindingKind.RULE_WITHOUT_EFFECT} & {*asked.findings}
    named = Asked(tmp_path, *objects, around=ROUTER)
    assert "ingress-controller-unknown" not in named.notes


def write(place: Path, *objects: Object) -> str:
    place.mkdir()
    (place / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return str(place)


def test_a_change_of_what_comes_in_is_a_change(tmp_path: Path) -> None:
    before = write(tmp_path / "before", *APPS, ingress())
    after = write(tmp_path / "after", *APPS, ingress(), policy(policyTypes=["Ingress"]))
    asked = scope.from_flags(from_ips=("all",))
    found, _ = compare_manifests(before, after, asked, NOTHING_MORE, Mock(spec=Progress))
    assert {(path.src, path.dst, path.before, path.after) for path in found.paths} >= {
        ("ingress shop/in", "pod shop/web", "reachable", "blocked")
    }


def written(tmp_path: Path, name: str, *objects: Object, **flags: Any) -> Path:
    """Return a run of some manifests."""
    asked = options(Path(write(tmp_path / name, *objects)), **flags)
    return command.run(asked, tmp_path / "runs", Mock(spec=Progress)).path


def test_two_runs(tmp_path: Path) -> None:
    before = written(tmp_path, "before", *APPS, ingress())
    after = written(tmp_path, "after", *APPS, ingress(), policy(policyTypes=["Ingress"]))
    found = diff_runs(before, after, Mock(spec=Progress))
    assert ("ingress shop/in", "pod shop/web", "reachable", "blocked") in {
        (path.src, path.dst, path.before, path.after) for path in found.paths
    }
    told = explain(after, "ingress/shop/in", "shop/web", "tcp/8080", family=None, raw=False).text
    assert told.startswith("ingress shop/in cannot reach pod shop/web on tcp/8080")
    assert "no rule allows (shop/p, ingress)" in told


@pytest.mark.parametrize(
    ("flags", "gone"),
    [
        ({}, ("ingress shop/in",)),
        ({"to_namespaces": ("shop",)}, ("ingress shop/in",)),
        ({"from_namespaces": ("shop", "data")}, ()),
        ({"to_namespaces": ("data",)}, ()),
    ],
)
def test_a_row_that_the_other_run_did_not_ask_about_is_not_gone(
    tmp_path: Path, flags: dict[str, Any], gone: tuple[str, ...]
) -> None:
    before = written(tmp_path, "before", *APPS, ingress())
    after = written(tmp_path, "after", *APPS, **flags)
    assert diff_runs(before, after, Mock(spec=Progress)).vanished == gone
    assert diff_runs(after, before, Mock(spec=Progress)).appeared == gone
