"""Label selectors, as kubectl parses them and as Kubernetes objects spell them.

The text form is kubectl's `-l`, with the grammar of `labels.Parse` in Kubernetes' apimachinery:

    selector    ::= "" | requirement { "," requirement }
    requirement ::= "!" KEY
                  | KEY
                  | KEY ( "=" | "==" | "!=" ) [ VALUE ]
                  | KEY ( ">" | "<" ) INTEGER
                  | KEY ( "in" | "notin" ) "(" [ VALUE ] { "," [ VALUE ] } ")"

The object form is `matchLabels` and `matchExpressions`. Both become a Selector, and a Selector
written out with `str` parses to itself. What surprises people is kept: `!=` and `notin` also match
objects that lack the key, `app=` is the empty value, a key may be called `in`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from audit.errors import ScopeError
from audit.model.selectors import (
    EVERYTHING,
    ORDERS,
    SETS,
    Operator,
    Requirement,
    Selector,
    integer,
    key_problem,
    value_problem,
)
from audit.scope.suggestions import did_you_mean

Path = tuple[str | int, ...]

_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+)")
_SYMBOLS = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">"})


class SelectorError(ScopeError):
    """A selector cannot be used as written; `path` leads to the culprit in an object's form."""

    def __init__(self, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.path = path


_TEXT_OPERATORS = {
    "=": Operator.IN,
    "==": Operator.IN,
    "!=": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
    "in": Operator.IN,
    "notin": Operator.NOT_IN,
}
_OBJECT_OPERATORS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.NOT_EXISTS,
}


def parse(text: str) -> Selector:
    """Return the selector `text` spells; SelectorError says what was expected and where.

    Characters are counted from 1.
    """
    return _Parser(text).selector()


class _Parser:
    """Reads tokens from left to right; a word is an operator only where one may stand."""

    def __init__(self, text: str) -> None:
        self._text = text
        matches = _TOKEN.finditer(text)
        self._tokens = [(token[1], token.start(1)) for token in matches]
        self._next = 0

    def selector(self) -> Selector:
        if not self._tokens:
            return EVERYTHING
        requirements = [self._requirement()]
        while self._peek() == ",":
            self._next += 1
            requirements.append(self._requirement())
        if self._peek():
            self._fail("',' or the end")
        return Selector(requirements=tuple(requirements))

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _fail(self, expected: str) -> NoReturn:
        if token := self._peek():
            where = f"at character {self._tokens[self._next][1] + 1}, found {token!r}"
        else:
            where = f"after character {len(self._text)}"
        raise SelectorError(f"selector {self._text!r}: expected {expected} {where}")

    def _reject(self, problem: str) -> NoReturn:
        """Refuse the token just read."""
        position = self._tokens[self._next - 1][1] + 1
        raise SelectorError(f"selector {self._text!r}: {problem}, at character {position}")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next += 1
            return Requirement(key=self._key("a label key"), operator=Operator.NOT_EXISTS)
        key = self._key("a label key or '!'")
        if self._peek() in {"", ","}:
            return Requirement(key=key, operator=Operator.EXISTS)
        word = self._peek()
        operator = _TEXT_OPERATORS.get(word)
        if operator is None:
            self._fail("',', '=', '==', '!=', '<', '>', 'in' or 'notin'")
        self._next += 1
        if word in SETS:
            values = self._values()
        elif operator in ORDERS:
            values = (self._bound(),)
        else:
            values = (self._optional_value({"", ","}),)
        return Requirement(key=key, operator=operator, values=values)

    def _key(self, expected: str) -> str:
        key = self._peek()
        if not key or key in _SYMBOLS:
            self._fail(expected)
        self._next += 1
        if problem := key_problem(key):
            self._reject(problem)
        return key

    def _optional_value(self, absent_before: set[str]) -> str:
        value = self._peek()
        if value in absent_before:
            return ""
        if value in _SYMBOLS:
            self._fail("a label value")
        self._next += 1
        if problem := value_problem(value):
            self._reject(problem)
        return value

    def _bound(self) -> str:
        value = self._peek()
        if not value or value in _SYMBOLS:
            self._fail("an integer")
        self._next += 1
        if integer(value) is None or value_problem(value):
            self._reject(f"{value!r} is not an integer that '<' and '>' can compare with")
        return value

    def _values(self) -> tuple[str, ...]:
        if self._peek() != "(":
            self._fail("'('")
        self._next += 1
        if self._peek() in {"", ")"}:
            self._fail("a label value")
        values = [self._optional_value({","})]
        while self._peek() == ",":
            self._next += 1
            values.append(self._optional_value({"", ",", ")"}))
        if self._peek() != ")":
            self._fail("',' or ')'")
        self._next += 1
        return tuple(values)


