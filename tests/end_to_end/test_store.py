"""Runs on an object store: put there whole, read from there as from a disk, or one sentence."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.commands.serve import Request, Site
from audit.store import remote
from audit.store.layout import manifest_text
from audit.store.reader import stream_run
from tests.end_to_end.conftest import Audit
from tests.end_to_end.store import BUCKET, Store, running

pytestmark = pytest.mark.ovn

ROOT = f"s3://{BUCKET}/prod"
SCOPE = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80", "-q")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running(tmp_path_factory.mktemp("store") / "log") as found:
        yield found


@pytest.fixture
def as_writer(store: Store, audit: Audit) -> Audit:
    return replace(audit, environment=store.environment())


@pytest.fixture(scope="module")
def stored(
    store: Store,
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    keys: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, list[str]]:
    """Return a run on the store, and the names that were written for it, in their order.

    The environment says where it goes, as `jobs/object-store` does.
    """
    directory = tmp_path_factory.mktemp("writer")
    environment = {**store.environment(), "AUDIT_RUN_OUT": ROOT, "AUDIT_RUN_STAGING": "here"}
    audit = Audit(command=audit_command, directory=directory, environment=environment)
    before = len(store.line.asked)
    sign = ("--sign-key", keys[0])
    done = audit("run", "--snapshot", example_snapshot, *SCOPE, *sign, "-o", "json")
    assert done.code == 0, done.err
    assert list(directory.iterdir()) == [], "the copy here is gone"
    url: str = done.json["path"]
    assert done.json["report"] == f"{url}/report.html"
    written = [
        found[1]
        for line in store.line.asked[before:]
        if (found := re.match(rf"(?:PUT|POST) /{BUCKET}/([^ ?]*)", line))
    ]
    return url, list(dict.fromkeys(written))


@pytest.fixture(scope="module")
def copied(
    store: Store,
    stored: tuple[str, list[str]],
    audit_command: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a copy of that run on the disk."""
    directory = tmp_path_factory.mktemp("copies")
    audit = Audit(command=audit_command, directory=directory, environment=store.environment())
    done = audit("copy", stored[0], directory / "runs")
    assert done.code == 0, done.err
    return Path(done.out.strip())


def test_a_run_is_put_there_with_run_json_last_and_no_secret(
    store: Store, stored: tuple[str, list[str]]
) -> None:
    url, written = stored
    prefix = url.removeprefix(f"s3://{BUCKET}/")
    assert written[0] == "prod/.audit-runs", "what cannot be written is found out first"
    assert written[-1] == f"{prefix}/run.json"
    manifest = json.loads(store.content(written[-1]))
    listed = {f"{prefix}/{one['path']}" for one in manifest["outputs"]}
    listed.add(f"{prefix}/run.json.sig")
    assert set(store.names(prefix)) == listed | {f"{prefix}/run.json"}
    assert set(written[1:-1]) == listed
    assert manifest["place"] == url
    for name in store.names():
        for key, secret in store.keys.values():
            assert secret.encode() not in store.content(name)
            assert key.encode() not in store.content(name)


