"""The lines of a rule, for the layouts a YAML writer has."""

from typing import TYPE_CHECKING

from audit.report import manifests

if TYPE_CHECKING:
    from tests.report.conftest import Made

INDENTED = """\
spec:
  egress:
    - to:
        - ipBlock:
            cidr: 10.0.0.0/8
    - ports:
        - port: 53
  podSelector:
    matchLabels:
      app: web
status: {}
"""


def text(manifest: str, lines: tuple[int, int]) -> str:
    return "\n".join(manifest.splitlines()[slice(*lines)])


def marks(manifest: str) -> dict[str, tuple[tuple[int, int], ...]]:
    return manifests.marks(manifest, "NetworkPolicy")


def test_rules_of_a_written_policy(made: "Made") -> None:
    manifest = made.manifest.format(name="a", namespace="b")
    found = marks(manifest)
    first, second = found["ingress"]
    assert text(manifest, first).startswith("  - from:\n    - namespaceSelector:")
    assert text(manifest, first).endswith("protocol: TCP")
    assert text(manifest, second) == "  - from:\n    - podSelector: {}"
    assert found["egress"] == ()
    selector, types = found["selector"]
    assert text(manifest, selector) == "  podSelector: {}"
    assert text(manifest, types) == "  policyTypes:\n  - Ingress"


def test_items_may_be_indented() -> None:
    found = marks(INDENTED)
    first, second = found["egress"]
    assert text(INDENTED, first).endswith("cidr: 10.0.0.0/8")
    assert text(INDENTED, second) == "    - ports:\n        - port: 53"
    assert [text(INDENTED, lines) for lines in found["selector"]] == [
        "  podSelector:\n    matchLabels:\n      app: web"
    ]


def test_what_cannot_be_found_is_not_marked() -> None:
    for manifest in ("", "spec:", "spec: {}", "spec:\n  ingress: []\n", "kind: X\n  ingress:\n"):
        assert marks(manifest)["ingress"] == ()
