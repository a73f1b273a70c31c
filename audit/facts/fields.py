"""Typed access to the fields of a Kubernetes object, in the words of whoever must repair it.

A snapshot is untrusted input: any field may be absent, null, or of a type no API server would
print. Absent and null are the same, as they are to Kubernetes; a wrong type is a FieldError with
the path of the field, `spec.containers[0].ports is a string, not a list`.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

_JSON_TYPES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "missing",
}


class FieldError(ValueError):
    """A field is not what its kind of object has there; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value somewhere in an object, and the path that leads to it."""

    value: object
    path: str = ""

    def __getitem__(self, key: str) -> Self:
        """Return a field of this object; one without value where it is absent or null."""
        return type(self)(self.mapping().get(key), f"{self.path}.{key}" if self.path else key)

    def mapping(self) -> Mapping[str, Any]:
        """Return this object's fields; none where it is absent or null."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self._wrong("an object")
        return self.value

    def each(self) -> Iterator[Self]:
        """Yield a list's members; none where it is absent or null."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self._wrong("a list")
        for index, member in enumerate(self.value):
            yield type(self)(member, f"{self.path}[{index}]")

    def text(self, default: str = "") -> str:
        """Return a string; `default` where it is absent or null."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            raise self._wrong("a string")
        return self.value

    def required(self) -> str:
        """Return a string that must be there and not be empty."""
        text = self.text()
        if not text:
            raise FieldError(f"{self.path} is {'empty' if self.value == '' else 'missing'}")
        return text

    def address(self) -> str:
        """Return an IP address as it is written."""
        text = self.required()
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise FieldError(f"{self.path} is {text!r}, not an IP address") from None
        return text

    def number(self) -> int:
        """Return an integer that must be there."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self._wrong("an integer")
        return self.value

    def flag(self, *, default: bool = False) -> bool:
        """Return a boolean; `default` where it is absent or null."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self._wrong("a boolean")
        return self.value

    def texts(self) -> Mapping[str, str]:
        """Return a map of strings: labels, annotations."""
        for key in self.mapping():
            if not isinstance(key, str):  # as YAML may have it
                raise FieldError(f"{self.path} has the key {key!r}, not a string; quote it")
        return {key: self[key].text() for key in self.mapping()}

    @property
    def kind(self) -> str:
        """What JSON calls the value: `an object`, `a list`; `missing` where there is none."""
        return _JSON_TYPES.get(type(self.value), "no JSON")

    def _wrong(self, wanted: str) -> FieldError:
        kind = self.kind
        if kind == "missing":
            return FieldError(f"{self.path} is missing")
        return FieldError(f"{self.path or 'it'} is {kind}, not {wanted}")