def test_every_command_reads_it_as_from_a_disk(
    store: Store,
    as_writer: Audit,
    stored: tuple[str, list[str]],
    copied: Path,
    keys: tuple[Path, Path],
) -> None:
    url, audit = stored[0], as_writer
    sql = "SELECT * EXCLUDE (trace_id, other_trace_id) FROM cells ORDER BY ALL"
    cell = audit("query", copied, sql, "-o", "json").json[0]
    src, dst = (f"{cell[f'{side}_namespace']}/{cell[f'{side}_name']}" for side in ("src", "dst"))
    for words in (
        ("query", "RUN", sql, "-o", "json"),
        ("explain", "RUN", src, dst, "tcp/80", "-o", "json"),
        ("check", "RUN", "--pack", "namespace-isolation", "-q"),
        ("verify", "RUN", "--key", keys[1]),
        ("diff", "RUN", copied, "-q"),
        ("report", "RUN", "-o", "json", "--stdout"),
    ):
        before = len(store.line.asked)
        there, here = (
            audit(*(run if word == "RUN" else word for word in words)) for run in (url, copied)
        )
        asked = "".join(store.line.asked[before:])
        assert ("/traces/" in asked) is (words[0] not in ("check", "diff")), words
        assert ("/report.html" in asked) is (words[0] == "verify"), words
        assert (there.code, there.out) == (here.code, here.out), words
        assert there.code in (0, 1), there.err
    page = audit("report", url, "--out", "pages", "--since", copied, "-q")
    assert page.out.strip() == str(audit.directory / "pages" / "report.html")
    assert stream_run(copied).path == url, "the page's commands name the run where it is"
    unnamed = audit("report", url)
    assert (unnamed.code, unnamed.out) == (2, "")
    assert unnamed.err.startswith(f"audit: {url} is on an object store")
    assert audit("diff", copied, url, "-o", "html").code == 2


def test_the_newest_there_is_latest_where_runs_are_kept_there(
    store: Store, stored: tuple[str, list[str]], audit: Audit
) -> None:
    url = stored[0]
    there = replace(audit, environment={**store.environment(), "AUDIT_RUN_OUT": ROOT})
    named, *others = (
        there("report", run, "-o", "json", "--stdout")
        for run in (url, "latest", Path(url).name, Path(url).name[:10])
    )
    assert named.code == 0, named.err
    assert [(done.code, done.out) for done in others] == [(0, named.out)] * 3
    assert there("history", "-o", "json").json[0]["path"] == url
    empty = {**store.environment(), "AUDIT_RUN_OUT": f"s3://{BUCKET}/nothing"}
    done = replace(audit, environment=empty)("verify", "latest")
    assert (done.code, f"no runs in s3://{BUCKET}/nothing yet" in done.err) == (2, True)


def test_what_was_changed_there_is_noticed(store: Store, as_writer: Audit, copied: Path) -> None:
    assert as_writer("copy", copied, f"s3://{BUCKET}/changed").code == 0
    url = f"s3://{BUCKET}/changed/{copied.name}"
    cells = f"changed/{copied.name}/cells/part-00000.parquet"
    content = store.content(cells)
    store.put(cells, content[:100] + bytes([content[100] ^ 1]) + content[101:])
    asked = as_writer("query", url, "SELECT 1")
    assert (asked.code, asked.out) == (4, "")
    assert "cells/part-00000.parquet is missing or has other content" in asked.err
    verified = as_writer("verify", url)
    assert verified.code == 1
    assert "cells/part-00000.parquet has other content" in verified.out
    manifest = json.loads((copied / "run.json").read_text())
    manifest["outputs"].append({"path": "../../../evil", "size": 1, "sha256": "0" * 64})
    store.put(f"changed/{copied.name}/run.json", json.dumps(manifest).encode())
    asked = as_writer("query", url, "SELECT 1")
    assert (asked.code, asked.err.count("\n")) == (4, 1)
    assert "evil', which is not in the run" in asked.err
    store.delete(f"changed/{copied.name}/run.json")
    asked = as_writer("query", url, "SELECT 1")
    assert (asked.code, asked.err.count("\n")) == (4, 1)
    assert f"{url} is an unfinished run" in asked.err
    assert as_writer("history", f"s3://{BUCKET}/changed", "-o", "json").json == []


