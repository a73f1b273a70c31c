"""YAML and JSON → plain values; whatever is wrong with it is one kind of error.

What programs wrote is read by `documents`, and what people wrote by `read`, as Kubernetes' own
programs would (audit.facts.loaders). A text may hold several documents of JSON, one after the
other.

YAML is read by safe loaders. Its aliases say in a line what would fill a memory when it is written
out again, so they may not make a document much larger than it is.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml

from audit.facts.loaders import Kubernetes, Plain

Path = tuple[str | int, ...]

_MOST_REPEATED = 10
"""How many times as large a document may become by its aliases, a short one apart."""
_SHORT = 1000


class DocumentError(ValueError):
    """A text that is no YAML or no JSON, or holds a value that its tag does not allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document of a text, and where it is found there."""

    value: Any
    repeats: bool
    """Whether a key may be in some object twice."""
    _text: str
    _index: int
    _before: int
    """Lines before `_text`, and documents before this one in it."""
    _lines: Mapping[Path, int] = field(default_factory=dict)
    """The lines of objects and of rules, where reading the text showed them."""

    def line(self, path: Path) -> int:
        """Return the line of a field, or of the nearest that there is above it."""
        if path in self._lines:
            return self._before + self._lines[path]
        node = self._node()
        for step in path:
            below = _member(node, step)
            if below is None:
                break
            node = below
        return self._before + (node.start_mark.line + 1 if node is not None else 1)

    def quick_line(self, path: Path) -> int:
        """Return the line as `line`; 0 where looking for it in a large text would take seconds."""
        quick = path in self._lines or len(self._text) <= _QUICKLY_COMPOSED
        return self.line(path) if quick else 0

    def repeated(self) -> tuple[Path, int] | None:
        """Return the path and the line of the first key that is there twice, if one is.

        The path is empty where it is not known which.
        """
        if not self.repeats:
            return None
        node = self._node()
        if node is None:
            return (), self._before + 1
        return next(((path, self._before + line) for path, line in _repeated(node, ())), None)

    def _node(self) -> yaml.Node | None:
        """Return the document with its lines; None where it is JSON that YAML does not take."""
        nodes = _composed(self._text)
        return nodes[self._index] if self._index < len(nodes) else None


@functools.lru_cache(maxsize=1)
def _composed(text: str) -> list[yaml.Node]:
    """Return the documents of a text up to the first that YAML does not take."""
    nodes = list[yaml.Node]()
    with suppress(yaml.YAMLError):
        nodes.extend(yaml.compose_all(text, Loader=Kubernetes))
    return nodes


_QUICKLY_COMPOSED = 300_000
"""Characters that are composed, once for a text, in about half a second."""
_RULES = ("ingress", "egress")


def _lines(node: yaml.Node | None, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Yield the lines of a document's objects, those of a List too, and of their rules."""
    if not isinstance(node, yaml.MappingNode):
        return
    yield path, node.start_mark.line + 1
    fields = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    listed = fields.get("items")
    if isinstance(listed, yaml.SequenceNode):
        for index, item in enumerate(listed.value):
            yield from _lines(item, (*path, "items", index))
    spec = fields.get("spec")
    for key, value in spec.value if isinstance(spec, yaml.MappingNode) else ():
        if key.value in _RULES and isinstance(value, yaml.SequenceNode):
            for index, rule in enumerate(value.value):
                yield (*path, "spec", key.value, index), rule.start_mark.line + 1


def _member(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        # The last of several is what counts.
        pairs = [(key, value) for key, value in node.value if key.value == str(step)]
        if not pairs:
            return None
        key, value = pairs[-1]
        # An object begins where its key stands, for who looks for it.
        value.start_mark = key.start_mark
        return value  # type: ignore[no-any-return]
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step]  # type: ignore[no-any-return]
    return None


