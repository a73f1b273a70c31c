"""What is installed is what is pinned: every package of pyproject.toml, every file by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
TOOLS = PROJECT["dependency-groups"]["tools"]
BUILD = PROJECT["build-system"]["requires"]
FILES = {
    "constraints.txt": RUNTIME,
    "constraints-dev.txt": RUNTIME + EXTRAS["dev"] + BUILD,
    "constraints-ray-default.txt": RUNTIME + EXTRAS["ray-default"],
    "constraints-tools.txt": TOOLS + BUILD,
}

Pins = dict[str, set[str]]


def pins(name: str) -> Pins:
    """Return the versions that a file pins, by name; several where they depend on Python's."""
    versions: Pins = {}
    text = (REPOSITORY / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        pinned, *hashes = line.split(" --hash=")
        requirement = Requirement(pinned)
        assert hashes, f"{name}: {requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", text) for text in hashes), requirement
        (version,) = requirement.specifier
        assert version.operator == "==", requirement
        versions.setdefault(canonicalize_name(requirement.name), set()).add(version.version)
    return versions


def test_the_base_image_is_pinned_and_brought_up_to_date() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    [base] = re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE)
    assert re.fullmatch(r"debian:13-slim@sha256:[0-9a-f]{64}", base)
    assert {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")} == {
        "${BASE}"
    }
    assert "apt-get upgrade" in text.split("FROM ${BASE}\n")[-1]


@pytest.mark.parametrize("name", FILES)
def test_what_is_asked_for_is_pinned(name: str) -> None:
    pinned = pins(name)
    for line in FILES[name]:
        requirement = Requirement(line)
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{name} lacks {requirement}: make lock"
        assert all(version in requirement.specifier for version in versions), f"{requirement}"


@pytest.mark.parametrize("name", [name for name in FILES if name != "constraints-dev.txt"])
def test_what_is_shipped_is_what_is_tested(name: str) -> None:
    tested = pins("constraints-dev.txt")
    shipped = pins(name)
    assert {n: v for n, v in shipped.items() if n in tested} == {
        n: v for n, v in tested.items() if n in shipped
    }


def test_all_of_the_product_is_tested() -> None:
    assert pins("constraints.txt").keys() <= pins("constraints-dev.txt").keys()


def test_nothing_is_installed_without_its_hash() -> None:
    """Every call of `pip install` compares hashes, or installs the project alone."""
    for name in ("Dockerfile", "Makefile", ".ci/run"):
        text = (REPOSITORY / name).read_text().replace("\\\n", " ")
        calls = re.findall(r"pip install[^\n&]*", text)
        assert all("--require-hashes" in call or "--no-deps" in call for call in calls), name
