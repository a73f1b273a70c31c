"""Why a cell is what it is: one line a side, in the grammar it promises."""

import re
from typing import Any

import pytest

from audit.policy.chain import chains, verdict
from audit.policy.tables import PASSES, STOPS
from tests.conftest import REPOSITORY
from tests.policy.test_scenarios import NAMES, admin, evaluated, network, only, space

PAGE = (REPOSITORY / "reports" / "templates" / "path.js").read_text(encoding="utf-8")
PAGE_READS = re.compile(re.findall(r"/(\S.* decides: .*)/\.test\(text\)", PAGE)[0])
"""By what the page tells which side stops a packet."""
DEFAULT = network("deny-by-default", policyTypes=["Ingress"])
FROM_Y = network("from-y", ingress=[{"from": [{"namespaceSelector": space("y")}]}])
PASSING = admin(
    "control",
    10,
    "y",
    egress=[
        {"action": "Deny", "to": [{"namespaces": space("z")}]},
        {"action": "Pass", "to": [{"namespaces": space("x")}]},
    ],
)
OUT_Y = network("out", "y", policyTypes=["Egress"])
FIREWALL = {
    "kind": "EgressFirewall",
    "metadata": {"namespace": "x", "name": "default"},
    "spec": {"egress": [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]},
}
BASELINE = {
    "kind": "BaselineAdminNetworkPolicy",
    "metadata": {"name": "default"},
    "spec": {
        "subject": {"namespaces": space("x")},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
    },
}
NOBODY = "no policy selects it"


@pytest.mark.parametrize(
    ("objects", "src", "dst", "egress", "ingress"),
    [
        ([], "y/a", "x/a", NOBODY, NOBODY),
        (
            [DEFAULT, FROM_Y],
            "z/a",
            "x/a",
            NOBODY,
            "[NetworkPolicy] decides: no rule allows (x/deny-by-default, x/from-y, ingress)",
        ),
        (
            [DEFAULT, FROM_Y],
            "y/a",
            "x/a",
            NOBODY,
            (
                "[NetworkPolicy] decides: "
                "Allow (x/from-y ingress[0]; also selecting: x/deny-by-default)"
            ),
        ),
        (
            [PASSING, OUT_Y],
            "y/a",
            "x/a",
            (
                "[AdminNetworkPolicy] Pass (control egress[1])"
                " → [NetworkPolicy] decides: no rule allows (y/out, egress)"
            ),
            NOBODY,
        ),
        (
            [PASSING, OUT_Y],
            "y/a",
            "z/a",
            "[AdminNetworkPolicy] decides: Deny (control egress[0])",
            NOBODY,
        ),
        (
            [PASSING],
            "y/a",
            "outside",
            "[AdminNetworkPolicy] no rule matches (control, egress)",
            NOBODY,
        ),
        (
            [BASELINE],
            "y/a",
            "x/a",
            NOBODY,
            "[BaselineAdminNetworkPolicy] decides: Deny (default ingress[0])",
        ),
        (
            [FIREWALL],
            "x/a",
            "outside",
            "[EgressFirewall] decides: Deny (x/default egress[0])",
            NOBODY,
        ),
        ([FIREWALL], "x/a", "y/a", NOBODY, NOBODY),
        (
            [DEFAULT],
            "node",
            "x/a",
            NOBODY,
            "[NetworkPolicy] decides: a node may always reach its own pods",
        ),
    ],
)
def test_a_chain_says_every_tier_and_marks_what_decides(
    objects: list[dict[str, Any]], src: str, dst: str, egress: str, ingress: str
) -> None:
    intent = evaluated(objects)
    found = chains(intent, NAMES.index(src), NAMES.index(dst), 0)
    assert [str(chain) for chain in found] == [egress, ingress]
    stops = any(
        chain.steps
        and chain.steps[-1].decides
        and chain.steps[-1].effect.startswith(("Deny", "no rule allows"))
        for chain in found
    )
    assert verdict(found) == (STOPS if stops else PASSES)
    assert any(PAGE_READS.search(str(chain)) for chain in found) == stops


def test_a_rule_about_other_ports_is_not_the_one_that_decides() -> None:
    objects = [network(podSelector=only("a"), ingress=[{"ports": [{"port": 81}]}])]
    _, ingress = chains(evaluated(objects), NAMES.index("y/a"), NAMES.index("x/a"), 0)
    assert str(ingress) == "[NetworkPolicy] decides: no rule allows (x/p, ingress)"
    _, ingress = chains(evaluated(objects), NAMES.index("y/a"), NAMES.index("x/a"), 1)
    assert str(ingress) == "[NetworkPolicy] decides: Allow (x/p ingress[0])"
