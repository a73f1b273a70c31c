"""Expectations as a file spells them (docs/expectations.md), and the packs that come along.

A file is read from YAML nodes rather than from loaded values, so that every complaint names line
and column.
"""

import datetime as dt
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any, NoReturn, TypeVar

import yaml

from audit.errors import ScopeError
from audit.model.endpoints import MAX_PORT, PING, EndpointKind, Port
from audit.model.expectations import (
    ALL,
    Exemption,
    Expect,
    Expectation,
    Side,
    Waiver,
    Where,
)
from audit.model.options import PACKS
from audit.model.packets import Protocol
from audit.model.selectors import Selector
from audit.model.verdicts import PolicyRef
from audit.scope import located, selectors
from audit.scope.selectors import SelectorError
from audit.scope.suggestions import did_you_mean

_KINDS = {
    kind.lower(): kind
    for kind in (
        "NetworkPolicy",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "ClusterNetworkPolicy",
        "EgressFirewall",
    )
}
_T = TypeVar("_T")
_D = TypeVar("_D")

_PORT = re.compile(r"(tcp|udp|sctp)(?:/([0-9]{1,5})(?:-([0-9]{1,5}))?)?")
_NAMED = re.compile(r"[^/\s]+/[^/\s]+(/[^/\s]+)?")


def pack(name: str) -> tuple[Expectation, ...]:
    """Return a ready-made pack; ScopeError when there is none of that name."""
    if name not in PACKS:
        raise ScopeError(
            f"{name!r} is no pack; there are {', '.join(PACKS)}{did_you_mean(name, PACKS)}"
        )
    file = resources.files("audit.scope") / "packs" / f"{name}.yaml"
    return parse(file.read_text(encoding="utf-8"), f"pack {name}")[0]


def waived(
    expectations: Sequence[Expectation], waivers: Sequence[Waiver]
) -> tuple[Expectation, ...]:
    """Return the expectations with the waivers that are for them.

    ScopeError where a waiver is for one that neither is among them nor in any pack.
    """
    names = {expectation.name for expectation in expectations}
    packed = {expectation.name for name in PACKS for expectation in pack(name)}
    unknown = [n for w in waivers for n in w.names if n not in names | packed]
    if unknown:
        raise ScopeError(
            f"a waiver is for {unknown[0]!r}, and no expectation is called so"
            f"{did_you_mean(unknown[0], tuple(sorted(names | packed)))}"
        )
    return tuple(
        replace(e, waivers=tuple(w for w in waivers if e.name in w.names)) for e in expectations
    )


def parse(text: str, name: str) -> tuple[tuple[Expectation, ...], tuple[Waiver, ...]]:
    """Return the expectations and waivers of `text`, the YAML of the file called `name`.

    ScopeError names the line and column of what is wrong.
    """
    root = located.compose(text, name)
    if root is None:
        raise ScopeError(f"{name} is empty; write `expectations:` or `waivers:` and a list")
    return _File(name).file(root)


