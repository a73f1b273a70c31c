"""Options from a file and the environment: what goes before what, and what is refused."""

import json
import re
from pathlib import Path

import click
import pytest

from audit.cli import config, groups
from audit.cli.main import COMMANDS, audit
from audit.errors import UsageError
from audit.supervise import wanted
from tests.cli.conftest import Inside


def loaded(name: str) -> click.Command:
    command = audit.get_command(click.Context(audit), name)
    assert command is not None
    return command


def shown(command: click.Command) -> list[click.Option]:
    """Return a command's options but those that are only kept for scripts that have them."""
    options = (option for option in command.params if isinstance(option, click.Option))
    return [option for option in options if not option.hidden]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the file is looked for, in a home without one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "ovn-audit" / "config.toml"


def write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_a_variable_spelled_like_it(name: str) -> None:
    command = loaded(name)
    context = click.Context(command, info_name=name)
    for option in shown(command):
        if option.name != "help":
            flag = max(option.opts, key=len).lstrip("-").replace("-", "_")
            variable = f"AUDIT_{name}_{flag}".upper()
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(variable, "1")
                assert option.resolve_envvar_value(context) == "1", variable


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_has_every_option_once_in_its_group(name: str) -> None:
    command = loaded(name)
    options = shown(command)
    assert {groups.flag_of(option) for option in options} <= {
        flag for flags in groups.GROUPS.values() for flag in flags
    }
    formatter = click.HelpFormatter(width=100)
    command.format_options(click.Context(command, info_name=name), formatter)
    lines = formatter.getvalue().splitlines()
    for option in options:
        spelled = re.compile(f"  {', '.join(option.opts)}( |$)")
        assert len([line for line in lines if spelled.match(line)]) == 1, spelled


def test_what_is_typed_goes_before_a_variable_and_that_before_the_file(
    inside: Inside, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inside("doctor").out.startswith(("ok: ", "warning: ", "missing: "))
    write(home, '[doctor]\noutput = "json"\n[run]\nout = "elsewhere"\n')
    assert isinstance(json.loads(inside("doctor").out), dict | list)
    monkeypatch.setenv("AUDIT_DOCTOR_OUTPUT", "nonsense")
    assert "nonsense" in inside("doctor").err
    assert inside("doctor", "-o", "text").out.startswith("ok: ")


def test_a_file_may_be_named(inside: Inside, home: Path, tmp_path: Path) -> None:
    write(home, "[nonsense]\n")
    write(tmp_path / "mine.toml", 'output = "json"\nnamespace = ["of another command"]\n')
    assert json.loads(inside("--config", tmp_path / "mine.toml", "doctor").out)
    done = inside("--config", tmp_path / "no.toml", "doctor")
    assert (done.code, "there is no such file" in done.err) == (2, True)
    assert inside("doctor").code == 2, "the file that is there is read unless another is named"


def defaults(text: str, name: str = "run") -> dict[str, object]:
    import tomllib  # noqa: PLC0415 - as the module does

    return config.defaults(tomllib.loads(text), loaded(name), COMMANDS, Path("c.toml"))


def test_a_command_s_section_goes_before_the_rest() -> None:
    text = 'ovn-prefix = "/a"\nsql = "of another command"\n[run]\novn-prefix = "/b"\nport = "80"\n'
    assert defaults(text) == {"ovn_prefix": "/b", "ports": ["80"]}
    assert defaults(text, "plan") == {"ovn_prefix": "/a"}
    assert defaults("[run]\nquiet = true\nnamespace = ['a', 'b']\n") == {
        "quiet": True,
        "namespaces": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[rnu]\nout = 'a'\n", "no command is called 'rnu'; did you mean run?"),
        ("[run]\nuot = 'a'\n", "`audit run` has no option 'uot'; did you mean out?"),
        ("[run]\nout = ['a', 'b']\n", "'out' takes one value, and a list is given"),
        ("[run]\nquiet = 'yes'\n", "'quiet' takes true or false"),
        ("[run]\nout = true\n", "'out' takes no true or false"),
        ("help = true\n", "'help' cannot be set"),
        ("uot = 'a'\n", "no command has an option 'uot'; did you mean out?"),
    ],
)
def test_what_a_file_cannot_say(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        defaults(text)
    assert sentence in str(refused.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[run\n")
    with pytest.raises(UsageError, match="is no TOML: "):
        config.read(tmp_path / "c.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        config.read(tmp_path)


def test_a_run_is_watched_whatever_file_is_named() -> None:
    assert wanted(["--config", "mine.toml", "run"])
    assert wanted(["--debug", "run"])
    assert not wanted(["--config", "run", "doctor"])
