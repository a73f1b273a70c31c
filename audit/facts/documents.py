"""Texts from outside → plain values; whatever is wrong with them is one kind of error.

YAML is read by the safe loader. Its aliases say in a line what would fill a memory when it is
written out again, so they may not make a document much larger than it is.
"""

import json
from collections.abc import Iterator
from typing import Any

import yaml

# libyaml reads the same text eight times faster.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_REPEATED = 10
"""How many times as large a document may become by its aliases, a short one apart."""
_SHORT = 1000


class DocumentError(ValueError):
    """A text that is no YAML or no JSON, or holds a value that its tag does not allow."""


def documents(text: str | bytes) -> list[Any]:
    """Return every document of a YAML text. DocumentError with what is wrong, in a line."""
    try:
        return list(_loaded(text))
    except DocumentError:
        raise
    # What a tag promises and a value does not keep (`!!timestamp web`, the 30th of February) fails
    # in the loader in whatever way it happens to.
    except (
        *(yaml.YAMLError, RecursionError, ValueError, LookupError),
        *(TypeError, AttributeError, OverflowError),
    ) as error:
        raise DocumentError(" ".join(str(error).split())) from error


def json_document(text: str) -> Any:  # noqa: ANN401 - JSON may be anything
    """Return the value that a JSON text is. DocumentError with what is wrong, in a line."""
    try:
        value = json.loads(text)
        # Nothing but an escape makes half a character of a text that was decoded.
        return _whole(value) if "\\u" in text else value
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise DocumentError(str(error)) from error


def _loaded(text: str | bytes) -> Iterator[Any]:
    loader = LOADER(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            _check_aliases(node)
            yield _whole(loader.construct_document(node))
    finally:
        loader.dispose()


def _check_aliases(document: yaml.Node) -> None:
    """Refuse a document that aliases make endless, or many times as large as it is."""
    sizes: dict[yaml.Node, int] = {}
    own = 0

    def written(node: yaml.Node) -> int:
        """Return how large a node is with every alias in it written out."""
        nonlocal own
        if node not in sizes:
            is_text = isinstance(node, yaml.ScalarNode)
            own_size = 1 + len(node.value) if is_text else 1
            own += own_size
            sizes[node] = 0  # until it is known: whoever meets it until then is in it
            sizes[node] = own_size + sum(map(written, () if is_text else _parts(node)))
        if not sizes[node]:
            line = node.start_mark.line + 1
            raise DocumentError(f"what the alias for line {line} stands for contains that alias")
        return sizes[node]

    if written(document) > _SHORT + _MOST_REPEATED * own:
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
