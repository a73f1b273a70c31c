"""The scope flags are those of `audit.scope.scope`, and say the same as a scope file."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from audit.cli import options, run_arguments, values, words
from audit.cli.main import COMMANDS, audit
from audit.errors import ExitCode, ScopeError, SnapshotError, UsageError
from audit.scope import scope
from audit.scope.scope import Scope
from tests.cli.conftest import Inside


def parsed(*flags: str, text: str | None = None) -> Scope:
    """Return the scope that a command is given."""
    given: list[Scope] = []

    @click.command()
    @options.scope_options
    def command(*, scope: Scope) -> None:
        given.append(scope)

    done = CliRunner().invoke(command, flags, input=text)
    if done.exception is not None:
        raise done.exception
    return given[0]


def test_the_short_flag_that_means_expectations_elsewhere_still_works_and_says_so(
    tmp_path: Path,
) -> None:
    file = tmp_path / "scope.yaml"
    file.write_text("namespaces: [shop]")
    given: list[Scope] = []

    @click.command()
    @options.scope_options
    def command(*, scope: Scope) -> None:
        given.append(scope)

    done = CliRunner().invoke(command, ["-f", str(file)])
    assert given == [parsed("-n", "shop")]
    assert "write --scope-file" in done.stderr
    assert "  -f" not in CliRunner().invoke(command, ["--help"]).output


def flags_of(command: click.Command) -> dict[str, str]:
    """Return every flag of a command, and the argument it fills."""
    return {
        flag: str(parameter.name)
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--")
    }


def test_the_flags_are_the_scopes_options() -> None:
    @click.command()
    @options.scope_options
    def command(*, scope: Scope) -> None:
        """Do nothing."""

    ours = flags_of(command)
    for extra in ("--all-namespaces", "--scope-file"):  # what is no option of a scope
        del ours[extra]
    assert ours == {option.flag: option.field for option in scope.OPTIONS}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "{}"),
        (("-A",), "{}"),
        (("-n", "shop", "-n", "prod"), "namespaces: [shop, prod]"),
        (("-l", "app=web", "--with-peers"), "{selector: app=web, withPeers: true}"),
        (
            ("--from-node", "w1", "--to-service", "a/b"),
            "{from: {nodes: [w1]}, to: {services: [a/b]}}",
        ),
        (("-p", "tcp/80", "--family", "both"), "{ports: [tcp/80], family: both}"),
        (("--from-ip", "192.0.2.1"), "from: {ips: [192.0.2.1]}"),
    ],
)
def test_flags_and_files_say_the_same(flags: tuple[str, ...], said: str, tmp_path: Path) -> None:
    file = tmp_path / "scope.yaml"
    file.write_text(said)
    assert parsed(*flags) == parsed("--scope-file", str(file))
    assert parsed(*flags) == parsed("--scope-file", "-", text=said)


@pytest.mark.parametrize("flags", [("-n", "shop"), ("--with-peers",), ("-p", "80")])
def test_a_file_and_flags_contradict_each_other(flags: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "scope.yaml"
    file.write_text("{}")
    with pytest.raises(UsageError, match="contradict"):
        parsed("--scope-file", str(file), *flags)
    with pytest.raises(ScopeError, match="contradict"):
        parsed("-A", "-n", "shop")


@pytest.mark.parametrize("flag", ["-l", "--namespace-selector", "--from-selector", "--to-selector"])
def test_of_a_selector_given_twice_all_must_hold(flag: str) -> None:
    assert parsed(flag, "app=web", flag, "!canary") == parsed(flag, "app=web,!canary")
    assert parsed(flag, "app=web") != parsed(flag, "!canary") != parsed()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_a_shell_takes(shell: str) -> None:
    done = CliRunner().invoke(audit, ["completion", shell])
    assert done.exit_code == ExitCode.CLEAN
    assert f"_AUDIT_COMPLETE={shell}_complete" in done.output


def test_runs_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("20260101T000000Z-aaaa", "20260102T000000Z-bbbb", "20260103T000000Z-cccc"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("20260101T000000Z-aaaa", "20260102T000000Z-bbbb"):  # the last is unfinished
        (tmp_path / "runs" / name / "run.json").touch()

    def completed(begun: str) -> list[tuple[str, str]]:
        context = click.Context(audit)
        items = run_arguments.Run().shell_complete(context, click.Argument(["run"]), begun)
        return [(item.type, str(item.value)) for item in items]

    newest, oldest = ("runs/20260102T000000Z-bbbb", "runs/20260101T000000Z-aaaa")
    assert completed("") == [("plain", "latest"), ("plain", newest), ("plain", oldest)]
    assert completed("20260102") == [("plain", "20260102T000000Z-bbbb")]
    assert completed("runs/20260102") == [("plain", newest)]
    assert completed("elsewhere/") == [("dir", "elsewhere/")]


def test_planes_are_completed_after_a_comma() -> None:
    def completed(begun: str) -> list[str]:
        context = click.Context(click.Command("run"))
        items = values.Planes().shell_complete(context, click.Option(["--planes"]), begun)
        return [item.value for item in items]

    assert completed("") == ["intent", "logical", "datapath"]
    assert completed("intent,") == ["intent,logical", "intent,datapath"]
    assert completed("intent,d") == ["intent,datapath"]


def test_a_command_that_is_not_there_is_told_which_was_meant() -> None:
    done = CliRunner().invoke(audit, ["rnu"])
    assert done.exit_code == ExitCode.USAGE
    assert "No such command 'rnu'. Did you mean run?" in done.output
    assert "Did you mean" not in CliRunner().invoke(audit, ["xyzzy"]).output


def test_a_run_that_is_not_there_is_not_taken_for_an_end() -> None:
    called = CliRunner().invoke(audit, ["explain", "runs/nosuch", "shop/front-0", "shop/back-0"])
    assert "runs/nosuch is not a run" in str(called.exception)


@pytest.mark.parametrize("words", [["plan"], ["trace", "shop/front-0", "shop/back-0", "80"]])
def test_a_live_cluster_is_no_snapshot(words: list[str]) -> None:
    called = CliRunner().invoke(audit, [*words, "--live", "--snapshot", "x"])
    assert "--snapshot and --live name different things to ask" in str(called.exception)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AUDIT_RUN_PORT", "tcp://10.0.0.1:80", ("run", "--snapshot", "x")),
        ("AUDIT_PLAN_FAMILY", "ip5", ("plan", "--snapshot", "x")),
        ("AUDIT_PLAN_SNAPSHOT", "nowhere.tar.gz", ("plan",)),
        ("AUDIT_CHECK_PACK", "pci", ("check", ".")),
        ("AUDIT_RUN_PLANES", "both", ("run", "--snapshot", "x")),
        ("AUDIT_WHO_RUN", "nowhere", ("who",)),
    ],
)
def test_a_bad_value_of_a_variable_names_it(
    inside: Inside,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv(variable, value)
    done = inside(*words)
    assert done.code in (2, 4)
    assert f"from {variable}: " in done.err
    assert value in done.err


def test_a_good_value_of_a_variable_is_not_named(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_RUN_PORT", "tcp/80")
    assert "AUDIT_RUN_PORT" not in inside("run", "--snapshot", "nowhere").err


def test_commands_are_completed_without_loading_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.cli.main._load", None)  # what loads one is called in vain
    items = audit.shell_complete(click.Context(audit), "c")
    assert [item.value for item in items] == ["can", "check", "completion", "copy"]


@pytest.mark.ovn
def test_endpoints_of_the_newest_run_are_completed(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    context, parameter = click.Context(audit), click.Argument(["to"])
    assert words.complete(context, parameter, "") == []
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / small_run.name).symlink_to(small_run)

    def completed(begun: str) -> list[str]:
        return [str(item.value) for item in words.complete(context, parameter, begun)]

    assert completed("default/web-") == ["default/web-0", "default/web-1", "default/web-2"]
    assert completed("ns/") == ["ns/default", "ns/prod"]
    namespaces = words.complete_namespace(context, parameter, "p")
    assert [item.value for item in namespaces] == ["prod"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="cannot be read"):
        parsed("--scope-file", str(tmp_path / "nowhere"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ScopeError, match="cannot be read"):
        parsed("--scope-file", str(tmp_path / "binary"))


def test_every_command_that_unpacks_a_snapshot_can_be_told_how_much() -> None:
    context = click.Context(audit)
    named = {
        name: {parameter.name for parameter in command.params}
        for name in audit.list_commands(context)
        if (command := audit.get_command(context, name)) is not None
    }
    unpacking = {name for name, parameters in named.items() if "snapshot" in parameters}
    assert {"run", "doctor", "verify"} <= unpacking
    assert unpacking == {name for name, given in named.items() if "max_snapshot_size" in given}


@pytest.mark.ovn
@pytest.mark.parametrize("install", [(), ("--install-ovn",)])
def test_doctor_unpacks_no_more_than_it_is_told(
    example_snapshot: Path, install: tuple[str, ...]
) -> None:
    argv = ["doctor", "--snapshot", str(example_snapshot), "--max-snapshot-size", "9K", *install]
    done = CliRunner().invoke(audit, argv, standalone_mode=False)
    shown = f"{done.stdout}{done.exception}"
    assert "unpacks to more than 9,216 bytes" in shown
    assert done.return_value == ExitCode.COULD_NOT_RUN or isinstance(done.exception, SnapshotError)


def loaded() -> dict[str, click.Command]:
    commands = {name: audit.get_command(click.Context(audit), name) for name in COMMANDS}
    return {name: command for name, command in commands.items() if command is not None}


def test_a_short_flag_means_the_same_in_every_command() -> None:
    """`-h`, and the pair of `trace`, are another program's; `-n` of `probe` is a scope too."""
    meanings: dict[str, set[str]] = {}
    for command in loaded().values():
        for option in command.params:
            for flag in option.opts:
                if len(flag) == 2 and not (isinstance(option, click.Option) and option.hidden):
                    meanings.setdefault(flag, set()).add(max(option.opts, key=len))
    assert {flag: names for flag, names in meanings.items() if len(names) > 1} == {}


def test_whatever_shows_progress_can_be_quiet() -> None:
    """What reads a snapshot or a cluster does; `doctor` and `verify` have none to show."""
    reading = {
        name
        for name, command in loaded().items()
        if {"--snapshot", "--kubeconfig"} & flags_of(command).keys()
    }
    quiet = {name for name, command in loaded().items() if "--quiet" in flags_of(command)}
    assert {"run", "plan", "trace", "who", "can"} <= reading
    assert reading - quiet == {"doctor", "verify"}
