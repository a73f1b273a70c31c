"""Selectors mean what they mean to kubectl."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ScopeError
from audit.model.selectors import (
    EVERYTHING,
    MAX_NAME,
    MAX_PREFIX,
    Operator,
    Requirement,
    Selector,
)
from audit.scope.selectors import SelectorError, from_object, parse

KEYS = ("app", "tier", "in", "notin", "example.com/part-of")
VALUES = ("", "web", "db", "in", "7", "12")
Condition = tuple[str, str, tuple[str, ...]]

conditions = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["", "!"]), st.just(())),
    st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from(["=", "==", "!="]),
        st.tuples(st.sampled_from(VALUES)),
    ),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["<", ">"]), st.tuples(st.just("9"))),
    st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from(["in", "notin"]),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(tuple),
    ),
)
label_sets = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
spaces = st.sampled_from(["", " ", "  ", "\t", "\n"])

labels_keys = st.from_regex(
    r"([a-z]{1,3}(\.[a-z]{1,3})?/)?[A-Za-z0-9]([-A-Za-z0-9_.]?[a-z])?", fullmatch=True
)
labels_values = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,3}[A-Za-z0-9])?)?", fullmatch=True)
requirements = st.one_of(
    st.builds(
        Requirement,
        key=labels_keys,
        operator=st.sampled_from([Operator.IN, Operator.NOT_IN]),
        values=st.lists(labels_values, min_size=1, max_size=4).map(tuple),
    ),
    st.builds(
        Requirement,
        key=labels_keys,
        operator=st.sampled_from([Operator.EXISTS, Operator.NOT_EXISTS]),
    ),
    st.builds(
        Requirement,
        key=labels_keys,
        operator=st.sampled_from([Operator.GREATER, Operator.LESS]),
        values=st.integers(0, 2**63 - 1).map(lambda number: (str(number),)),
    ),
)
selectors = st.builds(Selector, requirements=st.lists(requirements, max_size=4).map(tuple))


def holds(condition: Condition, labels: dict[str, str]) -> bool:
    """Judge one condition as the Kubernetes documentation words it."""
    key, operator, values = condition
    if operator in {"", "!"}:
        return (key in labels) == (operator == "")
    if operator in {"<", ">"}:
        if key not in labels or not labels[key].isdecimal():
            return False
        return int(labels[key]) < 9 if operator == "<" else int(labels[key]) > 9
    if key not in labels:
        return operator in {"!=", "notin"}
    return (labels[key] in values) == (operator in {"=", "==", "in"})


def spelled(condition: Condition, space: str) -> str:
    key, operator, values = condition
    if operator in {"", "!"}:
        return f"{space}{operator}{space}{key}{space}"
    if operator in {"in", "notin"}:
        # kubectl reads `()` as no value at all and `(,)` as the empty one.
        inside = f"{space},{space}".join(values) or ","
        return f"{space}{key} {operator}{space}({space}{inside}{space}){space}"
    return f"{space}{key}{space}{operator}{space}{values[0]}{space}"


@given(st.lists(conditions, max_size=4), label_sets, spaces)
def test_every_selector_selects_what_its_conditions_select_one_by_one(
    asked: list[Condition], labels: dict[str, str], space: str
) -> None:
    selector = parse(",".join(spelled(condition, space) for condition in asked))
    assert selector.matches(labels) == all(holds(condition, labels) for condition in asked)


@given(selectors)
def test_a_selector_written_out_parses_to_itself(selector: Selector) -> None:
    assert parse(str(selector)) == selector


@given(st.text(alphabet="ab/in(),=!<>. 7", max_size=12))
def test_any_text_is_a_selector_or_a_scope_error(text: str) -> None:
    try:
        selector = parse(text)
    except ScopeError as error:
        message = str(error)
    else:
        message = repr(text)
        assert parse(str(selector)) == selector
    assert repr(text) in message


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_selector_is_everything(text: str) -> None:
    assert parse(text) == EVERYTHING
    assert parse(text).matches({})


def test_equals_and_double_equals_and_a_set_of_one_are_the_same() -> None:
    assert parse("app=web") == parse("app==web") == parse("app in (web)")
    assert parse("app!=web") == parse("app notin (web)")


@pytest.mark.parametrize("text", ["app!=web", "app notin (web, db)", "!app"])
def test_the_negative_operators_also_match_objects_without_the_key(text: str) -> None:
    assert parse(text).matches({})
    assert not parse(text).matches({"app": "web"})


def test_a_value_may_be_empty_as_kubectl_allows() -> None:
    assert parse("app=").matches({"app": ""})
    assert not parse("app=").matches({})
    assert parse("app=,tier").matches({"app": "", "tier": "x"})
    assert parse("app in (,web)").matches({"app": ""})


def test_greater_and_less_compare_integers_and_miss_what_is_none() -> None:
    assert parse("build>9").matches({"build": "10"})
    assert parse("build<9").matches({"build": "008"})
    for held in ("x", "", "9", "99999999999999999999"):
        assert not parse("build>9").matches({"build": held})
    assert not parse("build<9").matches({})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app in (web", "expected ',' or ')' after character 11"),
        ("app in web)", "expected '(' at character 8, found 'web'"),
        ("app in", "expected '(' after character 6"),
        ("app in ()", "expected a label value at character 9, found ')'"),
        ("app in (", "expected a label value after character 8"),
        ("app in (a b)", "expected ',' or ')' at character 11, found 'b'"),
        ("app in (a,=)", "expected a label value at character 11, found '='"),
        ("app=web,", "expected a label key or '!' after character 8"),
        (",app=web", "expected a label key or '!' at character 1, found ','"),
        ("=web", "expected a label key or '!' at character 1, found '='"),
        ("!", "expected a label key after character 1"),
        ("!app=web", "expected ',' or the end at character 5, found '='"),
        ("app=web tier=db", "expected ',' or the end at character 9, found 'tier'"),
        ("app is web", "expected ',', '=', '==', '!=', '<', '>', 'in' or 'notin' at character 5"),
        ("app===web", "expected a label value at character 6, found '='"),
        ("app=(web)", "expected a label value at character 5, found '('"),
        ("build>", "expected an integer after character 6"),
        ("build>x", "'x' is not an integer that '<' and '>' can compare with, at character 7"),
        ("tier,app=-web", "label value '-web' is not at most 63 letters"),
        ("a/b/c=d", "label key 'a/b/c' has a prefix that is not a DNS name"),
        ("/app", "label key '/app' has a prefix that is not a DNS name"),
        ("App.io/x", "label key 'App.io/x' has a prefix that is not a DNS name"),
        ("example.com/", "label key 'example.com/' is not 1 to 63 letters"),
        ("-app", "label key '-app' is not 1 to 63 letters"),
        ("été=x", "label key 'été' is not 1 to 63 letters"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"selector {text!r}: ")
    assert expected in str(caught.value)


def test_keys_and_values_have_the_lengths_kubernetes_allows() -> None:
    name, prefix = "a" * MAX_NAME, "a" * MAX_PREFIX
    assert parse(f"{prefix}/{name}={name}").matches({f"{prefix}/{name}": name})
    for text in (f"a{name}", f"{prefix}a/{name}", f"app=a{name}"):
        with pytest.raises(ScopeError):
            parse(text)


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        (Operator.IN, ()),
        (Operator.EXISTS, ("a",)),
        (Operator.LESS, ()),
        (Operator.LESS, ("1", "2")),
        (Operator.GREATER, ("x",)),
        (Operator.IN, ("a b",)),
    ],
)
def test_a_requirement_refuses_values_its_operator_cannot_have(
    operator: Operator, values: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"needs|no values|label value"):
        Requirement(key="app", operator=operator, values=values)


def test_a_selector_object_says_the_same_as_text() -> None:
    selector = from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "env", "operator": "NotIn", "values": ["dev"]},
                {"key": "owner", "operator": "Exists"},
                {"key": "old", "operator": "DoesNotExist", "values": []},
            ],
        }
    )
    assert selector == parse("app=web,tier in (a,b),env notin (dev),owner,!old")


@pytest.mark.parametrize(
    "empty", [{}, {"matchLabels": {}}, {"matchLabels": None, "matchExpressions": None}]
)
def test_an_empty_selector_object_is_everything(empty: object) -> None:
    assert from_object(empty) == EVERYTHING


@pytest.mark.parametrize(
    ("selector", "path", "expected"),
    [
        ([], (), "expected a selector to be a mapping"),
        ({"matchLabel": {}}, ("matchLabel",), "did you mean matchLabels?"),
        ({"matchLabels": "a"}, ("matchLabels",), "expected matchLabels to be a mapping"),
        ({"matchLabels": {"a": True}}, ("matchLabels", "a"), "quote it"),
        ({"matchLabels": {1: "a"}}, ("matchLabels",), "expected a string as key, got 1"),
        ({"matchLabels": {"a b": "c"}}, ("matchLabels", "a b"), "label key 'a b'"),
        ({"matchExpressions": {}}, ("matchExpressions",), "expected a list"),
        ({"matchExpressions": [1]}, ("matchExpressions", 0), "expected an expression"),
        ({"matchExpressions": [{"key": "a"}]}, ("matchExpressions", 0), "needs 'operator'"),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exist"}]},
            ("matchExpressions", 0, "operator"),
            "did you mean Exists?",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "In"}]},
            ("matchExpressions", 0),
            "operator In needs values",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            ("matchExpressions", 0, "values"),
            "operator Exists takes no values",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]},
            ("matchExpressions", 0, "values", 0),
            "expected a label value as a string, got 1",
        ),
    ],
)
def test_a_mistake_in_an_object_is_named_with_the_path_to_it(
    selector: object, path: tuple[str | int, ...], expected: str
) -> None:
    with pytest.raises(SelectorError) as caught:
        from_object(selector)
    assert caught.value.path == path
    assert expected in str(caught.value)
