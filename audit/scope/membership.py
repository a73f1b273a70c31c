"""Whether a scope would have an endpoint that is in another run's cluster. Pure."""

from collections.abc import Mapping

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.selectors import Selector
from audit.scope import outside
from audit.scope.scope import Scope


def selects(
    scope: Scope, endpoint: Endpoint, namespace_labels: Mapping[str, str], *, ranges: bool = False
) -> bool:
    """Say whether `endpoint` is a row or a column of what `scope` asks about.

    `namespace_labels` are those of its namespace. An address outside counts where it was named, and
    a range of them where the scope had `ranges`: these are cut anew for every cluster.
    """
    if endpoint.kind is EndpointKind.POD:
        return _pod(scope, endpoint, namespace_labels)
    if outside.is_range_endpoint(endpoint):
        return ranges
    if endpoint.kind is EndpointKind.EXTERNAL:
        return endpoint.name in {*scope.from_ips, *scope.to_ips}
    if scope.with_peers or {*endpoint.addresses} & {*scope.from_ips, *scope.to_ips}:
        return True
    if endpoint.kind is EndpointKind.NODE:
        return endpoint.name in {*scope.from_nodes, *scope.to_nodes}
    names = {f"{endpoint.namespace}/{endpoint.name}", f"{endpoint.namespace}/*"}
    return bool(names & {*scope.to_services})


def _pod(scope: Scope, pod: Endpoint, namespace_labels: Mapping[str, str]) -> bool:
    if scope.with_peers or {*pod.addresses} & {*scope.from_ips, *scope.to_ips}:
        return True
    labels = dict(pod.labels)

    def matches(namespaces: tuple[str, ...], narrowed: Selector | None) -> bool:
        named = namespaces or scope.namespaces
        return (
            (not named or pod.namespace in named)
            and (scope.selector if narrowed is None else narrowed).matches(labels)
            and (bool(namespaces) or scope.namespace_selector.matches(namespace_labels))
        )

    sides = (
        ("from_", scope.from_namespaces, scope.from_selector),
        ("to_", scope.to_namespaces, scope.to_selector),
    )
    for prefix, namespaces, narrowed in sides:
        # A side that nothing describes is what the flags for both sides say.
        if (not scope.given(prefix) or namespaces or narrowed is not None) and matches(
            namespaces, narrowed
        ):
            return True
    return False
