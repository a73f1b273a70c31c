"""A run that someone else handed over: it is read, and tells nobody what to do."""

import json
import os
import shlex
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from audit.commands.serve import Request, Site
from audit.store.layout import manifest_text
from tests.cli.conftest import Inside
from tests.deeds import RUNS, Deed, watched
from tests.end_to_end.conftest import Audit, Called
from tests.end_to_end.test_failures import one_sentence

pytestmark = pytest.mark.ovn

CELL = ("prod/prod-client-0", "default/web-0", "tcp/80")
READERS = (
    ("verify", "RUN"),
    ("copy", "RUN", "s3://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http"),
    ("report", "RUN"),
    ("report", "RUN", "-o", "json", "-o", "sarif", "--out", "elsewhere"),
    ("explain", "RUN", *CELL),
    ("diff", "RUN", "OTHER"),
    ("diff", "OTHER", "RUN", "-o", "html"),
    ("query", "RUN", "SELECT count(*) FROM cells"),
    ("check", "RUN", "--pack", "namespace-isolation"),
    ("history", "runs"),
)
ELSEWHERE = "../../outside"
PLACES = ("run.json", "run.json.sig", "plan.json", "report.html", "policies.parquet", "cells")


@pytest.fixture
def run(small_run: Path, audit: Audit) -> Path:
    """Return a copy of a finished run, below `runs`."""
    target = audit.directory / "runs" / small_run.name
    shutil.copytree(small_run, target)
    return target


@pytest.fixture
def other(small_run: Path, audit: Audit) -> Path:
    """Return another copy, to compare with."""
    target = audit.directory / "others" / small_run.name
    shutil.copytree(small_run, target)
    return target


class Listener:
    """Accepts connections on this machine, and counts them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()


def contents(root: Path, besides: Path) -> dict[str, tuple[int, bytes | str]]:
    """Return everything below a directory, but for what is in one of its own."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else b"",
        )
        for path in root.rglob("*")
        if not path.is_relative_to(besides) and "elsewhere" not in path.parts
    }


def unfinish(run: Path) -> dict[str, Any]:
    """Make a run one that was ended before it was whole; return its plan."""
    (run / "run.json").unlink()
    if not (run / "cells").is_symlink():
        shutil.rmtree(run / "cells")
    plan: dict[str, Any] = json.loads((run / "plan.json").read_text())
    return plan


def change(run: Path, plan: dict[str, Any], **options: object) -> None:
    changed = {**plan, "options": {**plan["options"], **options}}
    (run / "plan.json").write_text(json.dumps(changed))


def plant(prefix: Path, mark: Path) -> None:
    """Make a prefix whose programs leave a mark."""
    for directory in ("bin", "usr/bin", "sbin", "usr/sbin"):
        (prefix / directory).mkdir(parents=True)
        for program in ("ovn-trace", "ovsdb-server", "ovsdb-tool", "ovn-northd"):
            file = prefix / directory / program
            file.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(mark))}\nexit 1\n")
            file.chmod(0o755)


def test_a_program_that_a_plan_names_is_not_run(audit: Audit, run: Path) -> None:
    mark = audit.directory / "executed"
    plant(run / "evil", mark)
    change(run, unfinish(run), ovn_prefix=str(run / "evil"))
    done = audit("run", "--resume", run)
    assert done.code == 2
    assert f"--ovn-prefix {run / 'evil'}" in one_sentence(done)
    assert "--without ovn-prefix" in done.err
    assert not mark.exists()
    assert audit("run", "--resume", run, "--without", "ovn-prefix", "-q").code in (0, 1)
    assert not mark.exists()


def test_a_program_that_the_user_names_is(audit: Audit, run: Path) -> None:
    """The trap of the test above works, and the environment is the user's word too."""
    mark = audit.directory / "executed"
    plant(run / "evil", mark)
    unfinish(run)
    assert audit("run", "--resume", run, "--ovn-prefix", run / "evil").code == 4
    assert mark.exists()
    mark.unlink()
    environment = {**os.environ, "AUDIT_OVN_PREFIX": str(run / "evil")}
    assert replace(audit, environment=environment)("run", "--resume", run).code == 4
    assert mark.exists()


def test_nothing_is_sent_where_a_plan_says(audit: Audit, run: Path) -> None:
    with listening() as listener:
        place = f"s3://bucket/runs?endpoint_override={listener.address}&scheme=http"
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        asked = replace(audit, environment=environment)
        change(run, unfinish(run), destination=place)
        done = asked("run", "--resume", run)
        assert done.code == 2
        assert f"--out '{place}'" in one_sentence(done)
        assert listener.connections == 0
        assert asked("run", "--resume", run, "--without", "out", "-q").code in (0, 1)
        assert listener.connections == 0
        # The trap works: who names it is sent there.
        assert asked("run", "--resume", run, "--out", place, "--without", "out").code == 4
        assert listener.connections > 0


