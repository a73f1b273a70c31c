import pickle
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from audit.errors import EngineError, NoEngineError
from audit.replay import apt, installing, toolchain
from audit.replay.toolchain import Toolchain, Version

BOOKWORM = Toolchain(Version(23, 3, 1))
TRIXIE = Toolchain(Version(25, 3, 0), Path("/srv/ovn"))

OLD_DATABASE = "23.03.1-20.27.0-70.6"
NEW_DATABASE = "25.03.0-20.41.0-77.6"
NEWER_DATABASE = "25.09.2-21.5.0-81.10"

SID = Toolchain(Version(26, 3, 1), Path("/srv/ovn-26.03"))
DEBIAN = apt.distribution({"ID": "debian", "VERSION_CODENAME": "bookworm"})
OFFERED = {"trixie": "25.03.0-1+deb13u1", "sid": "26.03.1-2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "ovn-trace 25.03.0\nOpen vSwitch Library 3.5.0\nDB Schema 20.41.0",
            Version(25, 3, 0),
            id="ovn-trace --version",
        ),
        pytest.param(NEW_DATABASE, Version(25, 3, 0), id="northd_internal_version"),
        pytest.param("26.03", Version(26, 3, 0), id="a release"),
        pytest.param("2.12.0", Version(2, 12, 0), id="before the year-month releases"),
        pytest.param("", None, id="a zone that does not say"),
        pytest.param("unknown", None, id="no number"),
    ],
)
def test_a_version_is_read_from_what_ovn_prints(text: str, expected: Version | None) -> None:
    assert Version.parse(text) == expected


def test_versions_are_ordered_by_number_and_printed_as_ovn_prints_them() -> None:
    assert Version(23, 9, 0) < Version(23, 12, 0) < Version(24, 3, 0) < Version(24, 3, 1)
    assert str(Version(24, 3, 1)) == "24.03.1"


@pytest.mark.parametrize(
    ("engine", "database", "expected"),
    [
        (Version(24, 3, 0), Version(24, 3, 4), True),
        (Version(24, 9, 0), Version(24, 3, 4), True),
        (Version(25, 3, 0), Version(24, 9, 0), True),
        (Version(24, 3, 9), Version(24, 9, 0), False),
        (Version(23, 12, 0), Version(24, 3, 0), False),
    ],
)
def test_an_engine_may_be_newer_than_a_database_or_a_patch_older(
    engine: Version, database: Version, *, expected: bool
) -> None:
    assert engine.can_trace(database) is expected


def test_the_system_is_preferred_while_it_is_new_enough() -> None:
    assert toolchain.choose([BOOKWORM, TRIXIE], {"a": OLD_DATABASE}) == BOOKWORM


def test_one_newer_zone_is_enough_to_need_the_private_one() -> None:
    assert toolchain.choose([BOOKWORM, TRIXIE], {"a": OLD_DATABASE, "b": NEW_DATABASE}) == TRIXIE


@pytest.mark.parametrize("needed", [{"a": ""}, {"a": OLD_DATABASE, "b": ""}])
def test_an_unknown_database_gets_the_newest_engine_if_it_is_not_older_than_any(
    needed: dict[str, str],
) -> None:
    assert toolchain.choose([BOOKWORM, TRIXIE, SID], needed) == SID
    with pytest.raises(NoEngineError, match=r"does not say which OVN made it") as refused:
        toolchain.choose([BOOKWORM, TRIXIE], needed)
    assert "only OVN 26.03 or newer" in str(refused.value)
    assert refused.value.needed == "26.03.0"


def test_an_engine_that_is_too_old_is_refused_with_the_command_that_helps() -> None:
    needed = {"node-a": OLD_DATABASE, "node-b": NEWER_DATABASE, "node-c": NEWER_DATABASE}
    with pytest.raises(EngineError) as refused:
        toolchain.choose([BOOKWORM], needed)
    for part in (
        "zone node-b (and 1 more)",
        "OVN 25.09.2",
        "23.03.1 (the system)",
        "`audit doctor --install-ovn`",
    ):
        assert part in str(refused.value)


