"""A scope says the same as flags and as a file, and says where it is wrong."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ExitCode, ScopeError
from audit.model.packets import Family
from audit.model.selectors import EVERYTHING, Selector
from audit.scope.ports import DECLARED, PortName, PortRange
from audit.scope.ports import parse as parse_port
from audit.scope.scope import OPTIONS, FamilyChoice, Scope, from_flags, parse_scope_file
from audit.scope.selectors import parse as parse_selector

PAGE = Path(__file__).parents[2] / "docs" / "scope.md"

some_names = st.lists(st.sampled_from(["shop", "kube-system", "n1"]), unique=True).map(tuple)
some_selectors = st.sampled_from(["", "app=web", "a in (b,c),!d", "x>5"]).map(parse_selector)
side_selectors = st.none() | some_selectors
some_ips = st.lists(st.sampled_from(["198.51.100.7", "2001:db8::1"]), unique=True).map(tuple)
some_services = st.lists(st.sampled_from(["shop/web", "shop/*"]), unique=True).map(tuple)
some_ports = st.lists(
    st.sampled_from(["tcp/80", "udp/1-9", "http", "declared"]).map(parse_port),
    unique=True,
    min_size=1,
).map(tuple)


def possible(**values: object) -> Scope | None:
    try:
        return Scope(**values)  # type: ignore[arg-type]
    except ScopeError:
        return None


scopes = st.builds(
    possible,
    namespaces=some_names,
    selector=some_selectors,
    namespace_selector=some_selectors,
    with_peers=st.booleans(),
    from_namespaces=some_names,
    from_selector=side_selectors,
    from_nodes=some_names,
    from_ips=some_ips,
    to_namespaces=some_names,
    to_selector=side_selectors,
    to_nodes=some_names,
    to_services=some_services,
    to_ips=some_ips,
    ports=some_ports,
    family=st.sampled_from(FamilyChoice),
)


@given(scopes)
def test_a_described_scope_is_a_scope_file_that_says_the_same(scope: Scope | None) -> None:
    if scope is not None:
        assert parse_scope_file(json.dumps(scope.describe()), "run.json") == scope


def test_without_anything_a_scope_is_all_pods_declared_ports_and_ip4() -> None:
    assert from_flags() == parse_scope_file("{}", "scope.yaml") == Scope()
    assert Scope().describe() == {"ports": ["declared"], "family": "ip4"}
    assert Scope().family.families == (Family.IP4,)
    assert FamilyChoice.BOTH.families == (Family.IP4, Family.IP6)


def test_flags_that_were_not_given_may_be_none_or_empty() -> None:
    assert from_flags(namespaces=(), selector=None, ports=[], family=None) == Scope()


def test_an_empty_selector_of_a_side_was_given_and_is_everything() -> None:
    scope = from_flags(to_selector="", to_services=["shop/web"])
    assert scope.to_selector == EVERYTHING
    assert scope.given("to_") == ("to_selector", "to_services")
    assert Scope().to_selector is None


def test_a_repeated_value_counts_once() -> None:
    assert from_flags(namespaces=["a", "b", "a"]).namespaces == ("a", "b")
    assert from_flags(to_ips=["2001:DB8::1", "2001:db8:0::1"], family="ip6").to_ips == (
        "2001:db8::1",
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"selector": "app in (web"}, "--selector: selector 'app in (web': expected ',' or ')'"),
        ({"ports": ["tpc/80"]}, "--port: port 'tpc/80': did you mean tcp/80?"),
        ({"to_ips": ["10.0.0"]}, "--to-ip: '10.0.0' is not an IP address"),
        ({"to_ips": ["10.0.0.1/8"]}, "has host bits set; write an address, a CIDR as"),
        ({"to_ips": ["224.0.0.1/32"]}, "not an address that a connection can be made to"),
        ({"from_ips": ["224.0.0.1"]}, "not an address that a connection can be made to"),
        ({"from_ips": ["fe80::1%eth0"]}, "not an address that a connection can be made to"),
        ({"to_services": ["web"]}, "--to-service: 'web' is not namespace/name"),
        ({"to_services": ["*/web"]}, "is not namespace/name"),
        ({"namespaces": ["Shop"]}, "--namespace: 'Shop' is not the name of a namespace"),
        ({"from_nodes": ["a b"]}, "--from-node: 'a b' is not the name of a node"),
        ({"family": "ipv6"}, "--family: expected ip4, ip6 or both, got 'ipv6'; did you mean ip6?"),
    ],
)
def test_a_flag_that_cannot_be_read_is_named(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ScopeError) as caught:
        from_flags(**flags)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"with_peers": True, "to_ips": ["1.2.3.4"]},
            "--with-peers makes everything else the other side; it contradicts --to-ip",
        ),
        (
            {"namespaces": ["a"], "from_namespaces": ["b"], "to_ips": ["1.2.3.4"]},
            "--namespace would apply to no side: --from-namespace and --to-ip",
        ),
        (
            {"to_ips": ["2001:db8::1"]},
            "--to-ip 2001:db8::1 is an ip6 address, and --family is ip4; ask for ip6 or both",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    flags: dict[str, object], message: str
) -> None:
    with pytest.raises(ScopeError) as caught:
        from_flags(**flags)  # type: ignore[arg-type]
    assert message in str(caught.value)


FILE = """\
namespaces: [shop]
namespaceSelector:
  matchLabels: {team: shop}
