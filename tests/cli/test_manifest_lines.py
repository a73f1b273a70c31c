"""What is found in manifests leads to the file and the line, where a reviewer reads it."""

import json
from pathlib import Path

from tests.end_to_end.conftest import Audit

POLICIES = """\
# Who may reach the database.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from: [{podSelector: {}}]
    - from: [{podSelector: {matchLabels: {app: frnt}}}]
---
apiVersion: v1
kind: List
items:
  - apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: stale, namespace: shop}
    spec: {podSelector: {matchLabels: {app: gone}}}
"""
POD = """\
{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "db", "namespace": "shop",
 "labels": {"app": "db"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
"""


def test_sarif_names_the_line_of_the_rule_and_of_the_policy(audit: Audit) -> None:
    deploy = audit.directory / "deploy" / "a b"
    deploy.mkdir(parents=True)
    (deploy / "policies.yaml").write_text(POLICIES)
    (deploy / "pod.json").write_text(POD)
    for named in ("deploy", str(audit.directory / "deploy")):
        asked = ("--manifests", named, "--port", "80", "-q", "-o", "json")
        run = Path(audit("run", *asked).json["path"])
        (log,) = json.loads(audit("report", run, "-o", "sarif", "--stdout").out)["runs"]
        lines = {
            (result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"])
            for result in log["results"]
            for location in result["locations"]
            if "region" in (place := location["physicalLocation"])
        }
        file = "deploy/a%20b/policies.yaml"
        rule, policy = (
            next(n for n, line in enumerate(POLICIES.splitlines(), 1) if text in line)
            for text in ("frnt", "- apiVersion")
        )
        assert ("rule-without-effect", file, rule) in lines
        assert ("selects-nothing", file, policy) in lines
        levels = {
            rule["id"]: rule["defaultConfiguration"]["level"]
            for rule in log["tool"]["driver"]["rules"]
        }
        assert levels["selects-nothing"] == "warning"
