"""What tests of several stages need: a real OVN and a recorded cluster."""

import os
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

LONG = (
    "end_to_end/test_mutate.py",
    "end_to_end/test_parity.py",
    "end_to_end/test_resume.py",
    "end_to_end/test_cover.py",
    "end_to_end/test_agents.py",
    "end_to_end/test_blindness.py",
    "end_to_end/test_diff.py",
    "end_to_end/test_own_switches.py",
    "end_to_end/test_store.py",
    "test_transcripts.py",
    "end_to_end/",
    "fanout/",
    "cli/",
    "report/test_browser.py",
    "replay/",
    "trace/",
)
"""Files, and directories of files, that take minutes: begun last, one keeps a single CPU busy."""


def pytest_xdist_auto_num_workers() -> int:
    """Return three processes for two CPUs: much of their time they wait for other programs."""
    return max(len(os.sched_getaffinity(0)) * 3 // 2, 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; xdist alone begins with the files of the most tests."""
    items.sort(key=lambda item: _turn(item.path.relative_to(REPOSITORY / "tests").as_posix()))


def _turn(path: str) -> int:
    return next((turn for turn, begin in enumerate(LONG) if path.startswith(begin)), len(LONG))


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
