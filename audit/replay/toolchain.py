"""An OVN to trace with: the machine's own, or a newer one in a private prefix.

An `ovn-trace` older than the database it reads does not fail: it drops the logical flows it cannot
parse, reports everything as undelivered and exits 0. So the version of every zone's `ovn-northd` is
compared with the programs at hand before anything is traced (`choose`), and a machine whose OVN is
too old gets a newer one beside it (`install`), unpacked from its distribution's packages and run
through its own loader and C library. Nothing of that needs root or touches the system.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from audit.errors import EngineError
from audit.replay import apt

INSTALL_COMMAND = "audit doctor --install-ovn"
PACKAGES = ("ovn-central", "ovn-host", "openvswitch-switch", "python3-openvswitch")
"""Debian's and Ubuntu's names for everything in `PROGRAMS`; the last is what ovn-detrace imports,
and no package of OVN's depends on it."""

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
_PYTHON_MODULES = "usr/lib/python3/dist-packages"
_OVS_MODULE = "ovs"
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

        Reads `ovn-trace --version` ("ovn-trace 25.03.0 …") and `NB_Global`'s
        `northd_internal_version` ("25.03.0-20.41.0-77.6": OVN, schema, internal).
        """
        found = re.search(r"(?<![\d.])(\d+)\.(\d+)\.(\d+)(?![\d.])", text)
        return cls(*(int(part) for part in found.groups())) if found else None

    def can_trace(self, database: "Version") -> bool:
        """Whether this `ovn-trace` understands what that release's `ovn-northd` wrote.

        Logical flows change with year and month; patch releases do not change them.
        """
        return (self.major, self.minor) >= (database.major, database.minor)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor:02}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One installed OVN: the system's (`prefix` is None) or one below a directory.

    A plain value, so that it can be sent to the workers that trace.
    """

    version: Version
    prefix: Path | None = None

    @property
    def place(self) -> str:
        """Where it is, as a reader is told."""
        return "the system" if self.prefix is None else str(self.prefix)

    def argv(self, program: str, *args: str) -> tuple[str, ...]:
        """Return the command that runs `program` with `args`."""
        return (*_command(program, self.prefix), *args)

    def has(self, program: str) -> bool:
        """Whether `program` is there: a machine may have OVN's central half only."""
        return _locate(program, self.prefix) is not None

    def schema(self, name: str) -> Path:
        """Return the path of an OVSDB schema, one of `SCHEMAS`."""
        root = Path("/usr") if self.prefix is None else self.prefix
        shares = (root / "usr/share", root / "share", root / "local/share")
        for share in shares:
            path = share / SCHEMAS[name] / name
            if path.is_file():
                return path
        raise EngineError(f"{name} is missing from OVN {self.version} ({self.place})")

    def environment(self, rundir: Path) -> dict[str, str]:
        """Return the variables that keep a daemon's sockets, databases and logs in `rundir`."""
        return dict.fromkeys(RUN_DIRECTORY_VARIABLES, str(rundir))


