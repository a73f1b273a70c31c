"""What `run.json` says of itself: a sum that is damaged, or whose key is."""

import json

from audit.store import layout


def test_a_sum_whose_key_is_damaged_is_no_earlier_versions() -> None:
    coverage = {"proven": 1, "total": 1, "unprovable": 0}
    text = layout.manifest_text({"coverage": coverage})
    assert layout.is_intact(json.loads(text))
    assert not layout.is_intact(json.loads(text.replace(b"content_sha256", b"content_sha257")))
    assert not layout.is_intact(json.loads(text.replace(b'"proven": 1', b'"proven": 0')))
    earlier = {"coverage": {"proven": 1, "total": 1}}
    assert layout.is_intact(earlier)
