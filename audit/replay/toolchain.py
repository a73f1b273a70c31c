"""An OVN to trace with: the machine's own, or a newer one in a private prefix.

An `ovn-trace` older than the database it reads does not fail: it drops the logical flows it cannot
parse, reports everything as undelivered and exits 0. So the version of every zone's `ovn-northd` is
compared with the programs at hand before anything is traced (`choose`), and a machine whose OVN is
too old gets a newer one beside it (`audit.replay.installing`), unpacked from its distribution's
packages and run through its own loader and C library. There may be several side by side, each of
one release.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from audit.errors import EngineError, NoEngineError

INSTALL_COMMAND = "audit doctor --install-ovn"
ADVICE = f"install one with `{INSTALL_COMMAND}`"
VERSION_TIMEOUT_S = 20

PROGRAMS = (
    "ovn-trace",
    "ovn-northd",
    "ovn-nbctl",
    "ovn-sbctl",
    "ovn-controller",
    "ovn-detrace",
    "ovsdb-server",
    "ovsdb-tool",
    "ovsdb-client",
    "ovs-appctl",
    "ovs-ofctl",
    "ovs-vswitchd",
)
SCHEMAS = {
    "ovn-nb.ovsschema": "ovn",
    "ovn-sb.ovsschema": "ovn",
    "vswitch.ovsschema": "openvswitch",
}
"""Each schema and the directory below `share` that holds it."""

RUN_DIRECTORY_VARIABLES = (
    "OVN_RUNDIR",
    "OVS_RUNDIR",
    "OVN_DBDIR",
    "OVS_DBDIR",
    "OVN_LOGDIR",
    "OVS_LOGDIR",
)

_PYTHON_PROGRAMS = frozenset({"ovn-detrace"})
PYTHON_MODULES = "usr/lib/python3/dist-packages"
"""Where a prefix made of packages has what ovn-detrace imports."""
_SYSTEM_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where the daemons are; not on a normal user's PATH on Debian."""
# Debian's /usr/sbin/ovs-vswitchd is an alternative, a link made when the package is configured; a
# package that is only unpacked has the daemon itself in usr/lib/openvswitch-switch.
_PROGRAM_DIRECTORIES = (
    "usr/bin",
    "usr/sbin",
    "usr/lib/openvswitch-switch",
    "bin",
    "sbin",
)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """An OVN release, `25.03.0`: year, month and patch."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the first release number in `text`, or None when it holds none.

        Reads `ovn-trace --version` ("ovn-trace 25.03.0 …"), `SB_Global`'s
        `northd_internal_version` ("25.03.0-20.41.0-77.6": OVN, schema, internal), and the release
        alone ("25.03").
        """
        match = re.search(r"(?<![\d.])(\d+)\.(\d+)\.(\d+)(?![\d.])", text)
        match = match or re.fullmatch(r"(\d+)\.(\d+)()", text)
        return cls(*(int(part or 0) for part in match.groups())) if match else None

    def can_trace(self, database: "Version") -> bool:
        """Whether this `ovn-trace` understands what that release's `ovn-northd` wrote.

        Logical flows change with year and month; patch releases do not change them.
        """
        return (self.major, self.minor) >= (database.major, database.minor)

    @property
    def release(self) -> str:
        """Year and month, `25.03`."""
        return f"{self.major}.{self.minor:02}"

    def __str__(self) -> str:
        return f"{self.release}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One installed OVN: the system's (`prefix` is None) or one below a directory.

    A plain value, so that it can be sent to the workers that trace.
    """

    version: Version
    prefix: Path | None = None

    @property
    def where(self) -> str:
        """Where it is, in words for a reader."""
        return "the system" if self.prefix is None else str(self.prefix)

    def argv(self, program: str, *args: str) -> tuple[str, ...]:
        """Return the command that runs `program` with `args`."""
        return (*_command(program, self.prefix), *args)

    def has(self, program: str) -> bool:
        """Whether `program` is there: a machine may have OVN's central half only."""
        return locate(program, self.prefix) is not None

    def schema(self, name: str) -> Path:
        """Return the path of an OVSDB schema, one of `SCHEMAS`."""
        root = Path("/usr") if self.prefix is None else self.prefix
        shares = (root / "usr/share", root / "share", root / "local/share")
        for share in shares:
            path = share / SCHEMAS[name] / name
            if path.is_file():
                return path
        raise EngineError(f"{name} is missing from OVN {self.version} ({self.where})")

    def environment(self, rundir: Path) -> dict[str, str]:
        """Return the variables that keep a daemon's sockets, databases and logs in `rundir`."""
        return dict.fromkeys(RUN_DIRECTORY_VARIABLES, str(rundir))


NEWEST = Version(26, 3, 0)
"""The newest release whose databases this program is tested with. What a database of an unknown
release needs: newer programs read older databases, never the reverse."""