def default_prefix() -> Path:
    """Return where a private OVN is installed unless another place is named."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data) / "ovn-audit" / "ovn"


def find(prefix: Path | None = None) -> list[Toolchain]:
    """Return the OVN installations at hand in order of preference.

    A named `prefix` is the only candidate, and it is an error when it holds no OVN. Otherwise the
    system's comes first, then the private one at its default place; one that does not run is passed
    over as long as another does.
    """
    if prefix is not None:
        return [Toolchain(version_of(prefix), prefix.absolute())]
    found: list[Toolchain] = []
    broken: list[EngineError] = []
    for place in (None, default_prefix()):
        try:
            if _locate("ovn-trace", place) is not None:
                found.append(Toolchain(version_of(place), place))
        except OSError as error:
            broken.append(EngineError(f"OVN cannot be looked for in {place}: {error.strerror}"))
        except EngineError as error:
            broken.append(error)
    if broken and not found:
        raise broken[0]
    return found


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
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise EngineError(f"{argv[-2]} does not say its version: {said}")
    return version


def choose(candidates: Sequence[Toolchain], needed: Mapping[str, str]) -> Toolchain:
    """Return the first candidate that is not older than any zone's database.

    `needed` maps a zone to its `northd_internal_version`. Where a zone does not say, only the
    newest candidate is as safe as can be: newer programs read older databases, never the reverse.
    """
    if not candidates:
        raise EngineError(
            f"OVN is not installed here: no ovn-trace on the system or in {default_prefix()}; "
            f"install one with `{INSTALL_COMMAND}`"
        )
    versions = {zone: Version.parse(text) for zone, text in sorted(needed.items())}
    stated = {zone: version for zone, version in versions.items() if version is not None}
    fit = [
        candidate
        for candidate in candidates
        if all(candidate.version.can_trace(database) for database in stated.values())
    ]
    if not fit:
        raise EngineError(_too_old(candidates, stated))
    if len(stated) < len(versions) or not versions:
        return max(fit, key=lambda candidate: candidate.version)
    return fit[0]


def _too_old(candidates: Sequence[Toolchain], databases: Mapping[str, Version]) -> str:
    """Say which zone is newer than every candidate, and what to do."""
    newest = max(databases, key=lambda zone: databases[zone])
    found = ", ".join(f"{candidate.version} ({candidate.place})" for candidate in candidates)
    others = sum(
        not any(candidate.version.can_trace(version) for candidate in candidates)
        for zone, version in databases.items()
        if zone != newest
    )
    more = f" (and {others} more)" if others else ""
    if all(candidate.prefix is None for candidate in candidates):
        advice = f"install a newer one with `{INSTALL_COMMAND}`"
    else:  # what that command installs is among the candidates already
        advice = f"name a directory that holds OVN {databases[newest]} or newer with --ovn-prefix"
    return (
        f"the database of zone {newest}{more} was made by OVN {databases[newest]}, and an older "
        f"ovn-trace reports everything in it as undelivered; found here: {found}; {advice}"
    )


def install(prefix: Path, *, progress: Callable[[str], None]) -> Toolchain:
    """Install OVN below `prefix` from the distribution's packages; return it.

    Returns at once when it is there and works. It appears complete or not at all: packages are
    unpacked beside `prefix` and renamed into place once `ovn-trace` there has said its version.
    One that lacks what ovn-detrace imports is given that.
    """
    prefix = prefix.absolute()
    if _locate("ovn-trace", prefix) is not None:
        found = Toolchain(version_of(prefix), prefix)
        if _lacks_modules(prefix):
            _add_modules(prefix, progress=progress)
        return found
    if prefix.exists() and (not prefix.is_dir() or any(prefix.iterdir())):
        raise EngineError(f"{prefix} exists and holds no OVN: remove it or name another place")
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=prefix.parent, prefix=f".{prefix.name}-", ignore_cleanup_errors=True
        ) as work:
            root = Path(work) / "root"
            _unpack_packages(root, Path(work), progress=progress)
            version = version_of(root)
            if _locate("ovn-trace", prefix) is None:  # else another installation was quicker
                root.rename(prefix)
    except OSError as error:
        raise EngineError(f"OVN cannot be installed in {prefix}: {error}") from error
    progress(f"OVN {version} is in {prefix}")
    return Toolchain(version, prefix)


def _lacks_modules(prefix: Path) -> bool:
    """Whether a prefix made of packages has an ovn-detrace without what it imports.

    No package of OVN's depends on its Python modules, so a prefix may have been made without.
    """
    modules = prefix / _PYTHON_MODULES
    return (
        modules.is_dir()
        and _locate("ovn-detrace", prefix) is not None
        and not (modules / _OVS_MODULE).is_dir()
    )


def _add_modules(prefix: Path, *, progress: Callable[[str], None]) -> None:
    """Add Python modules to a prefix; the one that is looked for comes last, and whole."""
    try:
        with tempfile.TemporaryDirectory(
            dir=prefix.parent, prefix=f".{prefix.name}-", ignore_cleanup_errors=True
        ) as work:
            root = Path(work) / "root"
            _unpack_packages(root, Path(work), progress=progress)
            fresh = (root / _PYTHON_MODULES).iterdir()
            for module in sorted(fresh, key=lambda path: path.name == _OVS_MODULE):
                if not (prefix / _PYTHON_MODULES / module.name).exists():
                    module.rename(prefix / _PYTHON_MODULES / module.name)
    except OSError as error:
        raise EngineError(f"{prefix} cannot be completed: {error}") from error


def _unpack_packages(root: Path, work: Path, *, progress: Callable[[str], None]) -> None:
    """Unpack OVN's packages into `root`; when that fails, say what else can be done."""
    try:
        os_release = Path("/etc/os-release").read_text(encoding="utf-8")
        wanted = apt.distribution(apt.parse_os_release(os_release))
        apt.fetch(PACKAGES, root, work, wanted=wanted, progress=progress)
    except EngineError as error:
        raise EngineError(
            f"a private OVN could not be installed: {error}\n"
            f"install the distribution's own with `apt-get install {' '.join(PACKAGES)}`, "
            "or name a directory that holds a newer OVN with --ovn-prefix"
        ) from error


def _locate(program: str, prefix: Path | None) -> Path | None:
    """Return the path of `program`, or None when it is not installed there."""
    if prefix is None:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_SBIN))
        found = shutil.which(program, path=path)
        return Path(found) if found else None
    for directory in _PROGRAM_DIRECTORIES:
        path_below = prefix / directory / program
        if path_below.is_file():
            return path_below
    return None


def _command(program: str, prefix: Path | None) -> tuple[str, ...]:
    """Return the argument vector that starts `program`, without its arguments."""
    path = _locate(program, prefix)
    if path is None:
        place = "on the system" if prefix is None else f"below {prefix}"
        raise EngineError(f"there is no {program} {place}; install OVN with `{INSTALL_COMMAND}`")
    if prefix is None:
        return (str(path),)
    if program in _PYTHON_PROGRAMS:
        # Its own interpreter was built for another C library; any Python 3 runs the script.
        modules = prefix / _PYTHON_MODULES
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