withPeers: true
ports: [80, http, udp/53]
family: both
"""


def test_a_file_and_flags_say_the_same() -> None:
    assert parse_scope_file(FILE, "scope.yaml") == from_flags(
        namespaces=["shop"],
        namespace_selector="team=shop",
        with_peers=True,
        ports=["80", "http", "udp/53"],
        family="both",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("namespace: [a]", "line 1, column 1: unknown key 'namespace'; did you mean namespaces?"),
        ("from:\n  ip: [a]", "line 2, column 3: unknown key 'ip'; did you mean ips?"),
        ("zzz: 1", "line 1, column 1: unknown key 'zzz'; expected one of family, from, namesp"),
        ("family: ip4\nfamily: ip6", "line 2, column 1: 'family' is given twice"),
        ("namespaces: shop", "line 1, column 13: expected a list, as in [a, b]"),
        ("namespaces: []", "line 1, column 13: namespaces is empty; leave it out"),
        ("namespaces:\n- a\n- 12", "line 3, column 3: expected a string; quote it"),
        ("ports: [80, true]", "line 1, column 13: expected a string; quote it"),
        ("ports:\n  - tcp/80\n  - tpc/81", "line 3, column 5: port 'tpc/81': did you mean"),
        ("withPeers: 1", "line 1, column 12: expected true or false"),
        ("family: [ip4]", "line 1, column 9: expected a string"),
        ("selector: [a]", "line 1, column 11: expected a selector"),
        ("selector: a in (", "line 1, column 11: selector 'a in (': expected a label value"),
        (
            "selector:\n  matchExpressions:\n  - key: a\n    operator: Inn",
            "line 4, column 15: expected one of In, NotIn, Exists, DoesNotExist, got 'Inn'",
        ),
        ("selector: {matchLabels: {a: 1}}", "line 1, column 29: expected a label value as a str"),
        ("selector: {? [a] : b}", "line 1, column 11"),
        ("selector: {? {a: b} : b}", "line 1, column 11"),
        ("selector: {matchLabels: {a: b, a: c}}", "line 1, column 32: 'a' is given twice"),
        ("from: [a]", "line 1, column 7: expected from to be a mapping"),
        ("- a", "line 1, column 1: expected a scope to be a mapping"),
        ("? [a]\n: b", "line 1, column 3: expected the name of an option"),
        (
            "withPeers: true\nto:\n  ips: [1.2.3.4]",
            "line 1, column 1: withPeers makes everything else the other side; it contradicts to.i",
        ),
        (
            "to:\n  ips: ['2001:db8::1']",
            "line 2, column 3: to.ips 2001:db8::1 is an ip6 address, and family is ip4",
        ),
        ("a: b: c", "line 1, column 5: not YAML: mapping values are not allowed here"),
        ("{}\n---\n{}", "line 2, column 1: not YAML: but found another document"),
        ("ports: *x", "line 1, column 8: not YAML: found undefined alias 'x'"),
        ("a\x00b", "not YAML"),
        ("", "is empty; write {} for the whole cluster"),
        ("# nothing", "is empty"),
        ("[" * 1500, "nested too deeply"),
        ("selector: &a {matchLabels: *a}", "line 1, column 11"),
        ("selector: !!python/object:os.system {}", "line 1, column 11"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_line_and_column(text: str, message: str) -> None:
    with pytest.raises(ScopeError) as caught:
        parse_scope_file(text, "scope.yaml")
    assert str(caught.value).startswith("scope.yaml")
    assert message in str(caught.value)


@given(st.text(alphabet="abfromt: \n-[]{}&*'\"?!|>#0", max_size=40))
def test_any_text_is_a_scope_or_a_scope_error(text: str) -> None:
    message = "scope.yaml"
    try:
        parse_scope_file(text, "scope.yaml")
    except ScopeError as error:
        message = str(error)
    assert message.startswith("scope.yaml")


def test_the_page_has_an_example_that_is_a_scope() -> None:
    page = PAGE.read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert examples
    parsed = [parse_scope_file(example, "docs/scope.md") for example in examples]
    assert isinstance(parsed[0].from_selector, Selector)
    assert {type(port) for port in parsed[0].ports} == {
        PortRange,
        PortName,
        type(DECLARED),
    }


def test_the_page_names_every_flag_and_every_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for option in OPTIONS:
        row = [line for line in rows if f"`{option.flag}`" in line.split("|")[1]]
        assert len(row) == 1, option.flag
        assert f"`{'.'.join(option.key)}`" in row[0].split("|")[2]
