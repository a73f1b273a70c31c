"""What is installed here, and whether it is enough."""

import importlib.util
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit import __version__, scratch
from audit.errors import AuditError, ClusterError, EngineError, NoEngineError
from audit.facts import assemble
from audit.facts.archive import LARGEST
from audit.facts.live.access import Access
from audit.model.facts import ClusterState
from audit.replay import databases, installing, toolchain
from audit.trace.pods import program, switch_program
from audit.tracing import pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing `audit doctor` looked at."""

    good: bool
    text: str

    def fields(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"good": self.good, "text": self.text}


def install_engine(
    prefix: Path | None,
    *,
    snapshot: Path | None = None,
    most_unpacked: int = LARGEST,
    needed: str = "",
    progress: Callable[[str], None],
) -> toolchain.Toolchain:
    """Return a private OVN that is not older than `needed`, installed if it is not there.

    With a snapshot, return what would trace that, and install only if nothing at hand would;
    of a packed one `most_unpacked` bytes may be unpacked.
    """
    if snapshot is not None:
        candidates = [] if prefix is not None else toolchain.find()
        try:
            return toolchain.choose(
                candidates, _versions(_read(candidates, snapshot, most_unpacked))
            )
        except NoEngineError as error:
            needed = error.needed
    return installing.install(prefix, needed=needed, progress=progress)


def examine_cluster(access: Access) -> list[Finding]:
    """Look at everything a run of a live cluster needs there."""
    from audit.facts.live import rights  # noqa: PLC0415 - only who asks a cluster pays for its client

    try:
        return [
            Finding(good=good, text=text)
            for good, text in rights.examine(access, program("version"), switch_program())
        ]
    except ClusterError as error:
        return [Finding(good=False, text=str(error))]


def examine(
    prefix: Path | None, snapshot: Path | None, *, most_unpacked: int = LARGEST
) -> list[Finding]:
    """Look for everything a run needs here, and at a snapshot if one is named."""
    findings = [Finding(good=True, text=f"audit {__version__} on Python {sys.version.split()[0]}")]
    try:
        candidates = toolchain.find(prefix)
    except EngineError as error:
        return [*findings, Finding(good=False, text=str(error))]
    findings += [
        Finding(good=True, text=f"OVN {engine.version} in {engine.where}") for engine in candidates
    ]
    if not candidates and snapshot is None:
        findings.append(Finding(good=False, text=_refusal(toolchain.choose, candidates, {})))
    if importlib.util.find_spec("ray") is None:
        text = "Ray is not installed, so --workers ray is not available; pip install ray"
        findings.append(Finding(good=False, text=text))
    if snapshot is not None:
        findings.append(_examine_snapshot(candidates, snapshot, most_unpacked))
    return findings


def _examine_snapshot(
    candidates: Sequence[toolchain.Toolchain], snapshot: Path, most_unpacked: int
) -> Finding:
    """Say whether a snapshot can be read and traced by one of these.

    What OVN and Kubernetes do not agree on keeps nobody from tracing, and is counted.
    """
    try:
        state = _read(candidates, snapshot, most_unpacked)
        versions = _versions(state)
        engine = toolchain.choose(candidates, versions)
    except NoEngineError as error:
        return Finding(good=False, text=f"{error.what}; {install_advice(snapshot)}")
    except AuditError as error:
        return Finding(good=False, text=str(error))
    made_by = ", ".join(sorted(version or "an unknown OVN" for version in set(versions.values())))
    count = len(state.differences)
    differ = f"; `audit plan` says where OVN and Kubernetes differ ({count})" if count else ""
    return Finding(
        good=True,
        text=f"{snapshot}: {len(versions)} zones made by ovn-northd {made_by}, {len(state.pods)} "
        f"pods; OVN {engine.version} in {engine.where} would trace it{differ}",
    )


def install_advice(snapshot: Path) -> str:
    """Return what installs an OVN that can trace a snapshot."""
    command = f"{toolchain.INSTALL_COMMAND} --snapshot {shlex.quote(str(snapshot))}"
    return f"install one with `{command}`"


def _read(
    candidates: Sequence[toolchain.Toolchain], snapshot: Path, most_unpacked: int
) -> ClusterState:
    newest = max(candidates, key=lambda engine: engine.version, default=pods.NO_ENGINE)
    with scratch.directory("facts") as workdir:
        tool = databases.OvsdbTool(programs=newest)
        return assemble.load(snapshot, Path(workdir), tool, most=most_unpacked)


def _versions(state: ClusterState) -> dict[str, str]:
    return {zone.name: zone.northd_version for zone in state.zones.values()}


def _refusal(function: Callable[..., Any], *arguments: Any) -> str:  # noqa: ANN401
    """Return the sentence with which a function refuses."""
    try:
        function(*arguments)
    except AuditError as error:
        return str(error)
    return ""
