"""The scope: which rows, columns and ports an audit is about, as flags or as a file.

Both spellings meet in one frozen Scope. OPTIONS is the one list of what a scope can say: the flag,
the key in the file, and how its text is read. A file is read from YAML nodes rather than from
loaded values, because a message that does not name line and column is no help in a long file.

What a Scope selects in a given cluster is decided in `audit.scope.expand`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, TypedDict, Unpack, assert_never

import yaml

from audit.errors import ScopeError
from audit.model.packets import Family
from audit.model.selectors import EVERYTHING, Selector
from audit.scope import located, names, selectors
from audit.scope.ports import DECLARED, PortSpec
from audit.scope.ports import parse as parse_port
from audit.scope.suggestions import did_you_mean


class FamilyChoice(StrEnum):
    """Which address families to ask about; `both` is every family the two ends share."""

    IP4 = "ip4"
    IP6 = "ip6"
    BOTH = "both"

    @property
    def families(self) -> tuple[Family, ...]:
        """The families this choice asks about."""
        return tuple(Family) if self is FamilyChoice.BOTH else (Family(self.value),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to audit. Made by `from_flags` or `parse_scope_file`; contradictions are ScopeError.

    `namespaces`, `selector` and `namespace_selector` apply to both sides. A side selector of None
    was not given; EVERYTHING was, and means all pods.
    """

    namespaces: tuple[str, ...] = ()
    selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    networks: tuple[str, ...] = ()
    """Networks by which pods send and are reached; none means all of them."""
    with_peers: bool = False
    from_namespaces: tuple[str, ...] = ()
    from_selector: Selector | None = None
    from_nodes: tuple[str, ...] = ()
    from_ips: tuple[str, ...] = ()
    """Addresses, CIDRs, or `all`: the outside as ranges."""
    from_endpoints: tuple[str, ...] = ()
    """Words for endpoints, as `audit.scope.named` reads them."""
    to_namespaces: tuple[str, ...] = ()
    to_selector: Selector | None = None
    to_nodes: tuple[str, ...] = ()
    to_services: tuple[str, ...] = ()
    """`namespace/name`, `namespace/*` for all of a namespace, or `*/*` for all there are."""
    to_ips: tuple[str, ...] = ()
    to_endpoints: tuple[str, ...] = ()
    ports: tuple[PortSpec, ...] = (DECLARED,)
    family: FamilyChoice = FamilyChoice.IP4

    def __post_init__(self) -> None:
        for contradiction in _contradictions(self):
            raise contradiction

    def given(self, *prefixes: str) -> tuple[str, ...]:
        """Return the fields that were given and begin with one of `prefixes`, such as `from_`."""
        return tuple(
            field.name
            for field in dataclasses.fields(self)
            if field.name.startswith(prefixes) and getattr(self, field.name) != field.default
        )

    def describe(self) -> dict[str, object]:
        """Return what the scope says, as JSON values in the form of a scope file.

        Parsing it as a scope file gives an equal Scope. Ports and family are always named, the
        rest where it was given.
        """
        described: dict[str, object] = {}
        named = {*self.given(""), "ports", "family"}
        for option in OPTIONS:
            if option.field in named:
                section: Any = described
                for name in option.key[:-1]:
                    section = section.setdefault(name, {})
                section[option.key[-1]] = _plain(getattr(self, option.field))
        return described


BOTH_SIDES = ("namespaces", "selector", "namespace_selector")
"""The fields that apply to rows and columns alike."""


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return value if isinstance(value, bool) else str(value)


def _read_family(text: str) -> FamilyChoice:
    try:
        return FamilyChoice(text)
    except ValueError:
        suggestion = did_you_mean(text, FamilyChoice)
        raise ScopeError(f"expected ip4, ip6 or both, got {text!r}{suggestion}") from None


class Shape(StrEnum):
    """How much an option takes, in a file and on the command line."""

    SWITCH = "true or false"
    ONE = "a string"
    SELECTOR = "a selector: a string, or matchLabels and matchExpressions"
    MANY = "a list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing a scope can say. `read` turns one text into a value or raises ScopeError."""

    field: str
    flag: str
    key: tuple[str, ...]
    shape: Shape
    read: Callable[[str], object]


