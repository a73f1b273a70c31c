"""One audit of the bundled example, run by the real command, for every test that reads it."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


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
    """Calls the command in a directory of its own."""

    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] | None = None

    def __call__(self, *arguments: str | Path, timeout: float = 240) -> Called:
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
    """Run the command and return the run's directory."""
    done = subprocess.run(
        [*command, "run", "--snapshot", str(snapshot), "--out", str(root), "-o", "json", *flags],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return Path(json.loads(done.stdout)["path"])
