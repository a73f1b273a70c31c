"""Validators, compiled once: ours of policies.yaml, and Kubernetes' own that they refer to.

Kubernetes' schemas are those of the newest version that kubernetes_validate has, in which what is
not a field is an error.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

import kubernetes_validate
from jsonschema_rs import Draft202012Validator, Registry

from audit.facts.documents import documents
from audit.facts.validity.formats import FORMATS
from audit.facts.validity.rules import KEYWORD, Rules

_PUBLISHED = {
    "Pod": "pod-v1",
    "Namespace": "namespace-v1",
    "Node": "node-v1",
    "ReplicationController": "replicationcontroller-v1",
    "Deployment": "deployment-apps-v1",
    "ReplicaSet": "replicaset-apps-v1",
    "StatefulSet": "statefulset-apps-v1",
    "DaemonSet": "daemonset-apps-v1",
    "Job": "job-batch-v1",
    "CronJob": "cronjob-batch-v1",
    "Service": "service-v1",
    "Ingress": "ingress-networking-v1",
}


@cache
def structure(kind: str) -> Draft202012Validator:
    """Return the validator of what a kind's fields are, without the rules about them."""
    return _ours(kind, {})


@cache
def whole(kind: str) -> Draft202012Validator:
    """Return the validator of a kind with its rules, for what has its structure."""
    return _ours(kind, {KEYWORD: Rules})


@cache
def published(kind: str) -> Draft202012Validator:
    """Return Kubernetes' own validator of a kind."""
    return Draft202012Validator(_kubernetes(_PUBLISHED[kind]), registry=_registry())


def _ours(kind: str, keywords: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"{_policies()['$id']}#/$defs/{kind}"},
        registry=_registry(),
        formats=dict(FORMATS),
        validate_formats=True,
        keywords=keywords,
    )


@cache
def _registry() -> Registry:
    schemas = (_policies(), _kubernetes("_definitions"))
    return Registry([(schema["$id"], schema) for schema in schemas])


@cache
def _policies() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("policies.yaml").read_text("utf-8")
    [schemas] = documents(text)
    return dict(schemas)


@cache
def _kubernetes(name: str) -> dict[str, Any]:
    version = kubernetes_validate.latest_version()
    path = f"kubernetes-json-schema/v{version}-local-strict/{name}.json"
    content = resources.files(kubernetes_validate).joinpath(path).read_bytes()
    return dict(json.loads(content))
