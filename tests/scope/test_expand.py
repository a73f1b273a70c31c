"""A scope selects the rows and columns that its definition selects one by one."""

import dataclasses
import itertools
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ScopeError
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import ClusterState, Note, Service, ServiceEndpoint
from audit.model.packets import Protocol
from audit.model.selectors import EVERYTHING
from audit.model.verdicts import Reason
from audit.scope import selectors
from audit.scope.expand import Sides, sources_and_destinations
from audit.scope.scope import Scope, ScopeFlags, from_flags
from audit.scope.selectors import parse

HTTP = NamedPort(name="http", port=Port(protocol=Protocol.TCP, number=80))


def pod(namespace: str, name: str, address: str, **labels: str) -> Endpoint:
    return Endpoint(
        kind=EndpointKind.POD,
        namespace=namespace,
        name=name,
        addresses=(address,),
        labels=tuple(labels.items()),
    )


def node(name: str, address: str) -> Endpoint:
    return Endpoint(kind=EndpointKind.NODE, name=name, node=name, addresses=(address,))


def service(namespace: str, name: str, address: str) -> Service:
    return Service(
        namespace=namespace,
        name=name,
        headless=not address,
        cluster_ips=(address,) if address else (),
        ports=(HTTP,),
        labels=(("app", name),),
    )


def gateway(name: str) -> Endpoint:
    attachment = Attachment(
        zone=name,
        switch=f"ext_{name}",
        port=f"br-ex_{name}",
        mac="0a:58:64:40:00:01",
        gateway_mac="0a:58:64:40:00:02",
        addresses=(),
    )
    return Endpoint(kind=EndpointKind.EXTERNAL, name="outside", node=name, attachment=attachment)


STATE = ClusterState(
    source="test",
    pods=(
        pod("shop", "web-0", "10.128.0.5", app="web", tier="front"),
        pod("shop", "db-0", "10.128.0.6", app="db"),
        pod("shop-dev", "web-0", "10.128.0.7", app="web"),
        pod("infra", "dns-0", "10.128.0.8", app="dns"),
    ),
    nodes=(node("n1", "172.18.0.2"), node("n2", "172.18.0.3")),
    services=(
        service("shop", "web", "10.96.0.20"),
        service("shop", "db", ""),
        service("infra", "dns", "10.96.0.10"),
    ),
    namespaces=MappingProxyType(
        {
            "shop": (("team", "shop"),),
            "shop-dev": (("team", "shop"), ("env", "dev")),
            "infra": (("team", "infra"),),
            "empty": (("team", "none"),),
        }
    ),
    policies=(),
    zones=MappingProxyType({}),
    gateways=MappingProxyType({"n1": gateway("n1"), "n2": gateway("n2")}),
)

PODS = {p.key for p in STATE.pods}
NODES = {n.key for n in STATE.nodes}
SERVICES = {"service shop/web", "service shop/db", "service infra/dns"}


def pairs(scope: Scope, state: ClusterState = STATE) -> set[tuple[str, str]]:
    sides = sources_and_destinations(state, scope)
    listed = [
        (sides.endpoints[src].key, sides.endpoints[dst].key)
        for block in sides.blocks
        for src, dst in itertools.product(block.sources, block.destinations)
    ]
    assert len(listed) == len(set(listed)), "the blocks share a cell"
    assert_well_formed(sides)
    return set(listed)


def assert_well_formed(sides: Sides) -> None:
    used = {*sides.sources.tolist(), *sides.destinations.tolist()}
    assert used == set(range(len(sides.endpoints))), "an endpoint is neither row nor column"
    assert len({e.key for e in sides.endpoints}) == len(sides.endpoints)
    order = [(list(EndpointKind).index(e.kind), e.namespace, e.name) for e in sides.endpoints]
    assert order == sorted(order)


namespace_lists = st.lists(st.sampled_from(["shop", "shop-dev", "infra"]), unique=True)
selector_texts = st.sampled_from(["", "app=web", "app!=web", "tier", "!tier", "app in (db,dns)"])
namespace_selectors = st.sampled_from(["", "team=shop", "env!=dev", "!env"])


