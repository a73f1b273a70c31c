"""What tests of several stages need: a real OVN and a recorded cluster."""

import sys
from pathlib import Path

import hypothesis
import pytest

from audit.replay import toolchain as toolchains
from audit.replay.toolchain import Toolchain

# Examples run real code on shared machines: how long one takes says nothing about it.
hypothesis.settings.register_profile("audit", deadline=None)
hypothesis.settings.load_profile("audit")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """Return the newest OVN at hand; without one the test fails, for a skip proves nothing."""
    found = toolchains.find()
    if not found:
        pytest.fail(f"OVN is not installed; run `{toolchains.INSTALL_COMMAND}` (or `make ovn`)")
    return max(found, key=lambda candidate: candidate.version)


@pytest.fixture(scope="session")
def example_snapshot() -> Path:
    """Return the recorded cluster that the README's first command audits."""
    return REPOSITORY / "examples" / "interconnect.tar.gz"


@pytest.fixture(scope="session")
def audit_command() -> tuple[str, ...]:
    """Return the command line as an installed one would be called."""
    return (sys.executable, "-m", "audit")
