"""A few hundred damaged inputs of every reader; `make fuzz` tries a million."""

import pytest

from tests.fuzz import NESTED as DEEP
from tests.fuzz import fuzz
from tests.fuzz_readers import READERS, database


@pytest.mark.parametrize("name", READERS)
def test_a_reader_answers_or_raises_its_own_error(name: str) -> None:
    reader = READERS[name]
    seeds = reader.seeds()
    assert {reader.attempt(seed) for seed in seeds[:20]} == {"read"}
    assert fuzz(reader, 300, seed=1).keys() == {"read", "refused"}  # else nothing was damaged
    for nested in DEEP:
        for seed in seeds[:3]:
            reader.attempt(seed.partition(b"\n")[0] + b"\n" + nested if reader.named else nested)


NESTED = b"[" * 3000
FOUND = (
    (
        "run.json",
        b'{"schema_version": 3, "outputs": [{"path": "\\u0000", "sha256": "a"}]}',
        "refused",
    ),
    ("run.json", NESTED, "refused"),
    ("unixctl", NESTED + b"}", "refused"),
    ("run.json", b'{"schema_version": 3, "counts": [], "outputs": []}', "refused"),
    ("snapshot", b"snapshot.json\n" + NESTED, "refused"),
    ("manifests", b"kind: !!timestamp web", "refused"),
    ("manifests", b"{kind: Namespace, metadata: {name: a, labels: {1: b}}}", "refused"),
    ("must-gather", b"namespaces/shop/core/pods.yaml\nitems: [true]", "refused"),
    ("must-gather", b"namespaces/shop/core/pods.yaml\nitems: [{metadata: {name: 1}}]", "refused"),
    ("must-gather", b"namespaces/shop/core/pods.yaml\nmetadata: {name: &a a, *a : b}", "read"),
    ("must-gather", b"namespaces/shop/core/pods.yaml\n&a {metadata: {name: a}, b: *a}", "refused"),
    ("scope", b"selector: {!!timestamp web: a}", "refused"),
    ("ovsdb", b"nb\n" + database([NESTED]), "refused"),
)
"""Inputs that once raised something else."""


@pytest.mark.parametrize(("name", "data", "answer"), FOUND)
def test_what_was_found_is_answered(name: str, data: bytes, answer: str) -> None:
    READERS[name].seeds()
    assert READERS[name].attempt(data) == answer
