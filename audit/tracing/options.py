"""What a command asks to be traced, and how it hears what goes on."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from audit.facts.applying import NO_CHANGE, Change
from audit.facts.archive import LARGEST
from audit.facts.live.access import Access
from audit.facts.manifests import Surroundings
from audit.model.options import DEFAULT_PLANES, Covering, PlaneName, Workers
from audit.scope.scope import Scope


class Progress(Protocol):
    """Told what is going on, for whoever watches."""

    def phase(self, name: str, total: int) -> None:
        """Begin a phase of `total` steps; 0 when they cannot be counted."""
        ...

    def expect(self, steps: int) -> None:
        """Say that the phase turns out `steps` longer."""
        ...

    def advance(self, steps: int) -> None:
        """Say that `steps` more are done."""
        ...

    def at(self, zone: str, *, left: int, zones: int) -> None:
        """Say in which zone they were, how many wait there, and in how many zones any do."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `audit run` and `audit plan` are asked for."""

    snapshot: Path | None
    """None with `manifests`."""
    scope: Scope
    most_unpacked: int = LARGEST
    """Bytes that a packed snapshot may unpack to."""
    manifests: str = ""
    """A directory, a file, or `-`: objects instead of a cluster, for the intent plane alone."""
    kustomization: str = ""
    """A directory with a kustomization that is built: instead of `manifests`."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    """What is said of the cluster that the manifests do not have."""
    change: Change = NO_CHANGE
    """What is applied to the objects of the snapshot first, for the intent plane alone."""
    ovn_prefix: Path | None = None
    cluster: Access | None = None
    """The live cluster whose pods trace; None: copies of their databases are traced here."""
    workers: Workers | None = None
    """None: Ray, when there is enough to trace to be worth its start."""
    worker_count: int = field(default_factory=lambda: os.cpu_count() or 1)
    agents_listen: str = "6379"
    """Where this process listens for agents, with `Workers.AGENTS`: [IP:]PORT."""
    agents_wait_s: float = 120.0
    """How long agents may take to join."""
    trace_timeout_s: float = 30.0
    time_limit_s: float | None = None
    """When no more traces are begun; what is not traced by then is unproven."""
    sign_key: Path | None = None
    """An Ed25519 private key, to sign the run with."""
    timestamp_url: str = ""
    """An RFC 3161 server that says when the signature was there; empty: nobody is asked."""
    reuse: Path | None = None
    """A finished run whose traces are taken over where they hold."""
    cover: Covering = Covering.LEGS
    verify: Annotated[int, msgspec.Meta(ge=0)] = 50
    """Composed cells, drawn at random, that are traced end to end and compared."""
    verify_packets: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Cells, drawn at random, whose packets are sent through the replayed switches: as many as
    there are, at most."""
    planes: frozenset[PlaneName] = DEFAULT_PLANES
    command: str = ""
    destination: str = ""
    """The object store the run is put on when it is finished; empty when it stays on the disk."""
