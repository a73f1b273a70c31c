"""What `run.json` says of itself: a sum that is damaged, or whose key is."""

import json

import pytest

from audit.store import layout, schema

NAMES = {b"content_sha256": b"content_sha257", b'"proven": 1': b'"proven": 0'}


@pytest.mark.parametrize(("written", "damaged"), NAMES.items())
def test_a_sum_that_is_damaged_or_whose_key_is_is_no_earlier_versions(
    written: bytes, damaged: bytes
) -> None:
    content = {"schema_version": schema.SCHEMA_VERSION, "coverage": {"proven": 1, "total": 1}}
    text = layout.manifest_text(content)
    assert layout.is_intact(json.loads(text))
    assert not layout.is_intact(json.loads(text.replace(written, damaged)))


def test_one_flipped_bit_makes_no_earlier_version_of_this_one() -> None:
    digit = ord(str(schema.SCHEMA_VERSION))
    flipped = {chr(digit ^ (1 << bit)) for bit in range(8)}
    earlier = map(str, range(schema.OLDEST_VERSION, schema.SUMMED_VERSION))
    assert not flipped.intersection(earlier)


def test_an_earlier_version_may_have_no_sum_and_one_it_has_is_compared() -> None:
    content = {"schema_version": schema.SUMMED_VERSION - 1, "coverage": {"proven": 1}}
    assert layout.is_intact(content)
    text = layout.manifest_text(content)
    assert layout.is_intact(json.loads(text))
    assert not layout.is_intact(json.loads(text.replace(b'"proven": 1', b'"proven": 0')))
