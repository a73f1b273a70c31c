"""The objects in a document of a manifest: itself, or those of a List, and of Lists in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from audit.facts.documents import Path
from audit.facts.fields import Field, FieldError


def items(value: object, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the objects in a document with their paths; FieldError where one was meant and is none.

    An item of a typed list, which is of a kind, need not say so.
    """
    if not is_object(value):
        _refuse_if_meant(value)
        return
    root = Field(value)
    kind = root["kind"].text()
    if not kind.endswith("List") or root["items"].value is None:
        yield path, root.mapping()
        return
    inherited = {"kind": kind.removesuffix("List"), "apiVersion": root["apiVersion"].value}
    for index, item in enumerate(root["items"].each()):
        named = {**inherited, **item.mapping()} if inherited["kind"] else item.mapping()
        where = (*path, "items", index)
        if not is_object(named):
            raise FieldError(f"{item.path} has no kind")
        yield from items(named, where)


def is_object(value: object) -> bool:
    """Return whether a document says what kind of object it is."""
    return isinstance(value, dict) and isinstance(value.get("kind"), str)


def _refuse_if_meant(value: object) -> None:
    """Raise FieldError for what is no object and was meant to be one, or several."""
    if isinstance(value, dict) and {"apiVersion", "metadata"} <= value.keys():
        raise FieldError("kind is missing")
    if isinstance(value, list) and any(map(is_object, value)):
        raise FieldError("this is a list of objects; make it the items of a `kind: List`")


def described(value: object) -> str:
    """Return what a document that is no object is counted as."""
    return "lists" if isinstance(value, list) else "documents without a kind"
