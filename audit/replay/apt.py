"""Distribution packages unpacked into a directory: an OVN beside the machine's own.

Nothing here changes the system. `apt-get` gets package lists, a state and a cache of its own, and
an empty dpkg status, so that it downloads a program's whole closure, the C library included;
`dpkg-deb -x` unpacks it. Every package comes from the mirror the machine already uses and is
verified by apt against the distribution's own archive key: apt refuses an unsigned repository, and
nothing is unpacked that apt did not download. How the machine's own apt verifies does not matter:
of its configuration, only how a mirror is reached is taken over.
"""

import os
import re
import shutil
import stat
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audit.errors import EngineError

UPDATE_TIMEOUT_S = 600
DOWNLOAD_TIMEOUT_S = 1800
"""Some 40 MB: half an hour is a 25 kB/s line."""
UNPACK_TIMEOUT_S = 120
QUERY_TIMEOUT_S = 30

PRUNED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/zoneinfo")
"""What no program of ours reads; a third of the files."""

LISTING = "packages.txt"
"""What was unpacked, a package a line: nothing else tells when there is a security update."""

SUITE_ALIASES = frozenset({"stable", "oldstable", "testing", "unstable", "sid"})
"""What Debian's mirrors call their releases besides their code names."""

DEBIAN_SUITES = ("trixie", "sid")
"""Debian's suites that have an OVN, oldest first: trixie stays at 25.03, sid (26.03 in November
2026) moves on. Testing has none, and bookworm's is older than any current cluster's."""

UBUNTU_RELEASES = ("jammy", "noble", "questing", "resolute")
"""Ubuntu's releases, oldest first: OVN 22.03, 24.03, 25.09 and 26.03. Mirrors drop those that are
no longer supported."""

REACHING = re.compile(
    r"Acquire::(?:(?:https?|ftp)::.+|ForceIPv[46]|Check-Valid-Until|Check-Date|M(?:ax|in)-ValidTime.*)"
)
"""The settings of the machine's apt that are taken over: proxies, certificates and time limits, and
whether an index may be old, which frozen mirrors need. None says whose signature is believed, which
program checks it, or what is run before and after."""

VERIFYING = {
    "Acquire::AllowInsecureRepositories": "0",
    "Acquire::AllowWeakRepositories": "0",
    "Acquire::AllowDowngradeToInsecureRepositories": "0",
    "APT::Get::AllowUnauthenticated": "0",
}
"""What apt does by itself, said once more: a derivative's may have been built otherwise."""

OWN_SETTINGS = 'Dir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n'
"""A configuration that apt reads before the machine's, and which leaves that out."""

FOREIGN_SETTINGS = ("APT_", "SEQUOIA_")
"""Variables of the environment that change what apt, or the program it verifies with, believes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One `deb` entry of apt's configuration, one-line or deb822, one URI and one suite."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What to ask a distribution's mirror for, and whose signature to believe."""

    release: str
    """The running release: its entry in apt's configuration names the mirror."""
    suites: tuple[str, ...]
    """Where packages may come from, oldest first; the first is what is taken where any will do."""
    components: tuple[str, ...]
    keyring: Path
    pockets: tuple[str, ...] = ("",)
    """What is added to a suite's name for all parts of it."""


class Apt(Protocol):
    """A program of apt's, run on lists and packages of its own."""

    def __call__(self, program: str, *words: str, timeout_s: float) -> str:
        """Return what it prints; EngineError with its last words when it fails."""


def distribution(os_release: Mapping[str, str]) -> Distribution:
    """Return where packages come from on the machine `os_release` (os-release(5)) describes.

    On Ubuntu that is the running release, then those after it that are known.
    """
    release = os_release.get("VERSION_CODENAME", "")
    match os_release.get("ID"):
        case "debian":
            return Distribution(
                release=release,
                suites=DEBIAN_SUITES,
                components=("main",),
                keyring=Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
            )
        case "ubuntu":
            return Distribution(
                release=release,
                suites=(release, *_after(release, UBUNTU_RELEASES)),
                components=("main", "universe"),
                keyring=Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
                pockets=("", "-updates"),
            )
        case other:
            raise EngineError(
                f"OVN can be installed here only on Debian and Ubuntu; this is {other or 'neither'}"
            )


def _after(release: str, releases: tuple[str, ...]) -> tuple[str, ...]:
    """Return the releases after one; none when it is not known."""
    return releases[releases.index(release) + 1 :] if release in releases else ()


