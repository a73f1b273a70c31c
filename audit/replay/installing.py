"""A private OVN, made of the distribution's packages: without root, and the system is not touched.

Each is of one suite, the oldest that has an OVN which is new enough. Some suites move on, so the
one that was installed says itself which release it is.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from audit import scratch
from audit.errors import EngineError
from audit.replay import apt
from audit.replay.toolchain import (
    PYTHON_MODULES,
    Toolchain,
    Version,
    default_prefix,
    home,
    locate,
    private_places,
    version_of,
)

PACKAGES = ("ovn-central", "ovn-host", "openvswitch-switch", "python3-openvswitch")
"""Debian's and Ubuntu's names for everything in `PROGRAMS`; the last is what ovn-detrace imports,
and no package of OVN's depends on it."""

_OVS_MODULE = "ovs"


def install(
    prefix: Path | None = None, *, needed: str = "", progress: Callable[[str], None]
) -> Toolchain:
    """Install OVN from the distribution's packages and return it; at once if it is there.

    It is the oldest there is that is not older than `needed`. Without a `prefix` it goes to a place
    of its own, beside others.
    """
    wanted = Version.parse(needed)
    if prefix is not None:
        places = [prefix.absolute()]
    else:
        places = [default_prefix()] if wanted is None else list(private_places())
    for directory in places:
        if locate("ovn-trace", directory) is None:
            continue
        installed = Toolchain(version_of(directory), directory)
        if wanted is None or installed.version.can_trace(wanted):
            if _lacks_modules(directory):
                _add_modules(directory, progress=progress)
            return installed
        if prefix is not None:
            raise EngineError(
                f"{directory} holds OVN {installed.version}, and {wanted} or newer is needed: name "
                "another directory"
            )
    return _install(places[0] if prefix is not None else None, wanted, progress)


def _install(
    prefix: Path | None, wanted: Version | None, progress: Callable[[str], None]
) -> Toolchain:
    """Install OVN below `prefix`, or at a place of its own.

    It appears complete or not at all: packages are unpacked beside where they go, and renamed once
    `ovn-trace` there has said its version.
    """
    above = home() if prefix is None else prefix.parent
    try:
        if prefix is not None:
            _require_room(prefix)
        above.mkdir(parents=True, exist_ok=True)
        scratch.sweep(above)
        with scratch.directory("ovn", above) as work:
            root = work / "root"
            first = _unpack_packages(root, work, wanted=wanted, progress=progress)
            version = version_of(root)
            named = default_prefix() if first else home() / f"ovn-{version.release}"
            target = prefix or named
            _require_room(target)
            if locate("ovn-trace", target) is None:  # else another installation was quicker
                root.rename(target)
    except OSError as error:
        raise EngineError(f"OVN cannot be installed in {prefix or above}: {error}") from error
    progress(f"OVN {version} is in {target}")
    return Toolchain(version, target)


def _require_room(directory: Path) -> None:
    """Refuse a place where something else is."""
    if locate("ovn-trace", directory) is not None or not directory.exists():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise EngineError(f"{directory} exists and holds no OVN: remove it or name another place")


def _lacks_modules(prefix: Path) -> bool:
    """Whether a prefix made of packages has an ovn-detrace without what it imports.

    No package of OVN's depends on its Python modules, so a prefix may have been made without.
    """
    modules = prefix / PYTHON_MODULES
    return (
        modules.is_dir()
        and locate("ovn-detrace", prefix) is not None
        and not (modules / _OVS_MODULE).is_dir()
    )


def _add_modules(prefix: Path, *, progress: Callable[[str], None]) -> None:
    """Add Python modules to a prefix; the one that is looked for comes last, and whole."""
    try:
        with scratch.directory("ovn", prefix.parent) as work:
            root = work / "root"
            _unpack_packages(root, work, wanted=version_of(prefix), progress=progress)
            fresh = (root / PYTHON_MODULES).iterdir()
            for module in sorted(fresh, key=lambda path: path.name == _OVS_MODULE):
                if not (prefix / PYTHON_MODULES / module.name).exists():
                    module.rename(prefix / PYTHON_MODULES / module.name)
    except OSError as error:
        raise EngineError(f"{prefix} cannot be completed: {error}") from error


def _unpack_packages(
    root: Path, work: Path, *, wanted: Version | None, progress: Callable[[str], None]
) -> bool:
    """Unpack OVN's packages into `root`, of the first suite whose OVN is not older than `wanted`.

    Returns whether that is the first of all; when there is none, says what else can be done.
    """

    def check(version: Version | None) -> None:
        if wanted is not None and version is not None and not version.can_trace(wanted):
            raise EngineError(f"its OVN is {version}, and {wanted} or newer is needed")

    try:
        os_release = Path("/etc/os-release").read_text(encoding="utf-8")
        source = apt.distribution(apt.parse_os_release(os_release))
        return _fetch(root, work, source, check, progress) == source.suites[0]
    except EngineError as error:
        raise EngineError(
            f"a private OVN could not be installed: {error}\n"
            f"install the distribution's own with `apt-get install {' '.join(PACKAGES)}`, "
            "or name a directory that holds a newer OVN with --ovn-prefix"
        ) from error


def _fetch(
    root: Path,
    work: Path,
    source: apt.Distribution,
    check: Callable[[Version | None], None],
    progress: Callable[[str], None],
) -> str:
    """Unpack the packages of the first suite that passes a check into `root`; return its name."""
    failures: list[str] = []
    for suite in source.suites:
        try:
            apt.fetch(
                PACKAGES,
                root,
                work / suite,
                wanted=source,
                suite=suite,
                check=lambda offered: check(Version.parse(offered)),
                progress=progress,
            )
            check(version_of(root))
        except EngineError as error:
            failures.append(f"{suite}: {error}")
            progress(failures[-1])
            shutil.rmtree(root, ignore_errors=True)
        else:
            return suite
    raise EngineError("; ".join(failures))
