"""The examples of docs/intent.md: each YAML gives the finding or note that it is below."""

import re
from pathlib import Path

import pytest

from audit.model.findings import with_names
from tests.asked import Asked
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "intent.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("### Examples")[2].partition("\n## ")[0]
YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
BESIDE = YAML.findall(SECTION)[0]
EXAMPLES = re.findall(
    r"^`([a-z-]+)`: \*(.*?)\*[^*]*?\n\n```yaml\n(.*?)```", SECTION, re.DOTALL | re.MULTILINE
)


def test_every_yaml_is_an_example() -> None:
    assert len(EXAMPLES) == len(YAML.findall(SECTION)) - 1


@pytest.mark.parametrize(("kind", "text", "example"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_an_example_gives_its_sentence(tmp_path: Path, kind: str, text: str, example: str) -> None:
    (tmp_path / "all.yaml").write_text(f"{BESIDE}---\n{example}")
    asked = Asked(tmp_path)
    said = [note.text for note in asked.notes.values() if note.code == kind]
    said += [
        with_names(finding.kind, finding.text, finding.subjects)
        for finding in asked.all_findings
        if str(finding.kind) == kind
    ]
    assert " ".join(text.split()).removesuffix(".") in said