def test_what_is_needed_is_what_the_newest_zone_needs() -> None:
    for candidates in ([], [BOOKWORM, TRIXIE]):
        with pytest.raises(NoEngineError) as refused:
            toolchain.choose(candidates, {"a": OLD_DATABASE, "b": NEWER_DATABASE})
        assert refused.value.needed == "25.09.2"
    with pytest.raises(NoEngineError) as refused:
        toolchain.choose([], {"a": ""})
    assert refused.value.needed == "26.03.0"


def test_no_engine_at_all_is_refused_with_the_command_that_helps() -> None:
    with pytest.raises(EngineError, match=r"not installed.*`audit doctor --install-ovn`"):
        toolchain.choose([], {"a": ""})


def test_a_newer_database_without_a_private_engine_is_refused() -> None:
    with pytest.raises(EngineError, match=r"zone a was made by OVN 25\.03\.0"):
        toolchain.choose([BOOKWORM], {"a": NEW_DATABASE})


def test_the_default_place_follows_the_xdg_base_directories(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert toolchain.default_prefix() == Path("/data/ovn-audit/ovn")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert toolchain.default_prefix() == Path("/home/ada/.local/share/ovn-audit/ovn")


def _say_version(prefix: Path, version: str) -> None:
    _plant(prefix, "usr/bin/ovn-trace", f"#!/bin/sh\necho ovn-trace {version}\n")


def test_all_that_are_at_hand_are_found_the_systems_first_then_the_oldest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'system/usr/bin'}:/bin")
    _say_version(tmp_path / "system", "25.09.1")
    _say_version(tmp_path / "ovn-audit/ovn-26.03", "26.03.1")
    _say_version(tmp_path / "ovn-audit/ovn", "25.03.0")
    _say_version(tmp_path / "ovn-audit/ovn-24.03", "broken")
    (tmp_path / "ovn-audit/.ovn-half").mkdir()
    assert [(str(found.version), found.prefix) for found in toolchain.find()] == [
        ("25.09.1", None),
        ("25.03.0", tmp_path / "ovn-audit/ovn"),
        ("26.03.1", tmp_path / "ovn-audit/ovn-26.03"),
    ]


def test_a_home_that_may_not_be_read_is_said_and_not_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(EngineError, match=rf"cannot be looked for in {tmp_path}.*denied"):
        toolchain.find()


def test_a_named_prefix_without_ovn_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no ovn-trace below"):
        toolchain.find(tmp_path)


def _plant(prefix: Path, path: str, text: str) -> Path:
    program = prefix / path
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)
    return program


def test_a_prefix_with_its_own_loader_runs_through_it(tmp_path: Path) -> None:
    libraries = "usr/lib/aarch64-linux-gnu"
    loader = _plant(tmp_path, f"{libraries}/ld-linux-aarch64.so.1", "")
    daemon = _plant(tmp_path, "usr/lib/openvswitch-switch/ovs-vswitchd", "")
    assert Toolchain(Version(25, 3, 0), tmp_path).argv("ovs-vswitchd", "--detach") == (
        str(loader),
        "--argv0",
        "ovs-vswitchd",
        "--library-path",
        str(tmp_path / libraries),
        str(daemon),
        "--detach",
    )


def test_a_prefix_built_from_source_runs_as_it_is(tmp_path: Path) -> None:
    program = _plant(tmp_path, "bin/ovn-trace", "#!/bin/sh\necho ovn-trace 26.03.0\n")
    (found,) = toolchain.find(tmp_path)
    assert found == Toolchain(Version(26, 3, 0), tmp_path)
    assert found.argv("ovn-trace") == (str(program),)


def test_a_program_that_does_not_say_its_version_is_an_error(tmp_path: Path) -> None:
    _plant(tmp_path, "bin/ovn-trace", "#!/bin/sh\necho broken >&2\nexit 127\n")
    with pytest.raises(EngineError, match="does not say its version: broken"):
        toolchain.find(tmp_path)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    engine = Toolchain(Version(25, 3, 0), tmp_path)
    assert not engine.has("ovs-vswitchd")
    with pytest.raises(EngineError, match="there is no ovs-vswitchd below"):
        engine.argv("ovs-vswitchd")
    with pytest.raises(EngineError, match=r"ovn-sb\.ovsschema is missing"):
        engine.schema("ovn-sb.ovsschema")