def selected(namespaces: list[str], selector: str, namespace_selector: str = "") -> set[str]:
    labels = {name: dict(pairs) for name, pairs in STATE.namespaces.items()}
    return {
        p.key
        for p in STATE.pods
        if (not namespaces or p.namespace in namespaces)
        and selectors.parse(selector).matches(dict(p.labels))
        and selectors.parse(namespace_selector).matches(labels[p.namespace])
    }


@given(
    namespaces=namespace_lists,
    selector=selector_texts,
    namespace_selector=namespace_selectors,
    with_peers=st.booleans(),
)
def test_flags_for_both_sides_pair_what_they_select_and_peers_add_the_rest(
    namespaces: list[str], selector: str, namespace_selector: str, *, with_peers: bool
) -> None:
    subjects = selected(namespaces, selector, namespace_selector)
    scope = from_flags(
        namespaces=namespaces,
        selector=selector,
        namespace_selector=namespace_selector,
        with_peers=with_peers,
    )
    if not subjects:
        with pytest.raises(ScopeError):
            pairs(scope)
        return
    expected = set(itertools.product(subjects, subjects))
    if with_peers:
        expected |= set(itertools.product(subjects, PODS | NODES | SERVICES))
        expected |= set(itertools.product(PODS | NODES, subjects))
    assert pairs(scope) == expected


@given(namespace_lists, selector_texts, namespace_lists, st.none() | selector_texts)
def test_a_side_is_the_union_of_what_its_flags_select_and_the_other_stays(
    namespaces: list[str], selector: str, to_namespaces: list[str], to_selector: str | None
) -> None:
    scope = from_flags(
        namespaces=namespaces,
        selector=selector,
        to_namespaces=to_namespaces,
        to_selector=to_selector,
        to_nodes=["n1"],
    )
    sources = selected(namespaces, selector)
    destinations = {"node n1"}
    if to_namespaces or to_selector is not None:
        chosen = selected(
            to_namespaces or namespaces, selector if to_selector is None else to_selector
        )
        if not chosen:
            sources = set()
        destinations |= chosen
    if not sources:
        with pytest.raises(ScopeError):
            pairs(scope)
        return
    assert pairs(scope) == set(itertools.product(sources, destinations))


def test_without_anything_every_pod_is_a_row_and_a_column() -> None:
    assert pairs(Scope()) == set(itertools.product(PODS, PODS))


def test_a_side_that_names_no_pods_has_none() -> None:
    assert pairs(Scope(to_services=("shop/*",))) == set(
        itertools.product(PODS, {"service shop/web", "service shop/db"})
    )
    everywhere = {f"service {s.namespace}/{s.name}" for s in STATE.services}
    assert pairs(Scope(to_services=("*/*",))) == set(itertools.product(PODS, everywhere))
    assert pairs(Scope(from_nodes=("n2",))) == set(itertools.product(["node n2"], PODS))


def test_a_star_is_every_namespace_and_every_node_beside_what_else_is_named() -> None:
    scope = Scope(to_namespaces=("*",), to_nodes=("*",), to_services=("shop/web",))
    every = PODS | NODES | {"service shop/web"}
    assert pairs(scope) == set(itertools.product(PODS, every))
    scope = Scope(namespaces=("shop",), from_namespaces=("*", "infra"), from_nodes=("*",))
    assert pairs(scope) == set(itertools.product(PODS | NODES, selected(["shop"], "")))


def test_a_flag_of_one_side_stands_in_place_of_the_one_for_both() -> None:
    scope = Scope(selector=parse("app=dns"), to_selector=EVERYTHING)
    assert pairs(scope) == set(itertools.product(selected([], "app=dns"), PODS))
    scope = Scope(namespaces=("infra",), to_namespaces=("shop",))
    assert pairs(scope) == set(itertools.product(selected(["infra"], ""), selected(["shop"], "")))