def parse_os_release(text: str) -> dict[str, str]:
    """Read `NAME="value"` lines, as in /etc/os-release."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def parse_sources_list(text: str) -> Iterator[Source]:
    """Read the one-line style of sources.list(5).

    >>> deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror/debian bookworm main
    """
    for line in text.splitlines():
        kind, _, rest = line.split("#", 1)[0].strip().partition(" ")
        if kind != "deb":
            continue
        options = ""
        rest = rest.strip()
        if rest.startswith("["):
            options, _, rest = rest[1:].partition("]")
        words = rest.split()
        if len(words) < 2:  # noqa: PLR2004  a URI and a suite, sources.list(5)
            continue
        settings = dict(pair.split("=", 1) for pair in options.split() if "=" in pair)
        yield Source(
            uri=words[0],
            suite=words[1],
            components=tuple(words[2:]),
            signed_by=settings.get("signed-by", ""),
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """Read the deb822 style of sources.list(5): stanzas of fields, blank lines between them.

    >>> Types: deb
    >>> URIs: http://mirror/debian
    >>> Suites: bookworm bookworm-updates
    >>> Components: main
    """
    for fields in _stanzas(text):
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(
                    uri=uri,
                    suite=suite,
                    components=tuple(fields.get("components", "").split()),
                    signed_by=fields.get("signed-by", ""),
                )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield each stanza's fields by lower-case name; continuation lines are joined by a space."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}".strip()
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def mirrors(sources: Sequence[Source], wanted: Distribution) -> tuple[str, ...]:
    """Return the URIs that serve the running release, likeliest first.

    Many third-party repositories call their suite after the release and their component `main`.
    Their signing key shows which those are; of the rest, the distribution's own mirror
    also serves `…-updates`. A wrong guess costs a refused signature, never a package.
    """
    names = {source.suite.rstrip("/") for source in sources}
    suites = {wanted.release} if wanted.release in names else SUITE_ALIASES
    serving = [
        source
        for source in sources
        if source.suite.rstrip("/") in suites
        and "main" in source.components
        and not source.uri.startswith("cdrom:")
        and (not source.signed_by or wanted.keyring.stem in source.signed_by)
    ]
    updated = {source.uri for source in sources if source.suite.endswith("-updates")}
    ranked = sorted(serving, key=lambda source: (source.uri not in updated, not source.signed_by))
    return tuple(dict.fromkeys(source.uri for source in ranked))


def configured_sources(etc: Path = Path("/etc/apt")) -> list[Source]:
    """Read every source apt is configured with below `etc`; unreadable files are passed over."""
    sources: list[Source] = []
    main = etc / "sources.list"
    parts = etc / "sources.list.d"
    for path in [main, *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        sources.extend(
            parse_deb822(text) if path.suffix == ".sources" else parse_sources_list(text)
        )
    return sources


def fetch(
    packages: Sequence[str],
    root: Path,
    work: Path,
    *,
    wanted: Distribution,
    suite: str,
    check: Callable[[str], None],
    progress: Callable[[str], None],
) -> None:
    """Unpack a suite's `packages` and everything they depend on into the directory `root`.

    `work` is an existing directory for lists and downloads; the caller removes it. `check` is given
    the version of the first package that the suite has, before anything is downloaded, and raises
    EngineError where that will not do.
    """
    for program in ("apt-get", "apt-cache", "dpkg-deb", "dpkg"):
        if shutil.which(program) is None:
            raise EngineError(f"{program} is missing: OVN can be installed only where apt is")
    if not wanted.keyring.is_file():
        raise EngineError(f"{wanted.keyring} is missing: packages could not be verified")
    uris = mirrors(configured_sources(), wanted)
    if not uris:
        raise EngineError(f"apt's configuration names no mirror for {wanted.release} (main)")
    failures: list[str] = []
    for number, uri in enumerate(uris):
        area = work / str(number)
        try:
            apt = _update(uri, area, wanted=wanted, suite=suite, progress=progress)
            check(_offered(apt, packages[0]))
            progress(f"downloading {', '.join(packages)} and what they need")
            words = ("--download-only", "install", *packages)
            apt("apt-get", *words, timeout_s=DOWNLOAD_TIMEOUT_S)
        except EngineError as error:
            failures.append(str(error))
            continue
        _unpack(sorted((area / "cache/archives").glob("*.deb")), root, progress=progress)
        return
    raise EngineError("\n".join(failures))


def _update(
    uri: str,
    area: Path,
    *,
    wanted: Distribution,
    suite: str,
    progress: Callable[[str], None],
) -> Apt:
    """Read a suite's package lists from `uri` into `area`.

    Returns how a program of apt's is run on these; packages go to `area`/cache/archives.
    """
    for name in ("state/lists/partial", "cache/archives/partial"):
        (area / name).mkdir(parents=True)
    (area / "status").touch()
    architecture = _run(["dpkg", "--print-architecture"], QUERY_TIMEOUT_S).strip()
    source = f"[signed-by={wanted.keyring} arch={architecture} target=Packages]"
    components = " ".join(wanted.components)
    suites = (f"{suite}{pocket}" for pocket in wanted.pockets)
    lines = [f"deb {source} {uri} {name} {components}\n" for name in suites]
    (area / "sources.list").write_text("".join(lines), encoding="utf-8")
    configuration = area / "apt.conf"
    configuration.write_text(OWN_SETTINGS, encoding="utf-8")
    options = _apt_options(area)

    def apt(program: str, *words: str, timeout_s: float) -> str:
        return _run([program, "-q", *options, *words], timeout_s, configuration)

    progress(f"reading the package lists of {suite} from {uri}")
    apt("apt-get", "update", timeout_s=UPDATE_TIMEOUT_S)
    return apt


def _offered(apt: Apt, package: str) -> str:
    """Return the version of a package that would be installed; EngineError when there is none."""
    words = ("show", "--no-all-versions", package)
    for fields in _stanzas(apt("apt-cache", *words, timeout_s=QUERY_TIMEOUT_S)):
        if version := fields.get("version"):
            return version
    raise EngineError(f"there is no {package}")


def _apt_options(area: Path) -> list[str]:
    """Return the options that keep apt inside `area` and away from the machine's own state."""
    settings = {
        **_reaching(),
        "Dir::Etc::sourcelist": str(area / "sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
        # The machine's pins name suites this list does not have.
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": str(area / "state"),
        # Empty: nothing counts as installed, so the closure is complete.
        "Dir::State::status": str(area / "status"),
        "Dir::Cache": str(area / "cache"),
        "APT::Install-Recommends": "0",
        "APT::Get::Assume-Yes": "1",
        # Without it a failed download of a list is a warning, and the installation runs on nothing.
        "APT::Update::Error-Mode": "any",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "1",
        # `_apt`, to whom root's apt drops its rights, cannot write below another's home.
        "APT::Sandbox::User": "root",
        **VERIFYING,
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _reaching() -> dict[str, str]:
    """Return the machine's settings that a mirror may be reachable only with."""
    dump = _run(["apt-config", "dump", "--no-empty", "--format", "%f %v%n"], QUERY_TIMEOUT_S)
    settings = (line.partition(" ") for line in dump.splitlines())
    return {name: value for name, _, value in settings if REACHING.fullmatch(name)}


def _unpack(archives: Sequence[Path], root: Path, *, progress: Callable[[str], None]) -> None:
    """Unpack each archive into `root` and drop what no program reads."""
    if not archives:
        raise EngineError("apt-get downloaded no package")
    size_mb = sum(archive.stat().st_size for archive in archives) / 1e6
    progress(f"unpacking {len(archives)} packages ({size_mb:.0f} MB)")
    root.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        _run(["dpkg-deb", "-x", str(archive), str(root)], UNPACK_TIMEOUT_S)
    for name in PRUNED:
        shutil.rmtree(root / name, ignore_errors=True)
    _disarm(root)
    # apt's names of files: package_version_architecture, with a version's colon encoded.
    listed = (urllib.parse.unquote(archive.stem).replace("_", " ") for archive in archives)
    (root / LISTING).write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")


def _disarm(root: Path) -> None:
    """Take set-user-id and set-group-id from every file below `root`.

    The closure brings `mount`, `passwd` and their like. Nothing here runs them, and no security
    update would ever reach them.
    """
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def _run(argv: Sequence[str], timeout_s: float, configuration: Path | None = None) -> str:
    """Return what `argv` prints; EngineError with its last words when it fails.

    `configuration` is what apt reads before the machine's settings.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_SETTINGS)}
    if configuration is not None:
        environment["APT_CONFIG"] = str(configuration)
    try:
        done = subprocess.run(  # noqa: S603  an argument vector of our own making, no shell
            argv,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env=environment | {"LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{argv[0]} did not finish within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        last = "; ".join(errors or done.stderr.splitlines()[-3:])
        raise EngineError(f"{argv[0]} failed ({done.returncode}): {last}")
    return done.stdout