def test_no_key_signs_that_a_plan_names(audit: Audit, run: Path, keys: tuple[Path, Path]) -> None:
    change(run, unfinish(run), sign_key=str(keys[0]))
    done = audit("run", "--resume", run)
    assert done.code == 2
    assert f"--sign-key {keys[0]}" in one_sentence(done)
    assert audit("run", "--resume", run, "--without", "sign-key", "-q").code in (0, 1)
    assert not (run / "run.json.sig").exists()
    assert audit("run", "--resume", run, "--sign-key", keys[0], "-q").code in (0, 1)
    assert audit("verify", run, "--key", keys[1]).code == 0


def test_no_cluster_is_asked_that_a_plan_names(audit: Audit, run: Path) -> None:
    mark = audit.directory / "executed"
    with listening() as listener:
        user = {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": "/usr/bin/touch",
                "args": [str(mark)],
                "interactiveMode": "Never",
            }
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://{listener.address}"}}],
            "users": [{"name": "c", "user": user}],
        }
        file = run / "kubeconfig"
        file.write_text(json.dumps(config))
        cluster = {"kubeconfig": str(file), "context": "c", "namespace": "", "exec_timeout_s": 5}
        change(run, unfinish(run), cluster=cluster)
        done = audit("run", "--resume", run)
        assert done.code == 2
        assert f"--traces exec --kubeconfig {file} --context c" in one_sentence(done)
        assert audit("run", "--resume", run, "--traces", "copied", "-q").code in (0, 1)
        assert (listener.connections, mark.exists()) == (0, False)


def test_nothing_listens_where_a_plan_says(audit: Audit, run: Path) -> None:
    change(run, unfinish(run), workers="agents", agents_listen="0.0.0.0:6379")
    done = audit("run", "--resume", run)
    assert done.code == 2
    assert "--workers agents --agents-listen 0.0.0.0:6379" in one_sentence(done)


@pytest.mark.parametrize(
    "options",
    [
        {"verify": -1},
        {"planes": ["datapaths"]},
        {"cover": 7},
        {"snapshot": 7},
        {"cluster": "prod", "planes": ["logical"]},
    ],
    ids=str,
)
def test_a_plan_that_no_audit_wrote_is_a_sentence(
    audit: Audit, run: Path, options: dict[str, object]
) -> None:
    change(run, unfinish(run), **options)
    done = audit("run", "--resume", run)
    assert done.code == 4
    assert "plan.json does not say what was asked" in one_sentence(done)


@pytest.mark.parametrize(
    "fields",
    [
        {"started": "yesterday"},
        {"started": "2026-01-01T00:00:00"},
        {"engine": ["ovn-trace"]},
        {"inputs": [{"path": "kube/pods.json"}]},
        {"inputs": 7},
        {"options": []},
        {"scope": "all"},
    ],
    ids=str,
)
def test_a_plan_of_another_shape_is_a_sentence(
    audit: Audit, run: Path, fields: dict[str, object]
) -> None:
    (run / "plan.json").write_text(json.dumps(unfinish(run) | fields))
    done = audit("run", "--resume", run)
    assert done.code == 4
    assert "is not as an audit writes it" in one_sentence(done)


def test_a_snapshot_that_never_ends_is_not_waited_for(audit: Audit, run: Path) -> None:
    os.mkfifo(run.parent / "fifo")
    plan = unfinish(run)
    for place in (run.parent / "fifo", Path("/dev/zero")):
        change(run, plan, snapshot=str(place))
        done = audit("run", "--resume", run)
        assert done.code == 4
        assert "neither a file nor a directory" in one_sentence(done)


def read(
    inside: Inside, run: Path, other: Path, readers: Sequence[tuple[str, ...]] = READERS
) -> Iterator[tuple[str, Called]]:
    """Ask every command of a run; a command that waits for ever fails."""
    names = {"RUN": str(run), "OTHER": str(other)}
    for words in readers:
        called = inside(*(names.get(word, word) for word in words))
        assert called.code in (0, 1, 2, 3, 4), called.err
        assert "Traceback" not in called.err
        assert "unexpected" not in called.err
        yield words[0], called


@dataclass(frozen=True, kw_only=True)
class Trap:
    """Where hostile words lead: to a program that leaves a mark, and to who notes each call."""

    mark: Path
    listener: Listener
    words: tuple[str, ...]
    outside: Path
    run: Path
    before: Mapping[str, tuple[int, bytes | str]]

    def assert_untouched(self, about: object) -> None:
        assert not self.mark.exists(), about
        assert self.listener.connections == 0, about
        assert contents(self.outside, self.run) == self.before, about