def test_a_service_is_a_destination_at_its_cluster_addresses() -> None:
    sides = sources_and_destinations(STATE, Scope(to_services=("shop/web",)))
    (found,) = [e for e in sides.endpoints if e.kind is EndpointKind.SERVICE]
    assert found.addresses == ("10.96.0.20",)
    assert found.declared == (HTTP,)
    assert not found.obstacle


def headless_service(*addresses: str, notes: tuple[Note, ...] = ()) -> Endpoint:
    """Return the column of shop/db, whose endpoints have these addresses."""
    port = HTTP.port
    behind = [ServiceEndpoint(port=port, address=a, target=n) for a in addresses for n in (1, 2)]
    services = tuple(
        dataclasses.replace(s, endpoints=tuple(behind)) if s.name == "db" else s
        for s in STATE.services
    )
    state = dataclasses.replace(STATE, services=services, notes=notes)
    sides = sources_and_destinations(state, Scope(to_services=("shop/db",)))
    (found,) = [e for e in sides.endpoints if e.kind is EndpointKind.SERVICE]
    return found


def test_a_headless_service_is_reached_at_the_addresses_of_its_endpoints() -> None:
    found = headless_service("10.128.0.6", "10.128.0.5")
    assert found.addresses == ("10.128.0.5", "10.128.0.6")
    assert not found.obstacle


def test_a_headless_service_without_endpoints_has_the_reason_for_it() -> None:
    assert headless_service().obstacle == Reason.SERVICE_WITHOUT_ENDPOINTS
    assert headless_service().addresses == ()
    unlisted = Note(code="list-missing", text="", subjects=("endpointslices",))
    assert headless_service(notes=(unlisted,)).obstacle == Reason.ENDPOINTS_UNKNOWN


def test_an_address_behind_a_headless_service_is_the_pods() -> None:
    behind = ServiceEndpoint(port=HTTP.port, address="10.128.0.5", target=80)
    services = tuple(dataclasses.replace(s, endpoints=(behind,)) for s in STATE.services)
    state = dataclasses.replace(STATE, services=services)
    assert pairs(Scope(from_ips=("10.128.0.5",), to_nodes=("n1",)), state) == {
        ("pod shop/web-0", "node n1")
    }


def test_an_external_address_is_one_column_and_one_row_for_each_gateway() -> None:
    scope = Scope(from_ips=("198.51.100.7",), to_ips=("198.51.100.7",))
    assert pairs(scope) == {
        ("external 198.51.100.7 via n1", "external 198.51.100.7"),
        ("external 198.51.100.7 via n2", "external 198.51.100.7"),
    }
    sides = sources_and_destinations(STATE, scope)
    (source, _) = sides.sources
    attachment = sides.endpoints[source].attachment
    assert attachment is not None
    assert attachment.port == "br-ex_n1"
    assert attachment.addresses == ("198.51.100.7",)


def test_an_address_of_the_cluster_is_the_endpoint_that_has_it() -> None:
    scope = Scope(from_ips=("10.128.0.5",), to_ips=("10.96.0.10", "172.18.0.2"))
    assert pairs(scope) == {
        ("pod shop/web-0", "service infra/dns"),
        ("pod shop/web-0", "node n1"),
    }


