"""docs/store.md is printed, and its examples run."""

from pathlib import Path

import pytest

from audit.store.query import query
from tests.store.describe import EXAMPLES, describe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "store.md"


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == describe(), (
        "docs/store.md is stale: python -m tests.store.describe > docs/store.md"
    )


@pytest.mark.parametrize(("question", "sql"), EXAMPLES, ids=[question for question, _ in EXAMPLES])
def test_each_example_runs(run_path: Path, question: str, sql: str) -> None:
    columns, rows = query(run_path, sql)

    assert columns, question
    assert all(len(row) == len(columns) for row in rows)