def home() -> Path:
    """Return the directory below which OVNs are installed unless another place is named."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data) / "ovn-audit"


def default_prefix() -> Path:
    """Return where an OVN is that was installed for nothing in particular.

    Others are beside it, each named after its release.
    """
    return home() / "ovn"


def private_places() -> Iterator[Path]:
    """Yield where OVNs may have been installed."""
    yield default_prefix()
    yield from sorted(home().glob("ovn-[0-9]*"))


def find(prefix: Path | None = None) -> list[Toolchain]:
    """Return the OVN installations at hand in order of preference.

    A named `prefix` is the only candidate, and it is an error when it holds no OVN. Otherwise the
    system's comes first, then the private ones, oldest first; one that does not run is passed over
    as long as another does.
    """
    if prefix is not None:
        return [Toolchain(version_of(prefix), prefix.absolute())]
    installed: list[Toolchain] = []
    broken: list[EngineError] = []
    for root in (None, *private_places()):
        try:
            if locate("ovn-trace", root) is not None:
                installed.append(Toolchain(version_of(root), root))
        except OSError as error:
            broken.append(EngineError(f"OVN cannot be looked for in {root}: {error.strerror}"))
        except EngineError as error:
            broken.append(error)
    if broken and not installed:
        raise broken[0]
    private = [candidate for candidate in installed if candidate.prefix is not None]
    private.sort(key=lambda candidate: candidate.version)
    return [*(candidate for candidate in installed if candidate.prefix is None), *private]


def version_of(prefix: Path | None) -> Version:
    """Ask the `ovn-trace` below `prefix` (None: the system's) which release it is."""
    argv = (*_command("ovn-trace", prefix and prefix.absolute()), "--version")
    try:
        done = subprocess.run(  # noqa: S603  an argument vector of our own making, no shell
            argv,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{argv[-2]} does not run: {error}") from error
    version = Version.parse(done.stdout)
    if version is None:
        message = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise EngineError(f"{argv[-2]} does not say its version: {message}")
    return version


def choose(candidates: Sequence[Toolchain], needed: Mapping[str, str]) -> Toolchain:
    """Return the first candidate that is not older than any zone's database.

    `needed` maps a zone to its `northd_internal_version`. Where a zone does not say, only the
    newest candidate will do, and only one that is not older than any release known (`NEWEST`).
    NoEngineError when there is none.
    """
    versions = {zone: Version.parse(text) for zone, text in sorted(needed.items())}
    stated = {zone: version for zone, version in versions.items() if version is not None}
    if not candidates:
        lowest = [NEWEST] if len(stated) < len(versions) else []
        raise NoEngineError(
            f"OVN is not installed here: no ovn-trace on the system or in {home()}",
            needed=str(max([*stated.values(), *lowest], default="")),
            advice=ADVICE,
        )
    fit = [
        candidate
        for candidate in candidates
        if all(candidate.version.can_trace(database) for database in stated.values())
    ]
    if not fit:
        raise _too_old(candidates, stated)
    if len(stated) == len(versions):
        return fit[0]
    newest = max(candidates, key=lambda candidate: candidate.version)
    if not newest.version.can_trace(NEWEST):
        raise _too_old_to_tell(candidates, sorted(versions.keys() - stated.keys()))
    return newest


def _too_old(candidates: Sequence[Toolchain], databases: Mapping[str, Version]) -> NoEngineError:
    """Say which zone is newer than every candidate, and what to do."""
    newest = max(databases, key=lambda zone: databases[zone])
    others = sum(
        not any(candidate.version.can_trace(version) for candidate in candidates)
        for zone, version in databases.items()
        if zone != newest
    )
    return NoEngineError(
        f"the database of zone {newest}{_more(others)} was made by OVN {databases[newest]}, and an "
        f"older ovn-trace reports everything in it as undelivered; {_here(candidates)}",
        needed=str(databases[newest]),
        advice=ADVICE,
    )


def _too_old_to_tell(candidates: Sequence[Toolchain], silent: Sequence[str]) -> NoEngineError:
    """Say which zone may be newer than every candidate."""
    return NoEngineError(
        f"the database of zone {silent[0]}{_more(len(silent) - 1)} does not say which OVN made it "
        "(northd_internal_version), and an older ovn-trace would report everything in it as "
        f"undelivered; only OVN {NEWEST.release} or newer can be trusted with it; "
        f"{_here(candidates)}",
        needed=str(NEWEST),
        advice=ADVICE,
    )


def _more(others: int) -> str:
    return f" (and {others} more)" if others else ""


def _here(candidates: Sequence[Toolchain]) -> str:
    listed = ", ".join(f"{candidate.version} ({candidate.where})" for candidate in candidates)
    return f"found here: {listed}"


def locate(program: str, prefix: Path | None) -> Path | None:
    """Return the path of `program`, or None when it is not installed there."""
    if prefix is None:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_SBIN))
        program_path = shutil.which(program, path=path)
        return Path(program_path) if program_path else None
    for directory in _PROGRAM_DIRECTORIES:
        path_below = prefix / directory / program
        if path_below.is_file():
            return path_below
    return None


def _command(program: str, prefix: Path | None) -> tuple[str, ...]:
    """Return the argument vector that starts `program`, without its arguments."""
    path = locate(program, prefix)
    if path is None:
        where = "on the system" if prefix is None else f"below {prefix}"
        raise EngineError(f"there is no {program} {where}; install OVN with `{INSTALL_COMMAND}`")
    if prefix is None:
        return (str(path),)
    if program in _PYTHON_PROGRAMS:
        # Its own interpreter was built for another C library; any Python 3 runs the script.
        modules = prefix / PYTHON_MODULES
        return ("/usr/bin/env", f"PYTHONPATH={modules}", sys.executable, str(path))
    return (*_loader(prefix, program), str(path))


def _loader(prefix: Path, program: str) -> tuple[str, ...]:
    """Return how to start a program with the C library below `prefix`, ld.so(8).

    The loader is in the multiarch directory, `lib/x86_64-linux-gnu/ld-linux-x86-64.so.2` on amd64.
    A prefix without one holds programs built for this machine, which are started as they are.
    """
    multiarch = [path for below in ("usr/lib", "lib") for path in prefix.glob(f"{below}/*-linux-*")]
    loaders = [path for directory in multiarch for path in directory.glob("ld*.so.[0-9]")]
    if not loaders:
        return ()
    libraries = ":".join(str(path) for path in multiarch)
    return (str(loaders[0]), "--argv0", program, "--library-path", libraries)
