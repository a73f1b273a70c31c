"""A policy of each kind that every API server accepts, with everything that its API has in it.

And the schemas' own word on others: by jsonschema, which the product does not use, and for
NetworkPolicies by Kubernetes' package as it is meant to be called.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

_SELECTOR = {
    "matchLabels": {"app": "web", "shop.example/tier": "front"},
    "matchExpressions": [
        {"key": "env", "operator": "In", "values": ["prod", "dev"]},
        {"key": "canary", "operator": "DoesNotExist"},
    ],
}
_PODS = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": _SELECTOR}
_ADMIN_PORTS = [
    {"portNumber": {"protocol": "TCP", "port": 80}},
    {"portRange": {"protocol": "UDP", "start": 8000, "end": 8100}},
]
_NAMED = [{"namedPort": "dns"}]
_PROTOCOLS: Sequence[Mapping[str, Any]] = [
    {"tcp": {"destinationPort": {"number": 80}}},
    {"udp": {"destinationPort": {"range": {"start": 8000, "end": 8100}}}},
]
_OUTSIDE = [{"networks": ["10.0.0.0/8", "fd00::/8"]}, {"nodes": _SELECTOR}]
_NAMES = [{"domainNames": ["*.example.com", "kubernetes.io"]}]

SEEDS: Sequence[Mapping[str, Any]] = [
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "podSelector": _SELECTOR,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {}, "namespaceSelector": _SELECTOR},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    ],
                    "ports": [
                        {"protocol": "TCP", "port": 80},
                        {"protocol": "UDP", "port": 8000, "endPort": 8100},
                        {"port": "http"},
                        {"protocol": "SCTP"},
                    ],
                },
                {},
            ],
            "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}]}],
        },
    },
    {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "AdminNetworkPolicy",
        "metadata": {"name": "control"},
        "spec": {
            "priority": 10,
            "subject": {"namespaces": _SELECTOR},
            "ingress": [
                {"name": "in", "action": "Allow", "from": [{"pods": _PODS}], "ports": _NAMED},
                {"action": "Pass", "from": [{"namespaces": {}}], "ports": _ADMIN_PORTS},
            ],
            "egress": [
                {"action": "Deny", "to": [*_OUTSIDE, *_NAMES], "ports": _ADMIN_PORTS},
                {"action": "Deny", "to": [{"pods": _PODS}], "ports": _NAMED},
            ],
        },
    },
    {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "BaselineAdminNetworkPolicy",
        "metadata": {"name": "default"},
        "spec": {
            "subject": {"pods": _PODS},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
            "egress": [{"action": "Allow", "to": _OUTSIDE, "ports": _ADMIN_PORTS}],
        },
    },
    {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "control"},
        "spec": {
            "tier": "Admin",
            "priority": 10,
            "subject": {"pods": {"podSelector": _SELECTOR}},
            "ingress": [
                {
                    "action": "Accept",
                    "from": [{"pods": _PODS}, {"namespaces": {}}],
                    "protocols": [
                        {"destinationNamedPort": "dns"},
                        {"sctp": {"destinationPort": {"number": 1}}},
                    ],
                }
            ],
            "egress": [
                {
                    "name": "out",
                    "action": "Deny",
                    "to": [*_OUTSIDE, *_NAMES],
                    "protocols": _PROTOCOLS,
                },
                {"action": "Pass", "to": [{"namespaces": {}}]},
            ],
        },
    },
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {
            "egress": [
                {
                    "type": "Allow",
                    "to": {"cidrSelector": "1.2.3.0/24"},
                    "ports": [{"protocol": "TCP", "port": 80}],
                },
                {"type": "Allow", "to": {"dnsName": "*.example.com"}},
                {"type": "Deny", "to": {"nodeSelector": _SELECTOR}},
                {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}},
            ]
        },
    },
]


def accepted_by_schemas(policy: Mapping[str, Any], kind: str) -> bool:
    """Return whether a policy, its nulls left out, is what the schemas describe."""
    plain = _without_nulls(policy)
    if not _validator(kind).is_valid(plain):
        return False
    if kind == "NetworkPolicy":
        named = {**plain, "apiVersion": "networking.k8s.io/v1", "kind": kind}
        named.pop("status", None)  # older servers had one
        try:
            kubernetes_validate.validate(named, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError:
            return False
    return True


@cache
def _validator(kind: str) -> jsonschema.protocols.Validator:
    package = resources.files("audit.facts.validity").joinpath("policies.yaml")
    ours = yaml.safe_load(package.read_text("utf-8"))
    directory = f"kubernetes-json-schema/v{kubernetes_validate.latest_version()}-local-strict"
    theirs = resources.files(kubernetes_validate).joinpath(directory, "_definitions.json")
    schemas = (ours, json.loads(theirs.read_text("utf-8")))
    registry = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in schemas)
    return jsonschema.Draft202012Validator(
        {"$ref": f"{ours['$id']}#/$defs/{kind}"}, registry=registry
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return [_without_nulls(member) for member in value] if isinstance(value, list) else value
