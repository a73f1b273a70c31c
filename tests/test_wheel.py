"""The wheel: nothing but `audit` in site-packages, with the page's templates and the docs in it."""

import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(REPOSITORY)).build(directory=str(out))))


def test_nothing_but_audit_is_installed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"audit"}
    data = [name.partition(".data/")[2] for name in names if ".data/" in name]
    assert data == ["scripts/audit-manifests"]
    [listed] = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
    commands = zipfile.ZipFile(wheel).read(listed).decode()
    for command in ("audit", "kubectl-ovn_audit", "kubectl_complete-ovn_audit"):
        assert f"\n{command} = audit." in commands
    for directory, inside in (
        ("reports/templates", "audit/report/templates"),
        ("docs", "audit/docs"),
    ):
        pattern = "*.md" if directory == "docs" else "*"
        expected = {f"{inside}/{file.name}" for file in (REPOSITORY / directory).glob(pattern)}
        assert expected == {name for name in names if name.startswith(f"{inside}/")}


def test_an_installed_package_finds_its_templates_and_its_docs(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from audit.report.render import environment\n"
        "print(environment().get_template('report.html.j2').filename)\n"
        "sys.argv[1:] = ['docs', 'docs/formats.md']\n"
        "from audit.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    template, _, page = done.stdout.partition("\n")
    assert Path(template).is_relative_to(tmp_path)
    assert page.startswith((REPOSITORY / "docs" / "formats.md").read_text()[:200])


def test_what_a_registry_shows_is_there(wheel: Path) -> None:
    [metadata] = [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("/METADATA")]
    fields = HeaderParser().parsestr(zipfile.ZipFile(wheel).read(metadata).decode())
    assert fields["Name"] == "ovn-audit"
    labels = {line.partition(",")[0] for line in fields.get_all("Project-URL") or ()}
    assert labels == {"Homepage", "Documentation", "Source", "Changelog"}