def _options() -> Iterator[Option]:
    many, selector = Shape.MANY, Shape.SELECTOR
    rows: tuple[tuple[str, str, str, Shape, Callable[[str], object]], ...] = (
        ("namespaces", "--namespace", "namespaces", many, names.read_namespace),
        ("selector", "--selector", "selector", selector, selectors.parse),
        (
            "namespace_selector",
            "--namespace-selector",
            "namespaceSelector",
            selector,
            selectors.parse,
        ),
        ("networks", "--network", "networks", many, names.read_network),
        ("with_peers", "--with-peers", "withPeers", Shape.SWITCH, str),
        ("from_namespaces", "--from-namespace", "from.namespaces", many, names.read_namespace),
        ("from_selector", "--from-selector", "from.selector", selector, selectors.parse),
        ("from_nodes", "--from-node", "from.nodes", many, names.read_node),
        ("from_ips", "--from-ip", "from.ips", many, names.read_outside),
        ("from_endpoints", "--from", "from.endpoints", many, names.read_word),
        ("to_namespaces", "--to-namespace", "to.namespaces", many, names.read_namespace),
        ("to_selector", "--to-selector", "to.selector", selector, selectors.parse),
        ("to_nodes", "--to-node", "to.nodes", many, names.read_node),
        ("to_services", "--to-service", "to.services", many, names.read_service),
        ("to_ips", "--to-ip", "to.ips", many, names.read_outside),
        ("to_endpoints", "--to", "to.endpoints", many, names.read_word),
        ("ports", "--port", "ports", many, parse_port),
        ("family", "--family", "family", Shape.ONE, _read_family),
    )
    for field, flag, key, shape, read in rows:
        yield Option(field=field, flag=flag, key=tuple(key.split(".")), shape=shape, read=read)


OPTIONS: tuple[Option, ...] = tuple(_options())
"""Everything a scope can say, in the order it is documented and described."""


class ScopeFlags(TypedDict, total=False):
    """The scope flags as the command line collects them; None and empty mean not given.

    A selector of `""` is given: it selects everything.
    """

    namespaces: Sequence[str]
    selector: str | None
    namespace_selector: str | None
    networks: Sequence[str]
    with_peers: bool
    from_namespaces: Sequence[str]
    from_selector: str | None
    from_nodes: Sequence[str]
    from_ips: Sequence[str]
    from_endpoints: Sequence[str]
    to_namespaces: Sequence[str]
    to_selector: str | None
    to_nodes: Sequence[str]
    to_services: Sequence[str]
    to_ips: Sequence[str]
    to_endpoints: Sequence[str]
    ports: Sequence[str]
    family: str | None


def from_flags(**flags: Unpack[ScopeFlags]) -> Scope:
    """Return the scope the command line asks for; ScopeError names the flag that is wrong."""
    texts: dict[str, Any] = dict(flags)
    values: dict[str, Any] = {}
    for option in OPTIONS:
        given = texts.get(option.field)
        if given is None or given == ():
            continue
        try:
            if option.shape is Shape.SWITCH:
                values[option.field] = given
            elif option.shape is Shape.MANY:
                values[option.field] = _unique(map(option.read, given))
            else:
                values[option.field] = option.read(given)
        except ScopeError as error:
            raise ScopeError(f"{option.flag}: {error}") from None
    return Scope(**{field: value for field, value in values.items() if value != ()})