@pytest.fixture
def trap(audit: Audit, run: Path, other: Path) -> Iterator[Trap]:
    del other  # it is there before the trap looks what is
    mark = audit.directory / "executed"
    plant(run / "evil", mark)
    with listening() as listener:
        place = f"s3://bucket/runs?endpoint_override={listener.address}&scheme=http"
        yield Trap(
            mark=mark,
            listener=listener,
            words=(f"; touch {mark}", place, ELSEWHERE, str(run / "evil")),
            outside=audit.directory,
            run=run,
            before=contents(audit.directory, run),
        )


def test_hostile_words_of_a_finished_run_do_nothing(
    trap: Trap, inside: Inside, run: Path, other: Path
) -> None:
    """Every text of run.json and plan.json is changed to one that names, runs or sends."""
    for word in (f"$(touch {trap.mark})", *trap.words):
        for name in ("run.json", "plan.json"):
            whole = json.loads((other / name).read_text())
            kept = {"outputs", "schema_version", "started", "counts", "coverage", "labels"}
            text = {k: v if k in kept else replaced(v, word) for k, v in whole.items()}
            (run / name).write_bytes(summed({**text, "place": word}))
        for _, called in read(inside, run, other):
            assert str(trap.mark) not in called.out or called.code in (0, 1)
        resumed = inside("run", "--resume", run)
        assert resumed.code in (2, 4), resumed.err
        assert "Traceback" not in resumed.err
        trap.assert_untouched(word)


def summed(value: dict[str, Any]) -> bytes:
    """Return it with a sum of its own, which whoever changes a run makes anew."""
    return manifest_text({k: v for k, v in value.items() if k != "content_sha256"})


MAPS = frozenset({"host", "labels", "markers", "tools"})
"""Parts of run.json whose fields are alike: the first below each is tried."""


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every field of JSON; of fields that are alike those of the first alone."""
    if isinstance(value, dict) and value:
        alike = bool(path) and path[0] in MAPS
        for name, part in list(value.items())[: 1 if alike and len(path) > 1 else None]:
            yield from leaves(part, (*path, name))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))
    else:
        yield path


def changed_at(value: Any, path: tuple[str | int, ...], to: object) -> Any:
    """Return JSON with another value of one field."""
    if not path:
        return to
    step, *rest = path
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[step] = changed_at(copy[step], tuple(rest), to)
    return copy


QUICK = (
    ("verify", "RUN"),
    ("report", "RUN", "-o", "json", "-o", "sarif", "--out", "elsewhere"),
    ("explain", "RUN", *CELL),
    ("diff", "RUN", "OTHER"),
    ("query", "RUN", "SELECT count(*) FROM cells"),
    ("check", "RUN", "--pack", "namespace-isolation"),
    ("history", "runs", "-o", "html"),
    ("who", CELL[1], "--run", "RUN"),
    ("can", *CELL, "--run", "RUN"),
)
SLOW = (("report", "RUN"), ("diff", "OTHER", "RUN", "-o", "html"), READERS[1])
"""Rendering a page takes a second, and a store that does not answer is asked again."""
EVERY = 12
"""The slow ones read one field in so many."""


def asks_version(deed: Deed) -> bool:
    return deed.event == "subprocess.Popen" and deed.arguments[-1:] == ("--version",)


def outside(deeds: Sequence[Deed], run: Path) -> list[Deed]:
    """Return what was run, sent or written that is not the audit's own business."""
    scratch = Path(tempfile.gettempdir())

    def allowed(path: Path) -> bool:
        return (
            path.is_relative_to(run)
            or path.is_relative_to(Path.cwd() / "elsewhere")
            or (path.is_relative_to(scratch) and path.relative_to(scratch).parts[0][:6] == "audit.")
            or path == Path(os.devnull)
            or "__pycache__" in path.parts
        )

    def programs(deed: Deed) -> bool:
        """Say whether a program is one of an OVN that is installed here, asked who it is."""
        return asks_version(deed) and not Path(deed.program).is_relative_to(Path.cwd())

    return [d for d in deeds if not (programs(d) or (d.paths and all(map(allowed, d.paths))))]