def dump(expectations: Sequence[Expectation]) -> str:
    """Return a file that `parse` reads as these expectations, without exceptions or selectors.

    A name that two of them have gets a number.
    """
    names: Counter[str] = Counter()
    listed = []
    for expectation in expectations:
        names[expectation.name] += 1
        number = f" ({names[expectation.name]})" if names[expectation.name] > 1 else ""
        fields: dict[str, object] = {"name": f"{expectation.name}{number}"}
        for key, side in (("from", expectation.src), ("to", expectation.dst)):
            if side != ALL:
                fields[key] = _spelled(side)
        if expectation.ports:
            fields["ports"] = [str(port) for port in expectation.ports]
        listed.append({**fields, "expect": str(expectation.expect)})
    return yaml.safe_dump(
        {"expectations": listed}, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


def _spelled(side: Side) -> dict[str, list[str]]:
    named = {
        "kinds": side.kinds,
        "namespaces": side.namespaces,
        "workloads": side.workloads,
        "names": side.names,
        "nodes": side.nodes,
        "ips": side.addresses,
    }
    return {key: list(map(str, values)) for key, values in named.items() if values}


class _File:
    """One file: nodes in, expectations or a message with a position out."""

    def __init__(self, name: str) -> None:
        self._name = name

    def file(self, root: yaml.Node) -> tuple[tuple[Expectation, ...], tuple[Waiver, ...]]:
        """Read the whole file."""
        keys = ("expectations", "waivers")
        fields = self._fields(root, "a file of expectations", keys, ())
        if not fields:
            self._fail("a file of expectations needs 'expectations' or 'waivers'", root)
        return (
            _given(fields, "expectations", self._expectations, ()),
            _given(fields, "waivers", self._waivers, ()),
        )

    def _expectations(self, node: yaml.Node) -> tuple[Expectation, ...]:
        expectations: dict[str, Expectation] = {}
        for item in self._items(node):
            expectation = self._expectation(item)
            if expectation.name in expectations:
                self._fail(f"there are two expectations called {expectation.name!r}", item)
            expectations[expectation.name] = expectation
        return tuple(expectations.values())

    def _expectation(self, node: yaml.Node) -> Expectation:
        keys = ("name", "description", "from", "to", "ports", "where", "expect", "by", "except")
        more = ("controls", "needs")
        fields = self._fields(node, "an expectation", (*keys, *more), ("name", "expect"))
        expect = self._choice(fields["expect"], Expect)
        by, by_policy = _given(fields, "by", self._by, (None, False))
        if expect is Expect.ANY and not (by or by_policy):
            self._fail("expect: any is met by everything that is proven; say `by` what", node)
        return Expectation(
            name=self._text(fields["name"]),
            description=_given(fields, "description", self._text, ""),
            controls=_given(fields, "controls", self._texts, ()),
            needs=_given(fields, "needs", self._text, ""),
            expect=expect,
            src=_given(fields, "from", self._side, ALL),
            dst=_given(fields, "to", self._side, ALL),
            ports=_given(fields, "ports", self._ports, ()),
            where=_given(fields, "where", self._where, Where.ANYWHERE),
            by=by,
            by_policy=by_policy,
            exemptions=_given(fields, "except", self._exemptions, ()),
        )

    def _exemptions(self, node: yaml.Node) -> tuple[Exemption, ...]:
        return tuple(map(self._exemption, self._items(node)))

    def _exemption(self, node: yaml.Node) -> Exemption:
        keys = ("from", "to", "ports", "reason", "owner", "expires")
        fields = self._fields(node, "an exception", keys, ("reason",))
        if not fields.keys() & {"from", "to", "ports"}:
            self._fail("an exception without from, to or ports would except everything", node)
        return Exemption(
            reason=self._text(fields["reason"]),
            owner=_given(fields, "owner", self._text, ""),
            expires=_given(fields, "expires", self._date, None),
            src=_given(fields, "from", self._side, ALL),
            dst=_given(fields, "to", self._side, ALL),
            ports=_given(fields, "ports", self._ports, ()),
        )

    def _waivers(self, node: yaml.Node) -> tuple[Waiver, ...]:
        return tuple(map(self._waiver, self._items(node)))

    def _waiver(self, node: yaml.Node) -> Waiver:
        needed = ("for", "reason", "owner", "expires")
        fields = self._fields(node, "a waiver", (*needed, "from", "to", "ports"), needed)
        if not fields.keys() & {"from", "to", "ports"}:
            self._fail("a waiver without from, to or ports would accept everything", node)
        return Waiver(
            names=self._texts(fields["for"]),
            reason=self._text(fields["reason"]),
            owner=self._text(fields["owner"]),
            expires=self._date(fields["expires"]),
            src=_given(fields, "from", self._side, ALL),
            dst=_given(fields, "to", self._side, ALL),
            ports=_given(fields, "ports", self._ports, ()),
        )

    def _texts(self, node: yaml.Node) -> tuple[str, ...]:
        return self._list(node, str)

    def _ports(self, node: yaml.Node) -> tuple[Port, ...]:
        return self._list(node, _port)

    def _where(self, node: yaml.Node) -> Where:
        return Where(self._choice(node, Where))

    def _side(self, node: yaml.Node) -> Side:
        lists: dict[str, tuple[str, Callable[[str], Any]]] = {
            "kinds": ("kinds", _kind),
            "namespaces": ("namespaces", str),
            "workloads": ("workloads", _named),
            "names": ("names", _named),
            "nodes": ("nodes", str),
            "ips": ("addresses", _network),
        }
        single = {"selector": "selector", "namespaceSelector": "namespace_selector"}
        fields = self._fields(node, "a side", (*lists, *single), ())
        values: dict[str, Any] = {}
        for key, value in fields.items():
            if key in lists:
                field, read = lists[key]
                values[field] = self._list(value, read)
            else:
                values[single[key]] = self._selector(value)
        return Side(**values)

    def _by(self, node: yaml.Node) -> tuple[PolicyRef | None, bool]:
        text = self._text(node)
        if text == "policy":
            return None, True
        kind, _, rest = text.partition(" ")
        namespace, slash, name = rest.partition("/")
        if kind.lower() not in _KINDS or not rest or (slash and not name):
            self._fail(
                "expected `policy` for any, or a kind and a name, as in "
                "`networkpolicy shop/default-deny`",
                node,
            )
        if not slash:
            namespace, name = "", rest
        return PolicyRef(kind=_KINDS[kind.lower()], namespace=namespace, name=name), False

    def _date(self, node: yaml.Node) -> dt.date:
        text = self._scalar(node)
        try:
            return dt.date.fromisoformat(text)
        except ValueError:
            self._fail(f"{text!r} is not a date, as in 2027-01-31", node)

    def _choice(self, node: yaml.Node, choices: type[Any]) -> Any:  # noqa: ANN401 - an enum's
        text = self._text(node)
        words = [str(choice) for choice in choices]
        if text not in words:
            self._fail(
                f"expected one of {', '.join(words)}, got {text!r}{did_you_mean(text, words)}", node
            )
        return choices(text)

    def _list(self, node: yaml.Node, read: Callable[[str], Any]) -> tuple[Any, ...]:
        values = []
        for item in self._items(node):
            try:
                values.append(read(self._text(item)))
            except ValueError as error:
                self._fail(str(error), item)
        return tuple(dict.fromkeys(values))

    def _selector(self, node: yaml.Node) -> Selector:
        if isinstance(node, yaml.MappingNode):
            return located.selector(self._name, node)
        try:
            return selectors.parse(self._text(node))
        except SelectorError as error:
            self._fail(str(error), node)

    def _fields(
        self, node: yaml.Node, what: str, keys: tuple[str, ...], needed: tuple[str, ...]
    ) -> Mapping[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(f"expected {what} to be a mapping", node)
        fields: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self._scalar(key_node)
            if key not in keys:
                hint = did_you_mean(key, keys) or f"; expected one of {', '.join(keys)}"
                self._fail(f"unknown key {key!r}{hint}", key_node)
            if key in fields:
                self._fail(f"{key!r} is given twice", key_node)
            fields[key] = value
        for key in needed:
            if key not in fields:
                self._fail(f"{what} needs {key!r}", node)
        return fields

    def _items(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail("expected a list", node)
        if not node.value:
            self._fail("the list is empty; leave it out", node)
        return list(node.value)

    def _text(self, node: yaml.Node) -> str:
        text = self._scalar(node)
        if node.tag != "tag:yaml.org,2002:str":
            self._fail(f"expected a string, got {text!r}; quote it", node)
        if not text:
            self._fail("expected a string that is not empty", node)
        return text

    def _scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fail("expected a string", node)
        return str(node.value)

    def _fail(self, message: str, node: yaml.Node) -> NoReturn:
        located.fail(self._name, message, node)


def _given(
    fields: Mapping[str, yaml.Node], key: str, read: Callable[[yaml.Node], _T], default: _D
) -> _T | _D:
    return read(fields[key]) if key in fields else default


def _port(text: str) -> Port:
    """Return `tcp/80`, `tcp/8000-8100`, or a whole protocol for `tcp`."""
    if text == str(PING):
        return PING
    match = _PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no port; write tcp/80, tcp/8000-8100, tcp for all, or icmp")
    if match[2] is None:
        return Port(protocol=Protocol(match[1]), number=0, last=MAX_PORT)
    return Port.parse(text)


def _kind(text: str) -> EndpointKind:
    kinds = [str(kind) for kind in EndpointKind]
    if text not in kinds:
        raise ValueError(f"{text!r} is none of {', '.join(kinds)}{did_you_mean(text, kinds)}")
    return EndpointKind(text)


def _named(text: str) -> str:
    if not _NAMED.fullmatch(text):
        raise ValueError(f"{text!r} is not namespace/name, or kind/namespace/name of what leads in")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is neither an address nor a network") from None
