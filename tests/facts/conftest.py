"""Two whole recorded clusters, unpacked once, and copies of them that a test may change."""

import shutil
import tarfile
from pathlib import Path

import pytest

from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from tests.archives import extract

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDED = {
    "interconnect": REPOSITORY / "examples" / "interconnect.tar.gz",
    "central": REPOSITORY / "tests" / "data" / "ovn-23.03-central.tar.xz",
}


@pytest.fixture(scope="session")
def reader(toolchain: Toolchain) -> OvsdbTool:
    return OvsdbTool(programs=toolchain)


@pytest.fixture(scope="session", params=sorted(RECORDED))
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return each recorded cluster as a directory; tests only read it."""
    root = tmp_path_factory.mktemp(request.param)
    with tarfile.open(RECORDED[request.param]) as tar:
        extract(tar, root)
    return root


@pytest.fixture(scope="session")
def _interconnect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    with tarfile.open(RECORDED["interconnect"]) as tar:
        extract(tar, root)
    return root


@pytest.fixture
def cluster(_interconnect: Path, tmp_path: Path) -> Path:
    """Return a copy of the interconnect cluster that the test may change."""
    return Path(shutil.copytree(_interconnect, tmp_path / "cluster"))