def test_any_one_hostile_field_of_a_run_does_nothing(
    trap: Trap, inside: Inside, run: Path, other: Path
) -> None:
    """What does something only while the rest is as an audit wrote it.

    The interpreter tells what is done, the trap what a library does that is not Python's. A run
    that is gone on with gets to where it would trace: there its programs are refused.
    """
    values = (*trap.words, 1 << 70, None)
    fields = [
        (name, path)
        for name in ("run.json", "plan.json")
        for path in leaves(json.loads((other / name).read_text()))
    ]
    assert len(fields) > 110
    for number, (name, path) in enumerate(fields):
        value = ELSEWHERE if path[-1] == "path" else values[number % len(values)]
        whole = json.loads((other / name).read_text())
        (run / name).write_bytes(summed(changed_at(whole, path, value)))
        readers = QUICK if name == "run.json" else QUICK[-3:]
        with watched() as deeds:
            for _ in read(inside, run, other, readers if number % EVERY else (*readers, *SLOW)):
                pass
            for page in ("/", f"/{run.name}/report.html"):
                assert Site(root=run.parent).answer(Request(path=page)).status < HTTPStatus(501)
        assert not outside(deeds, run), (name, path, value)
        if name == "plan.json":  # an unfinished run is gone on with, if nothing forbids it
            (run / "run.json").unlink()
            with watched(lambda d: d.event in RUNS and not asks_version(d)) as deeds:
                resumed = inside("run", "--resume", run)
            assert resumed.code in (0, 1, 2, 3, 4), (path, value, resumed.err)
            assert "Traceback" not in resumed.err
            assert "unexpected" not in resumed.err
            refused = [d for d in outside(deeds, run) if d.program.startswith(str(Path.cwd()))]
            sent = [d for d in outside(deeds, run) if d.event not in RUNS]
            assert not refused + sent, (path, value)
        trap.assert_untouched((name, path, value))
        shutil.copytree(other, run, dirs_exist_ok=True)


def replaced(value: object, word: str) -> object:
    """Return a value of JSON with every text replaced."""
    if isinstance(value, str):
        return word
    if isinstance(value, list):
        return [replaced(part, word) for part in value]
    if isinstance(value, dict):
        return {name: replaced(part, word) for name, part in value.items()}
    return value


def substitute(place: Path, kind: str, outside: Path) -> None:
    """Put something that is no regular file in the place of a file or a directory."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(place))  # which has to be short
    else:
        place.symlink_to({"endless": Path("/dev/zero"), "link": outside}[kind])


@pytest.mark.parametrize("kind", ["fifo", "endless", "link", "socket"])
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_regular_file_is_not_read(
    audit: Audit, inside: Inside, run: Path, other: Path, kind: str, name: str
) -> None:
    # What the link leads to is the very file, so that only the link is wrong with it.
    substitute(run / name, kind, other / name if (other / name).exists() else other / "plan.json")
    before = contents(audit.directory, run)
    for command, called in read(inside, run, other):
        if command in ("verify", "copy"):
            assert called.code in (1, 4), f"{command} passes over nothing"
            assert name in called.out + called.err
    assert contents(audit.directory, run) == before


@pytest.mark.parametrize(
    "name", ["traces", "cells", ".report.html.partial", ".plan.json.partial", ".run.json.partial"]
)
def test_nothing_is_written_through_a_link(
    audit: Audit, inside: Inside, run: Path, other: Path, name: str
) -> None:
    outside = audit.directory / "outside"
    outside.mkdir()
    (outside / "own.parquet").write_bytes(b"mine")
    (outside / ".kept.partial").write_bytes(b"mine")
    target = outside / "own.parquet" if name.endswith(".partial") else outside
    for finished in (True, False):
        if not finished:
            unfinish(run)
        if (run / name).is_dir() and not (run / name).is_symlink():
            shutil.rmtree(run / name)
        if not (run / name).is_symlink():
            (run / name).symlink_to(target)
        before = contents(audit.directory, run)
        for _ in read(inside, run, other):
            pass
        resumed = inside("run", "--resume", run)
        assert resumed.code in (2, 4)
        assert contents(audit.directory, run) == before
        assert sorted(path.read_bytes() for path in outside.iterdir()) == [b"mine", b"mine"]


def test_a_link_beside_a_run_is_not_put_on_a_store(audit: Audit, run: Path) -> None:
    secret = audit.directory / "secret"
    secret.write_text("secret")
    (run / "run.json.sig").symlink_to(secret)  # which run.json does not list
    with listening() as listener:
        place = f"s3://bucket/runs?endpoint_override={listener.address}&scheme=http"
        done = audit("copy", run, place)
    assert done.code == 4
    assert "run.json.sig is a link" in one_sentence(done)
    assert listener.connections == 0


def test_a_plan_beside_other_runs_is_not_waited_for(audit: Audit, run: Path) -> None:
    """Whoever writes below the same directory looks into the plans there."""
    stranger = run.parent / "stranger"
    stranger.mkdir()
    os.mkfifo(stranger / "plan.json")
    assert audit("history", "runs").code == 0
    assert audit("history", "runs", "--prune", "--keep-last", "9").code in (0, 2)
    change(run, unfinish(run))
    assert audit("run", "--resume", run, "-q").code in (0, 1)
