"""Audits of the bundled example by the real command, and the same cluster behind an API server."""

import contextlib
import copy
import csv
import io
import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audit.cli.main import main
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.end_to_end.apiserver import Cluster

SCOPE = ("-n", "shop", "--port", "tcp/80", "--verify", "5", "--workers", "inline", "-o", "json")
COLUMNS = (
    "src_namespace, src_name, dst_namespace, dst_name, protocol, port, verdict, reply, reason, "
    "blame_kind, blame_name, blame_rule, src_node, dst_node"
)


READING = ("query", "explain", "verify", "history", "check", "diff", "report")
"""Commands that only read: as a process each takes a second to load what the test has loaded."""


def is_called_here(arguments: Sequence[str]) -> bool:
    """Say whether a command is called without a process of its own: it loads nothing twice.

    So are runs of files, by workers of this process; not what signals or other processes are part
    of.
    """
    if threading.current_thread() is not threading.main_thread() or not arguments:
        return False
    if arguments[0] in READING:
        return True
    if arguments[0] in ("who", "can"):
        return not {"--live", "--kubeconfig"} & {*arguments}
    inline = "--workers" not in arguments or arguments[arguments.index("--workers") + 1] == "inline"
    return arguments[0] in ("run", "plan") and "--snapshot" in arguments and inline


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a call of the command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Calls the command in a directory of its own; what only reads, without a process."""

    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] | None = None

    def __call__(self, *arguments: str | Path, timeout: float = 240) -> Called:
        words = tuple(map(str, arguments))
        if self.environment is None and is_called_here(words):
            return called_here(self.directory, *words)
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Called(code=done.returncode, out=done.stdout, err=done.stderr)


def called_here(directory: Path, *arguments: str) -> Called:
    """Call the command as `main` ends it, in this process, which has its libraries loaded."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audit", *arguments])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.chdir(directory)
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
    texts = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    return Called(code=int(ended.value.code or 0), out=texts[0], err=texts[1])


@pytest.fixture
def audit(audit_command: tuple[str, ...], tmp_path: Path) -> Audit:
    return Audit(command=audit_command, directory=tmp_path)


@pytest.fixture(scope="session")
def example_run(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a run over the whole example: every pod to every pod, what they declare."""
    return run_of(audit_command, tmp_path_factory.mktemp("runs"), example_snapshot)


def openssl(*words: str | Path) -> int:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, check=False)
    return done.returncode


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a private key that OpenSSL made, and its public half."""
    place = tmp_path_factory.mktemp("keys")
    private, public = place / "key.pem", place / "public.pem"
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", private) == 0
    assert openssl("pkey", "-in", private, "-pubout", "-out", public) == 0
    return private, public


def run_of(command: Sequence[str], root: Path, snapshot: Path, *flags: str, code: int = 0) -> Path:
    """Run the command and return the run's directory.

    With `code` 0 the run may still find what OVN-Kubernetes is known to enforce otherwise.
    """
    done = Audit(command=tuple(command), directory=Path.cwd())(
        "run", "--snapshot", snapshot, "--out", root, "-o", "json", *flags
    )
    said = done.json
    errors = {one["kind"] for one in said["findings"] if one["severity"] == "error"}
    known = code == 0 and errors == {"not-enforced-as-written"}
    assert done.code == (1 if known else code), done.err
    return Path(said["path"])


@pytest.fixture(scope="module")
def recorded(example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root)
    return root


@pytest.fixture(scope="module")
def serving(recorded: Path, toolchain: Toolchain) -> Iterator[Cluster]:
    with Cluster(directory=recorded).serving(toolchain) as cluster:
        yield cluster


@pytest.fixture
def cluster(serving: Cluster) -> Iterator[Cluster]:
    """Return the cluster as it is recorded; what a test changes is undone."""
    lists = copy.deepcopy(serving.lists)
    yield serving
    serving.lists = lists
    serving.reset()


@pytest.fixture
def live(cluster: Cluster, tmp_path: Path) -> tuple[str, ...]:
    """Return the flags that lead to the cluster."""
    return ("--kubeconfig", str(cluster.kubeconfig(tmp_path / "kubeconfig")))


@pytest.fixture
def nothing_is_left(cluster: Cluster) -> Iterator[None]:
    """After the test nothing runs in any pod, and nothing lies there."""
    yield
    assert cluster.idle()
    deadline = time.monotonic() + 10
    while (left := (*processes(cluster), *cluster.nodes.glob("*/tmp/*"))) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not left


def processes(cluster: Cluster) -> list[str]:
    """Return the command lines of what was started in a pod, by its environment, and runs."""
    mark, found = f"={cluster.nodes}/".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text()[-200:])
    return found


def cells(audit: Audit, run: str, more: str = "") -> list[dict[str, str]]:
    """Return the cells of a run, in order; `more` columns than the usual."""
    done = audit("query", run, f"SELECT {COLUMNS}{more} FROM cells ORDER BY ALL", "-o", "csv")
    assert done.code == 0, done.err
    return list(csv.DictReader(io.StringIO(done.out)))


def cells_of_files(
    audit: Audit, recorded: Path, asked: Sequence[str], more: str = ""
) -> list[dict[str, str]]:
    """Run on recorded files, and return what is said of each cell."""
    done = audit("run", "--snapshot", recorded, *asked)
    assert done.code == 0, done.err
    return cells(audit, done.json["path"], more)


@pytest.fixture(scope="module")
def expected(
    audit_command: tuple[str, ...], recorded: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, str]]:
    """Return what a run of the recorded files says."""
    audit = Audit(command=audit_command, directory=tmp_path_factory.mktemp("expected"))
    return cells_of_files(audit, recorded, SCOPE)
