"""Scalars are what Kubernetes' own programs take them for."""

from typing import Any

import pytest

from audit.facts.documents import DocumentError, documents, read

KUBECTL = {
    "1e3": 1000,
    "1E3": 1000,
    "12e03": 12000,
    "1e-3": 0.001,
    "12:30:45": "12:30:45",
    "2001-01-01": "2001-01-01",
    "2001-01-01T00:00:00Z": "2001-01-01T00:00:00Z",
    "0777": 511,
    "0o17": 15,
    "0o8": "0o8",
    "08": 8,
    "09.5": 9.5,
    "0_7": 7,
    "1_000": 1000,
    "1__0": 10,
    "_1": "_1",
    "1_0.5": 10.5,
    ".5": 0.5,
    "5.": 5,
    "+1": 1,
    "-0": 0,
    "0x1F": 31,
    "0x_1": 1,
    "=": "=",
    "<<": "<<",
    "~": None,
    "yes": True,
    "On": True,
    "off": False,
    "true": True,
    '"1"': "1",
}
"""What `kubectl label --local -o json` of Kubernetes 1.32 printed for a value."""


@pytest.mark.parametrize(("text", "value"), KUBECTL.items())
def test_scalars_are_read_as_kubectl_reads_them(text: str, value: Any) -> None:
    [document] = read(f"a: {text}")
    assert (document.value["a"], type(document.value["a"])) == (value, type(value))


def test_keys_are_strings_as_kubectl_makes_them() -> None:
    [document] = read("{1: a, 0x1F: b, true: c, 1.5: d, e: f}")
    assert document.value == {"1": "a", "31": "b", "true": "c", "1.5": "d", "e": "f"}


def test_a_lone_equals_sign_is_no_error_in_what_programs_wrote_either() -> None:
    assert documents("- =\n- '='\n") == [["=", "="]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_texts_are_read_in_every_unicode_encoding(encoding: str) -> None:
    assert documents("a: é".encode(encoding)) == [{"a": "é"}]


def test_json_documents_may_follow_one_another() -> None:
    found = read('{"a": 1}\n{"b": {"c": 2}}{"d": [3]}\n')
    assert [document.value for document in found] == [{"a": 1}, {"b": {"c": 2}}, {"d": [3]}]
    assert [document.line(("b", "c")) for document in found] == [1, 2, 2]


def test_a_brace_may_begin_yaml() -> None:
    assert [document.value for document in read("{a: 1}\n---\nb: 2\n")] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", (("b", "c"), 4)),
        ('{"a": [{"b": 1,\n "b": 2}]}', (("a", 0, "b"), 2)),
        ("1: a\n'1': b\n", (("1",), 2)),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n", None),
        ("a: {b: 1}\nc: {b: 1}\n", None),
    ],
)
def test_a_key_that_is_there_twice_is_seen(text: str, repeated: object) -> None:
    [document] = read(text)
    assert document.repeated() == repeated
    assert document.repeats == (repeated is not None)


def test_json_that_yaml_does_not_take_has_its_first_line() -> None:
    first, second = read('{"a": "\\ud83d\\ude00"}\n{"b": 1, "b": "\x7f"}')
    assert first.value == {"a": "😀"}
    assert (first.repeated(), second.repeated()) == (None, ((), 2))
    assert second.line(("b",)) == 2


def test_the_line_of_a_field_or_of_what_should_hold_it() -> None:
    first, second = read("a: 1\n---\nb:\n  c:\n  - x\n  - d: 2\n")
    assert first.line(("a",)) == 1
    assert second.line(("b", "c", 1, "d")) == 6
    assert second.line(("b", "c", 1, "e")) == 6
    assert second.line(("b", "x", "y")) == 3


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "\n".join(
            [
                "a: &a [x, x, x, x, x, x, x, x, x]",
                *(
                    f"{n}: &{n} [{', '.join(['*' + b] * 9)}]"
                    for b, n in zip("abcdefg", "bcdefgh", strict=True)
                ),
            ]
        ),
    ],
    ids=["a circle", "a thousand million values"],
)
def test_aliases_cannot_fill_the_memory(text: str) -> None:
    with pytest.raises(DocumentError):
        read(text)
