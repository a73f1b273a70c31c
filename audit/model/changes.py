"""Two evaluations of policies, compared."""

from dataclasses import dataclass

from audit.model.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPath:
    """Cells between two workloads whose verdict changed alike, on some ports.

    `why` is what decides after the change.
    """

    src: str
    dst: str
    ports: tuple[str, ...]
    before: Verdict
    after: Verdict
    why: str
    cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a change of manifests changes. `appeared` and `vanished` are endpoints."""

    before: str
    after: str
    compared: int
    paths: tuple[ChangedPath, ...]
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    policies: tuple[str, ...]
    """`added networkpolicy shop/x`, `changed …`, `removed …`."""
