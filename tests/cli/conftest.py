"""A small run of the bundled example, and the command to ask it."""

from pathlib import Path

import pytest

from tests.end_to_end.conftest import Audit, run_of


@pytest.fixture
def audit(audit_command: tuple[str, ...], tmp_path: Path) -> Audit:
    return Audit(command=audit_command, directory=tmp_path)


@pytest.fixture(scope="session")
def small_run(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a run from the pods of one namespace to those of another."""
    flags = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80", "-q")
    return run_of(audit_command, tmp_path_factory.mktemp("runs"), example_snapshot, *flags)
