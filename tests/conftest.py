"""What tests of several stages need: a real OVN and a recorded cluster."""

import sys
from pathlib import Path

import hypothesis
import pytest

from audit.errors import EngineError
from audit.replay import toolchain as toolchains
from audit.replay.toolchain import Toolchain

# Examples run real code on shared machines: how long one takes says nothing about it.
hypothesis.settings.register_profile("audit", deadline=None)
hypothesis.settings.load_profile("audit")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """Return the OVN that a database of 25.03 is traced with; without one the test fails."""
    return engine_for("25.03.0")


@pytest.fixture(scope="session")
def newest_toolchain() -> Toolchain:
    """Return the OVN that a database of 26.03 is traced with; without one the test fails."""
    return engine_for("26.03.0")


def engine_for(version: str) -> Toolchain:
    """Return what `audit` would choose; a test that lacks it fails, for a skip proves nothing."""
    try:
        return toolchains.choose(toolchains.find(), {"z": version})
    except EngineError as error:
        pytest.fail(f"{error}; or `make ovns`")


@pytest.fixture(scope="session")
def example_snapshot() -> Path:
    """Return the recorded cluster that the README's first command audits."""
    return REPOSITORY / "examples" / "interconnect.tar.gz"


@pytest.fixture(scope="session")
def audit_command() -> tuple[str, ...]:
    """Return the command line as an installed one would be called."""
    return (sys.executable, "-m", "audit")
