"""Names, labels, file names and numbers of anyone's making: told in a line, never an accident."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.archives import extract
from tests.end_to_end.conftest import Audit

NINES = "9" * 6000
LABELS = {
    "app": "a\nb\x1b[31m",
    "a b=c,(d)!": "x",
    "": "empty",
    "long": "v" * 300,
    "x\u202e/y/w": "\u2066, in (a)",
    " ": "'\"\\",
}


def clean(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.ovn
@pytest.mark.parametrize(
    "flags",
    [
        ("-l", f"a>{NINES}"),
        ("-l", f"a<{NINES}"),
        ("-p", f"tcp/{NINES}"),
        ("-p", f"tcp/1-{NINES}"),
        ("-p", NINES),
        ("--to-ip", f"10.0.0.0/{NINES}"),
        ("--max-snapshot-size", NINES),
        ("-l", "a\x1b[31m\nb"),
        ("--no\x1b[31m",),
    ],
)
def test_a_flag_that_is_none_is_refused(
    audit: Audit, example_snapshot: Path, flags: tuple[str, ...]
) -> None:
    done = audit("plan", "--snapshot", example_snapshot, *flags)
    assert done.code == 2
    assert "unexpected" not in done.err
    assert clean(done.err)


@pytest.mark.parametrize(
    "text", [f"ports: [tcp/{NINES}]", f"ports: [{NINES}]", f"selector: 'a>{NINES}'"]
)
def test_a_scope_file_that_is_none_is_refused(
    audit: Audit, example_snapshot: Path, text: str
) -> None:
    (audit.directory / "scope.yaml").write_text(text)
    done = audit("plan", "--snapshot", example_snapshot, "--scope-file", "scope.yaml")
    assert (done.code, "unexpected" in done.err) == (2, False)
    assert "scope.yaml, line 1" in done.err


def test_a_file_may_be_called_anything(audit: Audit, example_snapshot: Path) -> None:
    name = b"a\n\x1b[2Jaudit: fine \xe2\x80\xae\xff".decode("utf-8", "surrogateescape")
    missing = audit("plan", "--snapshot", name)
    assert (missing.code, missing.err.count("\n")) == (4, 1)
    assert clean(missing.err)
    shutil.copy(example_snapshot, audit.directory / name)
    scope = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80")
    run = audit("run", "--snapshot", name, *scope, "-o", "json", "-q")
    assert run.code in (0, 1)
    assert clean(run.out)
    assert clean(run.err)
    path = run.json["path"]
    assert audit("report", path, "-o", "junit", "--stdout").code == 0
    assert audit("verify", path).code == 0


def test_labels_that_no_api_server_takes(audit: Audit, example_snapshot: Path) -> None:
    root = audit.directory / "cluster"
    with tarfile.open(example_snapshot) as packed:
        extract(packed, root)
    for resource in ("pods", "namespaces", "nodes"):
        [file] = root.rglob(f"{resource}.json")
        said = json.loads(file.read_text())
        for item in said["items"]:
            item["metadata"].setdefault("labels", {}).update(LABELS)
        file.write_text(json.dumps(said))
    scope = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80")
    run = audit("run", "--snapshot", root, *scope)
    assert run.code in (0, 1)
    path = run.out.splitlines()[-2].removeprefix("run: ")
    assert (audit.directory / path / "report.html").is_file()
    sql = "SELECT DISTINCT labels FROM endpoints"
    for command in (
        ("query", path, sql, "-o", "csv"),
        ("query", path, sql),
        ("explain", path, "prod/prod-client-0", "default/web-0", "tcp/80"),
        *(("report", path, "--stdout", "-o", form) for form in ("json", "junit", "sarif")),
    ):
        done = audit(*command)
        assert done.code == 0
        assert clean(done.out)
