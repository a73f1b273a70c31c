"""Membership of a scope: what expanding the scope in a cluster gives, endpoint by endpoint."""

from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ScopeError
from audit.scope.expand import service_endpoint, sources_and_destinations
from audit.scope.membership import selects
from audit.scope.scope import ScopeFlags, from_flags
from tests.scope.test_expand import STATE, namespace_lists, namespace_selectors, selector_texts

ENDPOINTS = (*STATE.pods, *STATE.nodes, *map(service_endpoint, STATE.services))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "namespaces": namespace_lists,
            "selector": selector_texts,
            "namespace_selector": namespace_selectors,
            "with_peers": st.booleans(),
            "from_namespaces": namespace_lists | st.just(["*"]),
            "from_selector": selector_texts,
            "from_nodes": st.sampled_from([["n1"], ["*"]]),
            "from_ips": st.sampled_from([["10.128.0.7"], ["172.18.0.3"], ["198.51.100.7"]]),
            "to_namespaces": namespace_lists | st.just(["*"]),
            "to_selector": selector_texts,
            "to_nodes": st.just(["n2"]),
            "to_services": st.sampled_from([["shop/*"], ["infra/dns"], ["*/*"]]),
            "to_ips": st.sampled_from([["10.96.0.10"], ["198.51.100.8"]]),
        },
    )
)
def test_what_a_scope_selects_is_what_it_expands_to(flags: ScopeFlags) -> None:
    try:
        scope = from_flags(**flags)
        sides = sources_and_destinations(STATE, scope)
    except ScopeError:
        return
    labels = {name: dict(pairs) for name, pairs in STATE.namespaces.items()}
    every = {e.key: e for e in (*ENDPOINTS, *sides.endpoints)}.values()
    selected = {e.key for e in every if selects(scope, e, labels.get(e.namespace, {}))}
    assert selected == {e.key for e in sides.endpoints}