def _unique(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(dict.fromkeys(values))


class _ContradictionError(ScopeError):
    """Options that cannot be meant together; `fields[0]` is the one to point at."""

    def __init__(self, template: str, *fields: str) -> None:
        self.template = template
        self.fields = fields
        super().__init__(self.spelled({option.field: option.flag for option in OPTIONS}))

    def spelled(self, spelling: dict[str, str]) -> str:
        """Return the message with each field called as `spelling` has it."""
        return self.template.format(*(spelling[field] for field in self.fields))


def _applies(scope: Scope, field: str, side: str) -> bool:
    """Say whether a flag for both sides has a say in one: where that has no flag in its place."""
    narrowed = scope.given(f"{side}_")
    if not narrowed:
        return True
    pods = {f"{side}_namespaces", f"{side}_selector"} & set(narrowed)
    replaced = f"{side}_selector" if field == "selector" else f"{side}_namespaces"
    return bool(pods) and replaced not in narrowed


def _contradictions(scope: Scope) -> Iterator[_ContradictionError]:
    """Yield what would have to be ignored if it were not refused."""
    sources, destinations = scope.given("from_"), scope.given("to_")
    if scope.with_peers and (sources or destinations):
        yield _ContradictionError(
            "{} makes everything else the other side; it contradicts {}, which narrows a side",
            "with_peers",
            (sources + destinations)[0],
        )
    for field in scope.given(*BOTH_SIDES):
        if not (_applies(scope, field, "from") or _applies(scope, field, "to")):
            yield _ContradictionError(
                "{} would apply to no side: {} and {} say what both are",
                field,
                sources[0],
                destinations[0],
            )
    yield from _of_another_family(scope, "from_ips", scope.from_ips)
    yield from _of_another_family(scope, "to_ips", scope.to_ips)


def _of_another_family(
    scope: Scope, field: str, addresses: tuple[str, ...]
) -> Iterator[_ContradictionError]:
    for address in addresses:
        family = Family.of(address) if address != "all" else None
        if family and family not in scope.family.families:
            yield _ContradictionError(
                f"{{}} {address} is an {family} address, and {{}} is {scope.family}; "
                f"ask for {family} or both",
                field,
                "family",
            )


def parse_scope_file(text: str, name: str) -> Scope:
    """Return the scope that `text`, the YAML of the file called `name`, describes.

    ScopeError names the line and column of an unknown or repeated key, a value of the wrong type,
    a value that cannot be read, and options that contradict each other.
    """
    return _ScopeFile(name).read(text)


class _ScopeFile:
    """One scope file: nodes in, a Scope or a message with a position out."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._options = {option.key: option for option in OPTIONS}
        self._values: dict[str, Any] = {}
        self._key_nodes: dict[str, yaml.Node] = {}

    def read(self, text: str) -> Scope:
        root = located.compose(text, self._name)
        if root is None:
            raise ScopeError(f"{self._name} is empty; write {{}} for the whole cluster")
        self._section(root, ())
        try:
            return Scope(**self._values)
        except _ContradictionError as error:
            keys = {option.field: ".".join(option.key) for option in OPTIONS}
            key_node = next(
                self._key_nodes[field] for field in error.fields if field in self._key_nodes
            )
            self._fail(error.spelled(keys), key_node)

    def _fail(self, message: str, node: yaml.Node) -> NoReturn:
        located.fail(self._name, message, node)

    def _section(self, node: yaml.Node, path: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._fail(f"expected {'.'.join(path) or 'a scope'} to be a mapping", node)
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self._fail("expected the name of an option", key_node)
            if key in seen:
                self._fail(f"{key!r} is given twice", key_node)
            seen.add(key)
            self._entry((*path, key), key_node, value_node)

    def _entry(self, path: tuple[str, ...], key_node: yaml.Node, value_node: yaml.Node) -> None:
        if option := self._options.get(path):
            self._key_nodes[option.field] = key_node
            self._values[option.field] = self._value(option, value_node)
            return
        depth = len(path)
        keys = {key[depth - 1] for key in self._options if key[: depth - 1] == path[:-1]}
        if path[-1] not in keys:
            expected = f"expected one of {', '.join(sorted(keys))}"
            self._fail(
                f"unknown key {path[-1]!r}{did_you_mean(path[-1], keys) or '; ' + expected}",
                key_node,
            )
        self._section(value_node, path)

    def _value(self, option: Option, node: yaml.Node) -> object:
        match option.shape:
            case Shape.SWITCH:
                if not _is_scalar(node, "bool"):
                    self._fail(f"expected {option.shape}", node)
                return yaml.SafeLoader.bool_values[node.value.lower()]
            case Shape.ONE:
                return self._text(option, node)
            case Shape.MANY:
                return self._list(option, node)
            case Shape.SELECTOR:
                if isinstance(node, yaml.MappingNode):
                    return located.selector(self._name, node)
                return self._text(option, node)
            case _:
                assert_never(option.shape)

    def _text(self, option: Option, node: yaml.Node, expected: str = "") -> object:
        # A bare port is a number to YAML; a namespace called 123 must be quoted, as in Kubernetes.
        types = ("str", "int") if option.field == "ports" else ("str",)
        if not _is_scalar(node, *types):
            self._fail(f"expected {expected or option.shape}", node)
        try:
            return option.read(node.value)
        except ScopeError as error:
            self._fail(str(error), node)

    def _list(self, option: Option, node: yaml.Node) -> tuple[object, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(f"expected {option.shape}, as in [a, b]", node)
        if not node.value:
            self._fail(f"{'.'.join(option.key)} is empty; leave it out", node)
        return _unique(self._text(option, item, "a string; quote it") for item in node.value)


def _is_scalar(node: yaml.Node, *types: str) -> bool:
    """Tell whether YAML reads `node` as one of `types`, as in `str` or `int`."""
    tags = {f"tag:yaml.org,2002:{name}" for name in types}
    return isinstance(node, yaml.ScalarNode) and node.tag in tags