def _repeated(node: yaml.Node | None, path: Path) -> Iterator[tuple[Path, int]]:
    if isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name and name in seen:
                yield (*path, name), key.start_mark.line + 1
            seen.add(name)
            yield from _repeated(value, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated(value, (*path, index))


def decoded(data: bytes) -> str:
    """Return a text of UTF-8, UTF-16 or UTF-32, with or without its mark. DocumentError."""
    try:
        return data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is no Unicode text: {error}") from error


def documents(text: str | bytes) -> list[Any]:
    """Return every document of a text. DocumentError with what is wrong and where, in a line."""
    with _refused():
        return [value for value, _, _ in _loaded(_plain(text), Plain)]


def read(text: str | bytes) -> list[Document]:
    """Return every document of a text, with its place. DocumentError as `documents`."""
    with _refused():
        plain = _plain(text)
        if plain.lstrip()[:1] == "{":
            with suppress(ValueError):  # YAML may begin with a brace too
                return list(_json(plain))
        loaded = enumerate(_loaded(plain, Kubernetes))
        return [
            Document(
                value=value, repeats=repeats, _text=plain, _index=index, _before=0, _lines=lines
            )
            for index, (value, repeats, lines) in loaded
        ]


def _plain(text: str | bytes) -> str:
    return decoded(text) if isinstance(text, bytes) else text.removeprefix("\ufeff")


@contextmanager
def _refused() -> Iterator[None]:
    """Make one kind of error of all.

    What a tag promises and a value does not keep (`!!timestamp web`, the 30th of February) fails
    in the loader in whatever way it happens to.
    """
    try:
        yield
    except DocumentError:
        raise
    except (
        *(yaml.YAMLError, RecursionError, ValueError, LookupError),
        *(TypeError, AttributeError, OverflowError),
    ) as error:
        text = re.sub(r'in "<[a-z]+ string>", ', "at ", " ".join(str(error).split()))
        raise DocumentError(text) from error


def _json(text: str) -> Iterator[Document]:
    repeats = False

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeats
        mapping = dict(pairs)
        repeats = repeats or len(mapping) < len(pairs)
        return mapping

    decoder = json.JSONDecoder(object_pairs_hook=made)
    at, whole, escapes = 0, text.rstrip(), _has_escapes(text)
    before = lines = 0
    while at < len(whole):
        start = next(i for i in range(at, len(whole)) if not whole[i].isspace())
        lines += whole.count("\n", before, start)
        before = start
        repeats = False
        value, at = decoder.raw_decode(whole, start)
        yield Document(
            value=_whole(value) if escapes else value,
            repeats=repeats,
            _text=whole[start:at],
            _index=0,
            _before=lines,
        )


def json_document(text: str) -> Any:  # noqa: ANN401 - JSON may be anything
    """Return the value that a JSON text is. DocumentError with what is wrong, in a line."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
        return _whole(value) if _has_escapes(text) else value
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise DocumentError(str(error)) from error


def _finite(number: str) -> float:
    """Return a number with a fraction or an exponent; DocumentError for what JSON cannot say."""
    value = float(number)
    if not math.isfinite(value):
        raise DocumentError(f"{number} is no number in JSON")
    return value


class _List(msgspec.Struct):
    """A List of Kubernetes' API; `items` are read one by one."""

    items: list[msgspec.Raw] | None
    kind: str = "List"


def listed(data: bytes) -> Iterator[Any] | None:
    """Return the items of a List in JSON; None where it is something else. DocumentError.

    One item is read at a time: all those of a large cluster fill a memory.
    """
    try:
        read = msgspec.json.decode(data, type=_List)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Of another encoding, or what is wrong with it is said.
        content = json_document(decoded(data))
        return _items(content)
    return _each(read.items or (), data) if read.kind.endswith("List") else None


def _items(content: Any) -> Iterator[Any] | None:  # noqa: ANN401 - JSON may be anything
    is_list = isinstance(content, dict) and str(content.get("kind", "List")).endswith("List")
    # An API server written in Go may print an empty list as null.
    items = content.get("items", {}) if is_list else {}
    return iter(items or ()) if items is None or isinstance(items, list) else None


def _each(items: Sequence[msgspec.Raw], data: bytes) -> Iterator[Any]:
    for index, item in enumerate(items):
        try:
            yield msgspec.json.decode(item)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            yield from itertools.islice(_items(json_document(decoded(data))) or (), index, None)
            return


def _loaded(
    text: str,
    kind: Any,  # noqa: ANN401 - a loader's class
) -> Iterator[tuple[Any, bool, Mapping[Path, int]]]:
    """Yield each document, whether a key was repeated in it or before it, and lines in it.

    Lines are looked for where people wrote the text (`Kubernetes`).
    """
    loader = kind(text)
    aliases, escapes = "*" in text and "&" in text, _has_escapes(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if aliases:
                _check_aliases(node)
            lines = dict(_lines(node)) if kind is Kubernetes else {}
            value = loader.construct_document(node)
            yield (_whole(value) if escapes else value), loader.repeats, lines
    finally:
        loader.dispose()


def _has_escapes(text: str) -> bool:
    """Return whether a text that was decoded may make half a character of something."""
    return "\\u" in text or "\\U" in text


def _check_aliases(document: yaml.Node) -> None:
    """Refuse a document that aliases make endless, or many times as large as it is."""
    sizes: dict[yaml.Node, int] = {}
    unaliased = 0

    def written(node: yaml.Node) -> int:
        """Return how large a node is with every alias in it written out."""
        nonlocal unaliased
        if node not in sizes:
            is_text = isinstance(node, yaml.ScalarNode)
            own_size = 1 + len(node.value) if is_text else 1
            unaliased += own_size
            sizes[node] = 0  # until it is known: whoever meets it until then is in it
            sizes[node] = own_size + sum(map(written, () if is_text else _parts(node)))
        if not sizes[node]:
            line = node.start_mark.line + 1
            raise DocumentError(f"what the alias for line {line} stands for contains that alias")
        return sizes[node]

    if written(document) > _SHORT + _MOST_REPEATED * unaliased:
        raise DocumentError(
            f"its aliases repeat so much that it is more than {_MOST_REPEATED} times as large as "
            "it looks; write it without aliases"
        )


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)


def _whole(value: Any, path: str = "") -> Any:  # noqa: ANN401 - whatever the text says
    """Return a value all of whose strings can be written again; DocumentError where one cannot."""
    match value:
        case dict():
            for key, member in value.items():
                _whole(key, path)
                _whole(member, f"{path}.{key}" if path else str(key))
        case list():
            for index, member in enumerate(value):
                _whole(member, f"{path}[{index}]")
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                where = path or "the text"
                raise DocumentError(
                    f"{where} holds half of a character ({value[error.start]!a}), which no API "
                    "server prints"
                ) from error
        case _:
            pass  # numbers, dates and the like have no characters
    return value
