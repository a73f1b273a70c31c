"""What of a directory with manifests is not audited, as notes that the reader of a run gets."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from audit.facts import profiles
from audit.model.facts import Note

_MOST_TOLD = 5
"""Names in a sentence; all are among the note's subjects."""


@dataclass(slots=True, kw_only=True)
class PassedOver:
    """Counts and names; what is named is named once."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Objects of kinds that decide nothing here."""
    others: Counter[str] = field(default_factory=Counter)
    """What is no object."""
    kustomizations: tuple[str, ...] = ()
    unknown_fields: list[tuple[str, Callable[[], str]]] = field(default_factory=list)
    """Fields, and where: looking for a line takes reading the file again."""
    old_versions: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    """Files with Templates of OpenShift."""
    profiles: list[str] = field(default_factory=list)
    """Variants of objects for other cluster profiles of OpenShift, and where they are."""

    def notes(self) -> Iterator[Note]:
        """Yield a note for each sort of it that there is."""
        if self.kinds:
            text = f"objects of other kinds were passed over: {_counted(self.kinds)}"
            yield Note(code="kinds-passed-over", text=text)
        if self.others:
            text = f"what is no object was passed over: {_counted(self.others)}"
            yield Note(code="files-passed-over", text=text)
        if self.unknown_fields:
            fields = tuple(name for name, _ in self.unknown_fields)
            examples = [f"{name} ({where()})" for name, where in self.unknown_fields[:_MOST_TOLD]]
            text = "fields that Kubernetes does not have were passed over: "
            text += several([*examples, *fields[_MOST_TOLD:]])
            yield Note(code="unknown-fields", text=text, subjects=fields)
        for code, text, names in (
            (
                "kustomizations-not-built",
                "kustomizations were not built; audit run -k DIR builds one",
                self.kustomizations,
            ),
            (
                "templates-not-processed",
                "Templates were not read; oc process -f FILE | audit run --manifests - audits one",
                tuple(dict.fromkeys(self.templates)),
            ),
            (
                "api-version-gone",
                "no API server serves the version of these any more",
                tuple(self.old_versions),
            ),
            (
                "same-object-twice",
                "objects that are there twice were taken once",
                tuple(self.repeated),
            ),
            (
                "other-profile",
                f"variants for other cluster profiles than {profiles.DEFAULT} were passed over",
                tuple(self.profiles),
            ),
        ):
            if names:
                yield Note(code=code, text=f"{text}: {several(names)}", subjects=names)


def several(names: Sequence[str]) -> str:
    """Return names in a sentence: the first few, and how many more there are."""
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return ", ".join(names[:_MOST_TOLD]) + more


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} ({n})" for what, n in sorted(counts.items()))
