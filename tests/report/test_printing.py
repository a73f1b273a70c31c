"""Whatever a name is made of, it is one line of text, for every medium."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.report import printing
from audit.report.formats import xml

HOSTILE = ("a\nb", "a\r\x1b[31mb", "a\u202eb\u2066", "a\x9b2J", "\ud800", "\udcff", "a\u2028b\x85c")


@given(st.text(st.characters(exclude_categories=())))
def test_a_line_stays_one(text: str) -> None:
    shown = printing.line(text)
    assert len(shown) == len(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()


@pytest.mark.parametrize("name", HOSTILE)
def test_each_medium(name: str) -> None:
    assert printing.lines([name, "x"]).count("\n") == 2
    text = printing.json_text({name: [name]})
    assert all(char.isprintable() or char == "\n" for char in text)
    assert json.loads(text) == {name: [name]}
    text.encode()
    said = ET.fromstring(f"<a b={xml.attribute(name)}>{xml.line(name)}</a>")  # noqa: S314 - ours
    assert said.text == said.get("b") == printing.line(name)
    assert printing.strings({"a": [name, 1]}) == {"a": [printing.line(name), 1]}
