"""What a validator finds wrong with a value, in words for whoever wrote it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jsonschema_rs import ValidationError

Told = tuple[tuple[str, ...], str]
"""The field below the error's own place, and what is wrong there."""


def of(error: ValidationError) -> Iterator[Told]:
    """Yield the sentences of one error; each begins with its verb."""
    about: Mapping[str, Any] = error.kind.as_dict()
    name = error.kind.name
    if name == "additionalProperties":
        for key in about["unexpected"]:
            yield (key,), "is not a field of this API"
    elif name == "propertyNames":
        for _, text in of(about["error"]):
            yield (), f"has a key that {text}"
    elif name == "required":
        yield (about["property"],), "is missing"
    elif name in _SENTENCES:
        yield (), _SENTENCES[name](error.instance, about)
    else:  # a rule, which has words of its own
        yield (), f"is not accepted: {about.get('message', error.message)}"


_SENTENCES: Mapping[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "enum": lambda value, about: f"is {value!r}, not {_listed(about['options'])}",
    "const": lambda value, about: f"is {value!r}, not {about['expected_value']!r}",
    "type": lambda value, about: f"is {_kind(value)}, not {_listed(map(_named, about['types']))}",
    "oneOf": lambda value, _: f"is {_kind(value)}, which it cannot be",
    "format": lambda value, about: f"is {value!r}, not {about['format']}",
    "minProperties": lambda _, __: "is empty",
    "maxProperties": lambda value, about: (
        f"has {_listed(value, 'and')}; it may have {about['limit']} of them"
    ),
    "minItems": lambda _, __: "is an empty list",
    "maxItems": lambda value, about: f"has {len(value)} members, and may have {about['limit']}",
    "minLength": lambda _, __: "is empty",
    "maxLength": lambda _, about: f"has more than {about['limit']} characters",
    "minimum": lambda value, about: f"is {value}, less than {about['limit']}",
    "maximum": lambda value, about: f"is {value}, more than {about['limit']}",
    "uniqueItems": lambda _, __: "has a member twice",
}

_TYPES: Mapping[str, str] = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "null": "",  # which is not there, as far as an API server goes
}


def _named(kind: str) -> str:
    return _TYPES.get(kind, kind)


def _kind(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return repr(value)


def _listed(words: Iterable[object], last: str = "or") -> str:
    *most, final = [str(word) for word in words if word != ""]
    return f"{', '.join(most)} {last} {final}" if most else final
