"""A run as evidence: hashes of everything, and a signature that OpenSSL agrees with."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Audit, openssl
from tests.end_to_end.test_failures import one_sentence

pytestmark = pytest.mark.ovn


def test_everything_is_listed_and_every_change_is_seen(audit: Audit, example_run: Path) -> None:
    run = audit.directory / "run"
    shutil.copytree(example_run, run)
    manifest = json.loads((run / "run.json").read_text())
    listed = {output["path"]: output["sha256"] for output in manifest["outputs"]}
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.json"]
    assert listed == {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    assert {"user", "name"} <= manifest["host"].keys()
    assert "pyarrow" in manifest["tools"]
    done = audit("verify", run)
    assert (done.code, done.out) == (
        0,
        f"{len(files)} files are unchanged. The run is not signed.\n",
    )

    for path in (run / "report.html", files[-1]):
        kept = path.read_bytes()
        path.write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
        done = audit("verify", run, "-o", "json")
        assert done.code == 1
        [problem] = done.json["problems"]
        assert path.name in problem
        path.write_bytes(kept)
    (run / "traces" / "more.parquet").write_bytes(b"")
    (run / "policies.parquet").unlink()
    done = audit("verify", run, "-o", "json")
    assert done.code == 1
    lost, more = done.json["problems"]
    assert "policies.parquet cannot be read" in lost
    assert "more.parquet is not listed" in more


def test_the_inputs_are_compared(audit: Audit, example_run: Path, example_snapshot: Path) -> None:
    done = audit("verify", example_run, "--snapshot", example_snapshot, "-o", "json")
    assert done.code == 0
    assert done.json["inputs"] == 15
    other = audit.directory / "other"
    shutil.unpack_archive(example_snapshot, other)
    [pods] = other.rglob("pods.json")
    pods.write_text(pods.read_text() + "\n")
    done = audit("verify", example_run, "--snapshot", other, "-o", "json")
    assert done.code == 1
    assert ["kube/pods.json" in problem for problem in done.json["problems"]] == [True]


def test_a_signature_is_openssls_and_of_nothing_else(
    audit: Audit, example_snapshot: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    scope = ("-p", "tcp/80", "-n", "default")
    done = audit(
        *("run", "--snapshot", example_snapshot, *scope, "-o", "json"), "--sign-key", private
    )
    run = audit.directory / done.json["path"]
    check = ("pkeyutl", "-verify", "-pubin", "-rawin", "-inkey", public, "-in", run / "run.json")
    assert openssl(*check, "-sigfile", run / "run.json.sig") == 0
    assert audit("verify", run, "--key", public).code == 0
    again = audit("report", run)
    assert again.code == 4
    assert "is signed" in one_sentence(again)
    for words, report in (
        (("diff", run, run), ("--since", run)),
        (("check", run, "--pack", "default-deny"), ("--pack", "default-deny")),
    ):
        plain, paged = audit(*words, "-q"), audit(*words, "-q", "-o", "html")
        assert (paged.code, paged.out) == (plain.code, "")
        named = " ".join(map(str, report))
        assert f"another: `audit report {run} {named} --out DIR`" in paged.err
        assert audit("report", run, *report, "--out", "pages", "-q").code == 0
    assert audit("verify", run, "--key", public).code == 0

    (run / "run.json").write_text((run / "run.json").read_text() + " ")
    assert openssl(*check, "-sigfile", run / "run.json.sig") != 0
    bad = audit("verify", run, "--key", public)
    assert (bad.code, "The signature is bad." in bad.out) == (1, True)
    (run / "run.json.sig").unlink()
    missing = audit("verify", run, "--key", public)
    assert (missing.code, "The run is not signed." in missing.out) == (1, True)


def test_what_is_no_key_is_said_before_anything_is_done(
    audit: Audit, example_snapshot: Path, keys: tuple[Path, Path]
) -> None:
    done = audit("run", "--snapshot", example_snapshot, "--sign-key", keys[1])
    assert done.code == 2
    assert "key" in one_sentence(done)
    assert not (audit.directory / "runs").exists()
