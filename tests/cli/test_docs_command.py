"""A page of the documentation on a terminal, and by a pipe."""

from tests.end_to_end.conftest import Audit


def test_a_page_is_printed_without_what_is_meant_for_its_tests(audit: Audit) -> None:
    done = audit("docs", "docs/howto-sre.md")
    assert done.code == 0
    assert done.out.startswith("# ")
    assert "<!--" not in done.out


def test_a_page_that_is_misspelt_is_suggested(audit: Audit) -> None:
    done = audit("docs", "expectation")
    assert (done.code, "did you mean expectations?" in done.err) == (2, True)
    assert "expectations" in audit("docs").out
