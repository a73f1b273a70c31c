"""Every call that is made to an API server: the one table that rights are checked against.

`audit doctor` asks for these rights one by one, and the roles that are deployed grant exactly them.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A kind that is listed in all namespaces, and what is unproven when it cannot be."""

    resource: str
    """Its plural, which is also the name of its file in a snapshot."""
    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    """The versions to ask for, the preferred first."""
    required: bool = False
    """Without it there is nothing to audit."""
    policy: bool = False
    """The intent plane is made of it."""
    consequence: str = ""
    """What it means that it cannot be read."""

    def path(self, version: str) -> str:
        """Return the URL path of the List in all namespaces (Kubernetes API concepts)."""
        prefix = f"/apis/{self.group}" if self.group else "/api"
        return f"{prefix}/{version}/{self.resource}"


_INTENT = "what the policies mean is unknown, so the intent plane is inconclusive"
_MULTUS = "k8s.cni.cncf.io"
_POLICY_API = "policy.networking.k8s.io"

LISTED: tuple[Listed, ...] = (
    Listed(resource="namespaces", required=True),
    Listed(resource="nodes", required=True),
    Listed(resource="pods", required=True),
    Listed(resource="services", consequence="services cannot be audited"),
    Listed(
        resource="endpointslices",
        group="discovery.k8s.io",
        consequence="headless services have no known endpoints",
    ),
    Listed(resource="networkpolicies", group="networking.k8s.io", policy=True, consequence=_INTENT),
    Listed(
        resource="multi-networkpolicies",
        group=_MULTUS,
        versions=("v1beta1", "v1beta2"),
        policy=True,
        consequence="what is meant on secondary networks is unknown, so the intent plane is "
        "inconclusive there",
    ),
    Listed(
        resource="network-attachment-definitions",
        group=_MULTUS,
        consequence="without OVN's databases, which networks pods are on is known by the names of "
        "their attachments only",
    ),
    Listed(
        resource="adminnetworkpolicies",
        group=_POLICY_API,
        versions=("v1alpha1",),
        policy=True,
        consequence=_INTENT,
    ),
    Listed(
        resource="baselineadminnetworkpolicies",
        group=_POLICY_API,
        versions=("v1alpha1",),
        policy=True,
        consequence=_INTENT,
    ),
    Listed(
        resource="clusternetworkpolicies",
        group=_POLICY_API,
        versions=("v1alpha2",),
        policy=True,
        consequence=_INTENT,
    ),
    Listed(resource="egressfirewalls", group="k8s.ovn.org", policy=True, consequence=_INTENT),
)
"""What is listed; all but the first six are CRDs, and need not exist."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One thing that must be allowed; `namespaced` in the namespace of OVN-Kubernetes only."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespaced: bool = False

    @property
    def name(self) -> str:
        """The resource as `kubectl auth can-i` and `--resource` take it."""
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{name}/{self.subresource}" if self.subresource else name

    def __str__(self) -> str:
        return f"{self.verb} {self.name}"


EXEC = ("get", "create")
"""The verbs of a pod exec: a WebSocket is opened by GET, for which API servers from Kubernetes 1.35
on also want `create`, as for a POST."""


def rights() -> Iterator[Right]:
    """Yield every right that reading a cluster and its OVN databases takes."""
    for listed in LISTED:
        yield Right(verb="list", resource=listed.resource, group=listed.group)
    for verb in EXEC:
        yield Right(verb=verb, resource="pods", subresource="exec", namespaced=True)
