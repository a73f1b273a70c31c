"""Whether an API server would accept an object, by the API's own schemas and rules. Pure.

What it does not accept has no meaning: a key that nobody reads is a restriction that is not there.
policies.yaml holds the schemas of the policies and, for NetworkPolicy, what the server checks
beside its published schema; those of everything else are Kubernetes' own.

A field that is null is one that is not there, as it is to the server.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema_rs import ValidationError

from audit.facts.validity import sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing an API server refuses: where in the object, and why in a sentence."""

    path: tuple[str | int, ...]
    text: str

    @property
    def field(self) -> str:
        """The path as Kubernetes writes it: spec.ingress[0].from."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return "".join(steps).removeprefix(".")

    def __str__(self) -> str:
        return f"{self.field} {self.text}" if self.path else self.text


def of_policy(item: Mapping[str, Any], kind: str) -> list[Fault]:
    """Return what an API server refuses in a policy; nothing where it accepts it."""
    from audit.facts.validity import schemas  # noqa: PLC0415 - CEL is as slow to import as all else

    try:
        plain = _without_nulls(item)
        structure = [*_faults(schemas.structure(kind).iter_errors(plain))]
        return structure or [*_faults(schemas.whole(kind).iter_errors(plain))]
    except ValueError as error:  # what YAML can say and JSON cannot
        return [Fault(path=(), text=f"cannot be written as JSON: {error}")]


def of_metadata(metadata: object, where: Sequence[str]) -> list[Fault]:
    """Return what is wrong with the names and labels of what is found at `where`."""
    from audit.facts.validity import schemas  # noqa: PLC0415 - as above

    try:
        plain = _without_nulls({"metadata": metadata})
        faults = [*_faults(schemas.structure("labelled").iter_errors(plain))]
    except ValueError as error:
        faults = [Fault(path=("metadata",), text=f"cannot be written as JSON: {error}")]
    return [Fault(path=(*where, *fault.path), text=fault.text) for fault in faults]


def unknown_fields(item: Mapping[str, Any], kind: str) -> list[Fault]:
    """Return the fields of an object of Kubernetes' own that no version of its kind has."""
    from audit.facts.validity import schemas  # noqa: PLC0415 - as above

    try:
        errors = schemas.published(kind).iter_errors(_without_nulls(item))
        return [*_faults(error for error in errors if error.kind.name == "additionalProperties")]
    except ValueError:
        return []  # whoever reads the field says so


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(member) for member in value]
    return value


def _faults(errors: Iterator[ValidationError]) -> Iterator[Fault]:
    """Yield a validator's errors in sentences, each once."""
    seen = set[str]()
    for error in errors:
        for step, text in sentences.of(error):
            fault = Fault(path=(*error.instance_path, *step), text=text)
            if str(fault) not in seen:
                seen.add(str(fault))
                yield fault
