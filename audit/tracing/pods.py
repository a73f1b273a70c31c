"""plan → traces where the databases are: what is asked of a live cluster's pods, by exec."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audit.errors import AuditError, EngineError, NoEngineError
from audit.facts.live.access import Access
from audit.model.facts import Note, Zone
from audit.replay import toolchain
from audit.trace.pods import Pods, Streams, program

if TYPE_CHECKING:
    from audit.facts.live.execs import Container


@dataclass(frozen=True, slots=True)
class PodEngine(toolchain.Toolchain):
    """The pods' own OVN, as old as the oldest of them.

    What else of OVN is needed is run here, by `local` if there is one that fits the databases.
    """

    local: toolchain.Toolchain | None = None

    @property
    def where(self) -> str:
        """Where it is, as a reader is told."""
        return "the cluster's pods"

    def argv(self, program: str, *args: str) -> tuple[str, ...]:
        """Return the command that runs `program` here; EngineError when it should not be."""
        if self.local is None:
            raise NoEngineError(
                f"{program} is run here, where no OVN is that fits the databases",
                needed="",
                advice=toolchain.ADVICE,
            )
        return self.local.argv(program, *args)

    def schema(self, name: str) -> Path:
        """Return the path of an OVSDB schema here; EngineError as of `argv`."""
        self.argv("ovsdb-tool")
        assert self.local is not None  # noqa: S101 - argv() raised
        return self.local.schema(name)


NO_ENGINE = PodEngine(toolchain.Version(0, 0, 0))
"""What facts are read with before the pods are asked: databases from pods are standalone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The pods that have the databases of zones, and what traces there."""

    engine: PodEngine
    pods: Pods
    notes: tuple[Note, ...]
    """Why there is no tracing in the pods of some zones."""


def reach(
    cluster: Access, snapshot: Path, zones: Mapping[str, Zone], ovn_prefix: Path | None
) -> Reached:
    """Ask the pods of every zone for their ovn-trace; EngineError when none can trace."""
    from audit.facts.live import streams  # noqa: PLC0415 - only who asks a cluster pays for its client

    opener = streams.Opener(access=cluster, containers=_containers(cluster, snapshot))
    shared = Streams(stream=opener, ready_s=cluster.exec_timeout_s)
    able: dict[str, toolchain.Version] = {}
    failures: dict[str, str] = dict.fromkeys(zones.keys() - opener.containers.keys(), _NO_POD)
    for name, answer in opener.outputs(program("version")).items():
        if name not in zones:
            continue
        version = None if isinstance(answer, AuditError) else toolchain.Version.parse(answer)
        if version is None:
            failures[name] = str(answer) or "its ovn-trace does not say its version"
        elif _too_old(version, zones[name].northd_version):
            failures[name] = f"its ovn-trace {version} is older than its database"
        else:
            able[name] = version
    for name, why in failures.items():
        shared.give_up(name, why)
    if not able:
        raise EngineError(
            f"no pod can trace: {next(iter(failures.values()))}; leave out --traces exec, or ask "
            "`audit doctor --live`"
        )
    return Reached(
        engine=PodEngine(min(able.values()), local=_local(ovn_prefix, zones)),
        pods=Pods(zones=tuple(zones), streams=shared),
        notes=Note.of_each("zone-untraceable", "zone {} is not traced in its pod", failures),
    )


def _local(prefix: Path | None, zones: Mapping[str, Zone]) -> toolchain.Toolchain | None:
    """Return an OVN here that fits the databases, if there is one."""
    try:
        versions = {zone.name: zone.northd_version for zone in zones.values()}
        return toolchain.choose(toolchain.find(prefix), versions)
    except EngineError:
        return None


_NO_POD = "no running pod has its databases now"


def _containers(cluster: Access, snapshot: Path) -> dict[str, tuple["Container", ...]]:
    """Return where each zone's southbound database is now."""
    from audit.facts.live import api, ovn_pods  # noqa: PLC0415 - as above

    with api.Server(cluster) as server:
        located = ovn_pods.find(server.items(ovn_pods.PODS)[1], cluster.namespace)
    members = ovn_pods.by_zone(located, snapshot)
    return {zone: tuple(south for _, south in both) for zone, both in members.items()}


def _too_old(version: toolchain.Version, northd: str) -> bool:
    database = toolchain.Version.parse(northd)
    return database is not None and not version.can_trace(database)