@pytest.mark.parametrize(
    ("place", "user", "code", "said"),
    [
        ("s3://no-such-bucket/x", ("writer", ""), 4, "there is no such bucket"),
        (f"s3://{BUCKET}/x", ("reader", ""), 4, "the credentials do not allow it"),
        (f"s3://{BUCKET}/x", ("writer", "wrong-secret"), 4, "the credentials are wrong"),
        ("gs://bucket/x", ("writer", ""), 2, "gs:// is not supported"),
        ("s3://me:hidden-secret@bucket/x", ("writer", ""), 2, "must not hold credentials"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_traced(
    place: str, user: tuple[str, str], code: int, said: str, store: Store, audit: Audit
) -> None:
    caller = replace(audit, environment=store.environment(*user))
    done = caller("run", "--snapshot", "nothing-is-read-yet", "--out", place)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err
    assert said in done.err
    assert "secret" not in done.err.replace("AWS_SECRET_ACCESS_KEY", "")
    assert store.keys[user[0]][1] not in done.err
    assert list(audit.directory.iterdir()) == []


def test_a_run_is_kept_here_when_the_store_goes_away_and_put_there_later(
    store: Store, as_writer: Audit, example_snapshot: Path
) -> None:
    store.line.cut_at = "/cells/"
    try:
        done = as_writer(
            "run", "--snapshot", example_snapshot, "--out", f"s3://{BUCKET}/later", *SCOPE
        )
    finally:
        store.line.cut_at, store.line.down = "", False
    assert (done.code, done.err.count("\n")) == (4, 1), done.err
    assert "the store cannot be reached" in done.err
    [command] = re.findall(r"`audit (copy \S+ \S+)`", done.err)
    assert not [name for name in store.names("later") if name.endswith("run.json")]
    local = Path(command.split()[1])
    assert as_writer("verify", local).code == 0
    assert as_writer(*command.split()).code == 0
    assert as_writer("verify", f"s3://{BUCKET}/later/{local.name}").code == 0


CUTS = int(os.environ.get("AUDIT_CUTS", "1"))
"""How often a delivery is cut; `make kill` cuts twenty."""


def test_cut_at_any_moment_a_delivery_is_none_and_can_be_made_again(
    store: Store, as_writer: Audit, copied: Path
) -> None:
    root = f"s3://{BUCKET}/cut"

    def names() -> list[str]:
        return store.names(f"cut/{copied.name}/")

    def delivered() -> dict[str, bytes]:
        return {name: store.content(name) for name in names()}

    before = store.line.sent
    assert as_writer("copy", copied, root).code == 0
    size, whole = store.line.sent - before, delivered()
    for cut in range(CUTS):
        for name in names():
            store.delete(name)
        store.line.cut_after = store.line.sent + size * (cut + 0.5) / CUTS
        done = as_writer("copy", copied, root)
        store.line.cut_after, store.line.down = math.inf, False
        assert (done.code, done.err.count("\n")) == (4, 1), (cut, done.err)
        assert f"cut/{copied.name}/run.json" not in names(), "it is no run yet"
        assert as_writer("copy", copied, root).code == 0
        assert delivered() == whole


def test_what_was_cut_short_is_gone_on_with_and_put_there(
    store: Store, as_writer: Audit, example_snapshot: Path
) -> None:
    """A finished run of which something was not traced, on the store; then one on the disk."""
    root = f"s3://{BUCKET}/short"
    flags = ("--snapshot", example_snapshot, "--out", root, *SCOPE, "-o", "json")
    first = as_writer("run", *flags, "--time-limit", "0.001s")
    assert (first.code, first.json["incomplete"]) == (3, True)
    second = as_writer("run", "--resume", first.json["path"], "-q", "-o", "json")
    assert (second.code, second.json["incomplete"]) == (0, False)
    assert second.json["resumed"]["run"] == first.json["run_id"]
    assert as_writer("verify", second.json["path"]).code == 0
    assert list(as_writer.directory.iterdir()) == []

    unfinished = as_writer.directory / "copies" / second.json["run_id"]
    assert as_writer("copy", second.json["path"], unfinished.parent).code == 0
    (unfinished / "run.json").unlink()
    shutil.rmtree(unfinished / "cells")
    prefix = f"short/{second.json['run_id']}"
    store.delete(f"{prefix}/run.json")
    untold = as_writer("run", "--resume", unfinished, "-q", "-o", "json")
    assert untold.code == 2, "where it goes is not believed of a file of the run"
    assert f"`--out {root}`" in untold.err
    third = as_writer("run", "--resume", unfinished, "--out", root, "-q", "-o", "json")
    assert (third.code, third.json["path"]) == (0, f"s3://{BUCKET}/{prefix}")
    assert third.json["resumed"]["traces_kept"] == second.json["counts"]["traces"]
    assert as_writer("verify", third.json["path"]).code == 0
    assert not unfinished.exists()

    # One that was ended while it was being put there is whole on the disk, and is put there.
    assert as_writer("copy", third.json["path"], unfinished.parent).code == 0
    store.delete(f"{prefix}/run.json")
    fourth = as_writer("run", "--resume", unfinished, "--out", root, "-q", "-o", "json")
    assert (fourth.code, fourth.json["path"]) == (0, f"s3://{BUCKET}/{prefix}")
    assert fourth.json["finished"] == third.json["finished"], "nothing was traced again"
    assert as_writer("verify", fourth.json["path"]).code == 0
    assert not unfinished.exists()


def shows_the_pages_of_a_store(
    root: str, copied: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    for name, value in store.environment("reader").items():
        monkeypatch.setenv(name, value)
    site = Site(remote.located(root))
    index = site.answer(Request())
    assert [name in index.body for name in (b"run-1/report.html", b"half")] == [True, False]
    page = site.answer(Request(path="/run-2/report.html"))
    assert page.body == (copied / "report.html").read_bytes()
    store.put("kept/run-3/report.html", b"<p>another")
    changed = site.answer(Request(path="/run-3/report.html"))
    assert (changed.status.value, b"another" in changed.body) == (500, False)
    store.put("kept/run-3/report.html", page.body)


def test_history_of_a_store(
    store: Store, as_writer: Audit, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists what is finished, asks all of it, and takes away what is told and no more."""
    root = f"s3://{BUCKET}/kept"
    for day in (1, 2, 3):
        run = as_writer.directory / f"run-{day}"
        shutil.copytree(copied, run)
        manifest = json.loads((run / "run.json").read_text())
        manifest |= {"run_id": run.name, "started": f"2026-11-0{day}T00:00:00+00:00"}
        (run / "run.json").write_bytes(manifest_text(manifest))
        if day == 1:
            assert as_writer("copy", run, root).code == 0
            continue
        for file in run.rglob("*.*"):  # as the copy above, without a process each
            store.put(f"kept/{run.name}/{file.relative_to(run)}", file.read_bytes())
    store.put("kept/notes/readme.txt", b"no run")
    store.put("kept/half/plan.json", b'{"started": "2020-01-01T00:00:00+00:00"}')
    listed = as_writer("history", root, "-o", "json")
    assert [one["path"] for one in listed.json] == [f"{root}/run-{day}" for day in (1, 2, 3)]
    shows_the_pages_of_a_store(root, copied, monkeypatch, store)
    sql = "SELECT run, count(*) AS n FROM cells GROUP BY run ORDER BY run"
    cells = json.loads((copied / "run.json").read_text())["counts"]["cells"]
    asked = as_writer("history", root, "--sql", sql, "-o", "json")
    assert asked.json == [{"run": f"run-{day}", "n": cells} for day in (1, 2, 3)]
    keep = ("--prune", "--keep-last", "2", "--keep-days", "1")
    dry = as_writer("history", root, *keep, "--dry-run")
    assert dry.out == f"would remove {root}/run-1\n"
    assert "kept/run-1/run.json" in store.names("kept")
    reader = replace(as_writer, environment=store.environment("reader"))
    assert reader("history", root, "-o", "json").out == listed.out
    refused = reader("history", root, *keep)
    assert (refused.code, refused.err.count("\n")) == (4, 1)
    assert as_writer("history", root, *keep).out == f"removed {root}/run-1\n"
    left = {name.split("/")[1] for name in store.names("kept")} - {""}  # pyarrow marks directories
    assert left == {"half", "notes", "run-2", "run-3"}