def test_a_toolchain_survives_the_way_to_a_worker() -> None:
    assert pickle.loads(pickle.dumps(TRIXIE)) == TRIXIE  # noqa: S301  our own bytes


def test_a_daemon_is_kept_in_its_run_directory() -> None:
    assert TRIXIE.environment(Path("/run/x")) == {
        "OVN_RUNDIR": "/run/x",
        "OVS_RUNDIR": "/run/x",
        "OVN_DBDIR": "/run/x",
        "OVS_DBDIR": "/run/x",
        "OVN_LOGDIR": "/run/x",
        "OVS_LOGDIR": "/run/x",
    }


def test_installing_where_something_else_is_is_refused(tmp_path: Path) -> None:
    (tmp_path / "diary").touch()
    with pytest.raises(EngineError, match="exists and holds no OVN"):
        installing.install(tmp_path, progress=lambda _: None)
    assert (tmp_path / "diary").exists()


def _mirror(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> list[str]:
    """Stand in for a mirror that has these versions by suite; return the suites downloaded."""
    downloaded: list[str] = []

    def fetch(
        _packages: Sequence[str],
        root: Path,
        _work: Path,
        *,
        suite: str,
        check: Callable[[str], None],
        **_options: object,
    ) -> None:
        check(versions[suite])
        downloaded.append(suite)
        _say_version(root, versions[suite].partition("-")[0])

    monkeypatch.setattr("audit.replay.apt.fetch", fetch)
    monkeypatch.setattr("audit.replay.apt.distribution", lambda _: DEBIAN)
    return downloaded


def test_the_oldest_suite_that_is_new_enough_is_installed_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    downloaded = _mirror(monkeypatch, OFFERED)
    said: list[str] = []
    newer = installing.install(needed=NEWER_DATABASE, progress=said.append)
    assert newer == Toolchain(Version(26, 3, 1), tmp_path / "ovn-audit/ovn-26.03")
    assert said[0] == "trixie: its OVN is 25.03.0, and 25.09.2 or newer is needed"
    older = installing.install(needed=NEW_DATABASE, progress=said.append)
    assert older == newer, "what is there and new enough is not installed twice"
    usual = installing.install(progress=said.append)
    assert usual == Toolchain(Version(25, 3, 0), tmp_path / "ovn-audit/ovn")
    assert installing.install(needed=NEW_DATABASE, progress=said.append) == usual
    assert downloaded == ["sid", "trixie"]
    assert {path.name for path in (tmp_path / "ovn-audit").iterdir()} == {"ovn", "ovn-26.03"}


def test_a_suite_that_moved_on_is_installed_again_beside_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    _mirror(monkeypatch, OFFERED)
    installing.install(needed="26.03.1", progress=lambda _: None)
    _mirror(monkeypatch, {**OFFERED, "sid": "26.09.0-1"})
    installing.install(needed="26.09.0", progress=lambda _: None)
    assert {path.name for path in (tmp_path / "ovn-audit").iterdir()} == {"ovn-26.03", "ovn-26.09"}


def test_a_need_that_no_suite_meets_is_said_with_what_each_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    downloaded = _mirror(monkeypatch, OFFERED)
    with pytest.raises(EngineError) as failed:
        installing.install(needed="27.03.0", progress=lambda _: None)
    for part in (
        "trixie: its OVN is 25.03.0",
        "sid: its OVN is 26.03.1",
        "27.03.0",
        "--ovn-prefix",
    ):
        assert part in str(failed.value)
    assert downloaded == []
    _say_version(tmp_path / "named", "25.03.0")
    with pytest.raises(EngineError, match=r"holds OVN 25\.03\.0, and 26\.03\.1 or newer"):
        installing.install(tmp_path / "named", needed="26.03.1", progress=lambda _: None)


def test_what_was_installed_counts_and_not_what_its_package_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def fetch(_packages: Sequence[str], root: Path, _work: Path, **_options: object) -> None:
        _say_version(root, "25.03.0")

    _mirror(monkeypatch, OFFERED)
    monkeypatch.setattr("audit.replay.apt.fetch", fetch)
    with pytest.raises(EngineError, match=r"sid: its OVN is 25\.03\.0"):
        installing.install(needed="26.03.1", progress=lambda _: None)
    assert not list((tmp_path / "ovn-audit").iterdir())


def test_an_interrupted_installation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_packages: Sequence[str], root: Path, _work: Path, **_options: object) -> None:
        _plant(root, "usr/bin/ovn-trace", "half")
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.replay.apt.fetch", break_off)
    monkeypatch.setattr("audit.replay.apt.distribution", lambda _: DEBIAN)
    with pytest.raises(KeyboardInterrupt):
        installing.install(tmp_path / "ovn", progress=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_installation_says_what_else_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("the mirror has no trixie")

    monkeypatch.setattr("audit.replay.apt.fetch", refuse)
    monkeypatch.setattr("audit.replay.apt.distribution", lambda _: DEBIAN)
    with pytest.raises(EngineError) as failed:
        installing.install(tmp_path / "ovn", progress=lambda _: None)
    for part in (
        "the mirror has no trixie",
        "`apt-get install ovn-central ovn-host openvswitch-switch python3-openvswitch`",
        "--ovn-prefix",
    ):
        assert part in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_an_installed_prefix_is_returned_at_once(tmp_path: Path) -> None:
    _plant(tmp_path, "usr/bin/ovn-trace", "#!/bin/sh\necho ovn-trace 26.03.0\n")
    said: list[str] = []
    found = installing.install(tmp_path, progress=said.append)
    assert found == Toolchain(Version(26, 3, 0), tmp_path)
    assert said == []


def test_a_prefix_without_what_ovn_detrace_imports_is_given_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = "usr/lib/python3/dist-packages"

    def fetch(_packages: Sequence[str], root: Path, _work: Path, **_options: object) -> None:
        _plant(root, "usr/bin/ovn-trace", "#!/bin/sh\necho ovn-trace 26.03.0\n")
        for module in ("ovs", "sortedcontainers", "there"):
            _plant(root, f"{modules}/{module}/__init__.py", "fresh")

    monkeypatch.setattr("audit.replay.apt.fetch", fetch)
    monkeypatch.setattr("audit.replay.apt.distribution", lambda _: DEBIAN)
    prefix = tmp_path / "ovn"
    _plant(prefix, "usr/bin/ovn-trace", "#!/bin/sh\necho ovn-trace 25.03.0\n")
    _plant(prefix, "usr/bin/ovn-detrace", "#!/bin/sh\n")
    _plant(prefix, f"{modules}/there/__init__.py", "old")
    found = installing.install(prefix, progress=lambda _: None)
    assert found == Toolchain(Version(25, 3, 0), prefix)
    there = {path.parent.name: path.read_text() for path in prefix.glob(f"{modules}/*/*.py")}
    assert there == {"ovs": "fresh", "sortedcontainers": "fresh", "there": "old"}
    monkeypatch.setattr("audit.replay.apt.fetch", None)
    assert installing.install(prefix, progress=lambda _: None) == found
    assert [path.name for path in tmp_path.iterdir()] == ["ovn"]


# What `--version` makes ovn-detrace do besides is open a database, so it is asked for its help.
QUESTIONS = [
    (name, "--help" if name == "ovn-detrace" else "--version") for name in (toolchain.PROGRAMS)
]


@pytest.mark.ovn
@pytest.mark.parametrize(("program", "question"), QUESTIONS)
def test_every_program_of_the_installed_ovn_runs(
    toolchain: Toolchain, program: str, question: str
) -> None:
    done = subprocess.run(
        toolchain.argv(program, question), check=True, capture_output=True, text=True, timeout=20
    )
    assert program in done.stdout


@pytest.mark.ovn
def test_the_installed_schemas_make_databases(toolchain: Toolchain, tmp_path: Path) -> None:
    for name, database in (
        ("ovn-nb.ovsschema", "OVN_Northbound"),
        ("ovn-sb.ovsschema", "OVN_Southbound"),
        ("vswitch.ovsschema", "Open_vSwitch"),
    ):
        path = str(tmp_path / database)
        subprocess.run(
            toolchain.argv("ovsdb-tool", "create", path, str(toolchain.schema(name))),
            check=True,
            timeout=20,
        )
        done = subprocess.run(
            toolchain.argv("ovsdb-tool", "db-name", path),
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.stdout.strip() == database
