"""A run that was ended before its report or its signature was written gets them, byte for byte."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.store.layout import manifest_text
from tests.cli.conftest import Inside
from tests.end_to_end.conftest import run_of
from tests.end_to_end.test_failures import one_sentence

pytestmark = pytest.mark.ovn


@pytest.fixture(scope="module")
def signed(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    keys: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    flags = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80", "-q")
    root = tmp_path_factory.mktemp("signed")
    return run_of(audit_command, root, example_snapshot, *flags, "--sign-key", str(keys[0]))


@pytest.fixture
def run(signed: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the run itself, since its page names its place; it is as it was afterwards."""
    shutil.copytree(signed, tmp_path / "kept")
    yield signed
    shutil.rmtree(signed)
    shutil.copytree(tmp_path / "kept", signed)


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()
    }


def end_before_the_report(run: Path) -> None:
    """Leave what is there when a run is ended while its report is rendered."""
    (run / "run.json.sig").unlink()
    (run / "report.html").unlink()
    manifest = json.loads((run / "run.json").read_text())
    manifest["outputs"] = [one for one in manifest["outputs"] if one["path"] != "report.html"]
    (run / "run.json").write_bytes(manifest_text(manifest))
    (run / ".report.html.partial").write_bytes(b"<html>")


def end_before_it_is_listed(run: Path) -> None:
    report = (run / "report.html").read_bytes()
    end_before_the_report(run)
    (run / ".report.html.partial").unlink()
    (run / "report.html").write_bytes(report)
    (run / ".run.json.partial").write_bytes(b"{")


def end_before_the_signature(run: Path) -> None:
    (run / "run.json.sig").rename(run / ".run.json.sig.partial")


@pytest.mark.parametrize(
    "end", [end_before_the_report, end_before_it_is_listed, end_before_the_signature]
)
def test_what_is_missing_is_made_byte_for_byte(
    inside: Inside, run: Path, keys: tuple[Path, Path], end: Callable[[Path], None]
) -> None:
    whole = contents(run)
    end(run)
    untold = inside("run", "--resume", run)
    assert untold.code == 2, "no key is taken from the plan"
    assert "--sign-key" in one_sentence(untold)
    done = inside("run", "--resume", run, "--sign-key", keys[0], "-q")
    assert done.code in (0, 1), done.err
    assert contents(run) == whole
    again = inside("run", "--resume", run, "--sign-key", keys[0])
    assert again.code == 2
    assert "nothing to resume" in one_sentence(again)


def test_an_interrupted_report_says_how_to_go_on(
    inside: Inside,
    run: Path,
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = contents(run)
    end_before_the_report(run)

    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("audit.report.render.render_html", interrupted)
        done = inside("run", "--resume", run, "--sign-key", keys[0], "-q")
    assert done.code == 130
    command = f"audit run --resume {run} --sign-key {keys[0]}"
    assert f"whole but for its report and signature; go on with `{command}`" in one_sentence(done)
    assert inside("run", "--resume", run, "--sign-key", keys[0], "-q").code in (0, 1)
    assert contents(run) == whole