def from_object(selector: object) -> Selector:
    """Return the selector a Kubernetes LabelSelector object spells.

    For example `{"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator":
    "In", "values": ["a", "b"]}]}`; `{}` is everything. SelectorError carries the path to what is
    wrong.
    """
    fields = _mapping(selector, (), "a selector", ("matchLabels", "matchExpressions"))
    labels = _mapping(_given(fields, "matchLabels", {}), ("matchLabels",), "matchLabels")
    expressions = _sequence(_given(fields, "matchExpressions", []), ("matchExpressions",))
    requirements = [
        _from_label(key, value, ("matchLabels", key)) for key, value in labels.items()
    ] + [
        _from_expression(expression, ("matchExpressions", index))
        for index, expression in enumerate(expressions)
    ]
    return Selector(requirements=tuple(requirements))


def _from_label(key: str, value: object, path: Path) -> Requirement:
    return _checked(key, Operator.IN, (_string(value, path, "a label value"),), path)


def _from_expression(expression: object, path: Path) -> Requirement:
    fields = _mapping(expression, path, "an expression", ("key", "operator", "values"))
    for required in ("key", "operator"):
        if required not in fields:
            raise SelectorError(f"an expression needs {required!r}", path)
    key = _string(fields["key"], (*path, "key"), "a label key")
    word = _string(fields["operator"], (*path, "operator"), "an operator")
    operator = _OBJECT_OPERATORS.get(word)
    if operator is None:
        raise SelectorError(
            f"expected one of {', '.join(_OBJECT_OPERATORS)}, got {word!r}"
            + did_you_mean(word, _OBJECT_OPERATORS),
            (*path, "operator"),
        )
    where = (*path, "values")
    values = tuple(
        _string(value, (*where, index), "a label value")
        for index, value in enumerate(_sequence(_given(fields, "values", []), where))
    )
    if bool(values) != (operator in SETS):
        verb = "needs" if operator in SETS else "takes no"
        raise SelectorError(f"operator {word} {verb} values", where if values else path)
    return _checked(key, operator, values, path)


def _checked(key: str, operator: Operator, values: tuple[str, ...], path: Path) -> Requirement:
    try:
        return Requirement(key=key, operator=operator, values=values)
    except ValueError as error:
        raise SelectorError(str(error), path) from None


def _given(fields: Mapping[str, object], key: str, default: object) -> object:
    """Read a field as Kubernetes does: null is the same as absent."""
    value = fields.get(key)
    return default if value is None else value


def _mapping(
    value: object, path: Path, what: str, keys: tuple[str, ...] | None = None
) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise SelectorError(f"expected {what} to be a mapping, got {value!r}", path)
    for key in value:
        if not isinstance(key, str):
            raise SelectorError(f"expected a string as key, got {key!r}; quote it", path)
        if keys is not None and key not in keys:
            raise SelectorError(f"unknown key {key!r}{did_you_mean(key, keys)}", (*path, key))
    return value


def _sequence(value: object, path: Path) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise SelectorError(f"expected a list, got {value!r}", path)
    return value


def _string(value: object, path: Path, what: str) -> str:
    if not isinstance(value, str):
        raise SelectorError(f"expected {what} as a string, got {value!r}; quote it", path)
    return value
