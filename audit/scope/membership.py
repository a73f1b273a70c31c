"""Whether a scope would have an endpoint that is in another run's cluster. Pure."""

from collections.abc import Mapping

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.selectors import Selector
from audit.scope import names, outside
from audit.scope.named import Directory
from audit.scope.scope import Scope


def selects(
    scope: Scope,
    endpoint: Endpoint,
    namespace_labels: Mapping[str, str],
    *,
    ranges: bool = False,
    ingresses: bool = False,
) -> bool:
    """Say whether `endpoint` is a row or a column of what `scope` asks about.

    `namespace_labels` are those of its namespace. An address outside counts where it was named, and
    a range of them where the scope had `ranges`: these are cut anew for every cluster. An
    Ingress or its like counts with `ingresses`: where it leads to a column, and was read.
    """
    if endpoint.kind is EndpointKind.POD:
        return scope.with_peers or any(sides(scope, endpoint, namespace_labels))
    if endpoint.kind is EndpointKind.INGRESS:
        described = bool(scope.given("from_"))
        rows = outside.from_everywhere(scope.from_ips, described=described, outside=True)
        return ingresses and rows
    if outside.is_range_endpoint(endpoint):
        return ranges
    if any(_words_mean(scope, endpoint)):
        return True
    if endpoint.kind is EndpointKind.EXTERNAL:
        return endpoint.name in {*scope.from_ips, *scope.to_ips}
    if scope.with_peers or {*endpoint.addresses} & {*scope.from_ips, *scope.to_ips}:
        return True
    if endpoint.kind is EndpointKind.NODE:
        return bool({names.EVERY, endpoint.name} & {*scope.from_nodes, *scope.to_nodes})
    wanted = {f"{endpoint.namespace}/{endpoint.name}", f"{endpoint.namespace}/*", "*/*"}
    return bool(wanted & {*scope.to_services})


def _words_mean(scope: Scope, endpoint: Endpoint) -> tuple[bool, bool]:
    """Say whether a word of the scope means `endpoint` as a source, and as a destination."""
    directory = Directory([endpoint])
    sides = (scope.from_endpoints, scope.to_endpoints)
    sends, receives = (any(map(directory.means, words)) for words in sides)
    return sends and endpoint.kind is not EndpointKind.SERVICE, receives


def sides(scope: Scope, pod: Endpoint, namespace_labels: Mapping[str, str]) -> tuple[bool, bool]:
    """Say whether a pod is a source, and whether it is a destination, of what `scope` is about.

    With peers, that is what the flags for both sides select: the peers are the other end.
    """
    labels = dict(pod.labels)

    def matches(namespaces: tuple[str, ...], narrowed: Selector | None) -> bool:
        named = namespaces or scope.namespaces
        return (
            (not named or bool({names.EVERY, pod.namespace} & {*named}))
            and (scope.selector if narrowed is None else narrowed).matches(labels)
            and (bool(namespaces) or scope.namespace_selector.matches(namespace_labels))
        )

    def is_in(
        prefix: str,
        namespaces: tuple[str, ...],
        narrowed: Selector | None,
        addresses: tuple[str, ...],
    ) -> bool:
        if {*pod.addresses} & {*addresses}:
            return True
        # A side that nothing describes is what the flags for both sides say.
        described = bool(scope.given(prefix)) and not namespaces and narrowed is None
        return not described and matches(namespaces, narrowed)

    if scope.networks and not any(
        pod.network_name in names.spellings(name) for name in scope.networks
    ):
        return False, False
    sends, receives = _words_mean(scope, pod)
    return (
        sends or is_in("from_", scope.from_namespaces, scope.from_selector, scope.from_ips),
        receives or is_in("to_", scope.to_namespaces, scope.to_selector, scope.to_ips),
    )