def test_no_pods_matter_where_both_sides_are_named_otherwise() -> None:
    bare = ClusterState(
        source="test",
        pods=(),
        nodes=STATE.nodes,
        services=(),
        namespaces=STATE.namespaces,
        policies=(),
        zones=MappingProxyType({}),
    )
    assert pairs(Scope(from_nodes=("n1",), to_nodes=("n2",)), bare) == {("node n1", "node n2")}
    with pytest.raises(ScopeError, match="there is no pod"):
        pairs(Scope(), bare)
    with pytest.raises(ScopeError, match=r"no gateway is known .* 198\.51\.100\.7"):
        pairs(Scope(from_ips=("198.51.100.7",), to_nodes=("n2",)), bare)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"namespaces": ["shpo"]}, "namespace 'shpo' does not exist; did you mean shop?"),
        ({"to_namespaces": ["zzz"]}, "namespace 'zzz' does not exist"),
        ({"to_services": ["shop/wbe"]}, "service 'shop/wbe' does not exist; did you mean shop/web"),
        ({"to_services": ["sho/web"]}, "namespace 'sho' does not exist; did you mean shop?"),
        ({"to_services": ["empty/*"]}, "namespace empty has no services"),
        ({"from_nodes": ["n11"]}, "node 'n11' does not exist; did you mean n1?"),
        ({"selector": "app=wbe"}, "no pod has app=wbe; did you mean app=web?"),
        ({"selector": "ap=wbe,tier"}, "no pod has ap=wbe,tier; did you mean app=web,tier?"),
        ({"selector": "app in (dsn,x)"}, "no pod has app in (dsn,x); did you mean app in (dns,x)?"),
        ({"selector": "teir"}, "no pod has teir; did you mean tier?"),
        ({"from_selector": "color=blue"}, "no pod has color=blue"),
        (
            {"namespaces": ["infra"], "selector": "app=web"},
            "no pod in infra has app=web",
        ),
        ({"namespaces": ["empty"]}, "there is no pod in empty"),
        ({"namespace_selector": "team=shpo"}, "no namespace has team=shpo; did you mean team=shop"),
        (
            {"namespaces": ["infra", "shop"], "namespace_selector": "env"},
            "no namespace among infra, shop has env",
        ),
        ({"from_ips": ["10.96.0.10"]}, "10.96.0.10 is service infra/dns, and a service sends noth"),
    ],
)
def test_what_does_not_exist_or_selects_nothing_is_refused_with_the_nearest(
    flags: ScopeFlags, message: str
) -> None:
    with pytest.raises(ScopeError) as caught:
        pairs(from_flags(**flags))
    assert message in str(caught.value)


def test_a_message_counts_many_namespaces_instead_of_listing_them() -> None:
    many = ClusterState(
        source="test",
        pods=STATE.pods,
        nodes=(),
        services=(),
        namespaces=MappingProxyType({**STATE.namespaces, **{f"n{i}": () for i in range(9)}}),
        policies=(),
        zones=MappingProxyType({}),
    )
    with pytest.raises(ScopeError, match="no pod in the 12 namespaces in scope has app=zzz"):
        pairs(from_flags(namespace_selector="!env", selector="app=zzz"), many)


def test_the_outside_is_beside_what_has_no_ends_of_its_own() -> None:
    """Rows and columns, and no cell from outside to outside."""
    world = "external 0.0.0.0/0"
    sides = sources_and_destinations(STATE, Scope(to_ips=("all",)))
    assert world in {sides.endpoints[i].key for i in sides.destinations}
    assert world not in {sides.endpoints[i].key for i in sides.sources}
    both = sources_and_destinations(dataclasses.replace(STATE, gateways={}), Scope(), outside=True)
    for block in both.blocks:
        rows = {both.endpoints[i].key for i in block.sources}
        columns = {both.endpoints[i].key for i in block.destinations}
        assert not (world in rows and world in columns)
    named = Scope(from_nodes=("n1",), to_nodes=("n2",))
    sides = sources_and_destinations(STATE, named, outside=True)
    assert {e.kind for e in sides.endpoints} == {EndpointKind.NODE}


def test_the_outside_to_itself_is_no_matrix() -> None:
    with pytest.raises(ScopeError, match="both sides are ranges outside"):
        sources_and_destinations(STATE, Scope(from_ips=("all",), to_ips=("10.0.0.0/8",)))


def test_a_range_enters_by_every_gateway_and_its_address_is_nobodys() -> None:
    sides = sources_and_destinations(STATE, Scope(from_ips=("all",), to_nodes=("n1",)))
    rows = [sides.endpoints[i] for i in sides.sources]
    assert {row.node for row in rows} == set(STATE.gateways)
    taken = {a for end in (*STATE.pods, *STATE.nodes) for a in end.addresses}
    assert not taken & {a for row in rows for a in row.addresses}
    assert all(row.attachment and row.attachment.addresses == row.addresses for row in rows)
