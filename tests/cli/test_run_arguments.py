"""How a run is named: by its path, its page, its id, its day, and where runs are looked for."""

import shutil
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from audit.cli.main import audit as command
from tests.cli.conftest import Inside

IDS = ("20200101T000000Z-aaaa", "20200102T000000Z-bbbb", "20200102T120000Z-cccc")


@pytest.fixture
def kept(small_run: Path, tmp_path: Path) -> Path:
    """Return a directory with three runs, and a copy of one that somebody named."""
    root = tmp_path / "kept"
    for name in (*IDS, "trusted"):
        shutil.copytree(small_run, root / name)
    return root


@pytest.fixture
def runs(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the same, where the environment says that runs are kept."""
    monkeypatch.setenv("AUDIT_RUN_OUT", str(kept))
    return kept


def directory(inside: Inside, word: str) -> Path:
    """Return where the run is that a word names."""
    done = inside("report", word, "-o", "markdown")
    assert done.code == 0, done.err
    return Path(done.out.strip()).parent


@pytest.mark.ovn
@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("latest", IDS[2]),
        ("2020-01-02", IDS[2]),
        (IDS[0], IDS[0]),
        ("20200101", IDS[0]),
        ("20200102T00", IDS[1]),
        ("trusted", "trusted"),
        ("trus", "trusted"),
    ],
)
def test_a_run_is_named_by_its_id_or_a_beginning_of_it(
    inside: Inside, runs: Path, word: str, name: str
) -> None:
    assert directory(inside, word) == runs / name


@pytest.mark.ovn
def test_the_newest_run_of_another_directory_is_named_there(
    inside: Inside, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_RUN_OUT", "elsewhere")
    assert directory(inside, f"{kept}/latest") == kept / IDS[2]
    assert directory(inside, f"{kept}/2020-01-01") == kept / IDS[0]
    assert f"as {kept}/latest" in inside("report", kept).err
    assert f"there are no runs in {kept}/none yet" in inside("report", f"{kept}/none/latest").err


@pytest.mark.ovn
@pytest.mark.parametrize(
    "words",
    [("verify",), ("report", "-o", "json", "--stdout"), ("check", "--pack", "default-deny")],
)
def test_the_newest_run_is_read_unless_another_is_named(
    inside: Inside, runs: Path, words: tuple[str, ...]
) -> None:
    command, *options = words
    unnamed, named = inside(*words), inside(command, "latest", *options)
    assert (unnamed.code, unnamed.out) == (named.code, named.out)
    assert unnamed.out
    shutil.rmtree(runs)
    assert "there are no runs in" in inside(*words).err


@pytest.mark.ovn
def test_one_word_to_query_is_sql_of_the_newest_run(inside: Inside, runs: Path) -> None:
    sql = "SELECT count(*) AS n FROM cells"
    for words in ((sql,), ("--sql", sql), (IDS[0], sql), (runs / IDS[0], "--sql", sql)):
        assert inside("query", *words).out.split()[0] == "n"
    refused: list[tuple[str, ...]] = [
        *((), (str(runs / IDS[0]),), ("latest",), ("20200101",), (IDS[0], sql, sql))
    ]
    for given in refused:
        done = inside("query", *given)
        assert (done.code, "audit query [RUN] SQL" in done.err) == (2, True)


@pytest.mark.ovn
def test_explain_takes_its_run_in_front_or_by_a_flag(inside: Inside, runs: Path) -> None:
    cell = ("prod/prod-client-0", "default/web-0", "tcp/80")
    wanted = inside("explain", runs / IDS[0], *cell)
    assert wanted.code == 0
    for words in (cell, cell[:2], (*cell, "--run", IDS[0]), (IDS[0], *cell), ("20200101", *cell)):
        assert inside("explain", *words).out == wanted.out
    refused: list[tuple[str, ...]] = [
        *((IDS[0], *cell, "--run", IDS[0]), cell[:1], (*cell, "more", "more"))
    ]
    for given in refused:
        done = inside("explain", *given)
        assert (done.code, "explain takes [RUN] FROM TO [PORT]" in done.err) == (2, True)


@pytest.mark.ovn
def test_a_run_is_named_by_its_page(inside: Inside, kept: Path) -> None:
    assert directory(inside, f"{kept / IDS[0]}/report.html") == kept / IDS[0]


@pytest.mark.ovn
def test_a_beginning_of_several_is_refused_with_their_names(inside: Inside, runs: Path) -> None:
    done = inside("verify", "20200102")
    assert (done.code, done.out) == (2, "")
    assert f"beginning of several runs in {runs}: {IDS[2]}, {IDS[1]}" in done.err


@pytest.mark.ovn
def test_a_file_of_options_says_where_runs_are(
    inside: Inside, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(kept.parent / "config"))
    file = kept.parent / "config" / "ovn-audit" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[run]\nout = 'kept'\n")
    assert directory(inside, "latest") == kept / IDS[2]
    listed = inside("history")
    assert listed.out
    assert listed.out == inside("history", kept).out
    file.write_text("out = 'nowhere'\n")
    for words in (("verify", "latest"), ("history",)):
        done = inside(*words)
        assert "there are no runs in ./nowhere yet: start with `audit run`, or name" in done.err


@pytest.mark.ovn
def test_a_shell_completes_ids_and_words_of_where_runs_are(runs: Path, kept: Path) -> None:
    completed = ShellComplete(command, {}, "audit", "_AUDIT_COMPLETE")
    words = [item.value for item in completed.get_completions(["verify"], "20200102")]
    assert words == [IDS[2], IDS[1]]
    paths = [item.value for item in completed.get_completions(["verify"], str(runs)[:4])]
    assert str(kept / IDS[0]) in paths
    ends = [item.value for item in completed.get_completions(["can"], "prod/")]
    assert "prod/prod-client-0" in ends
