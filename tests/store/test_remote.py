"""Which places there are, and what a store's words become."""

from pathlib import Path

import pytest

from audit.errors import UsageError
from audit.store import remote
from audit.store.remote import RemoteDirectory, located


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("runs", Path("runs")),
        ("a:b/c", Path("a:b/c")),
        ("file:///var/lib/audit%20runs", Path("/var/lib/audit runs")),
        ("s3://bucket", RemoteDirectory(url="s3://bucket")),
        ("s3://bucket//a/b/", RemoteDirectory(url="s3://bucket/a/b")),
        (
            "s3://bucket/a?region=eu-1&tls_ca_file_path=/ca.pem",
            RemoteDirectory(url="s3://bucket/a", options="region=eu-1&tls_ca_file_path=/ca.pem"),
        ),
    ],
)
def test_places(text: str, place: Path | RemoteDirectory) -> None:
    assert located(text) == place
    if isinstance(place, RemoteDirectory):
        assert located(place.uri) == place
        assert (place / "run").parent == place
        assert str(place / "run") == f"{place.url}/run"


@pytest.mark.parametrize(
    "text",
    [
        *("gs://bucket/a", "http://host/a", "hdfs://host/a", "abfs://c@host/a", "file://host/a"),
        *("s3://", "s3:///a", "s3://key:secret@bucket/a", "s3://key@bucket", "s3://bucket/../a"),
        *("s3://bucket/a?access_key=key", "s3://bucket/a?secret", "s3://bucket/a#b"),
    ],
)
def test_what_is_no_place_is_said_without_what_may_be_a_secret(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        located(text)
    assert "secret" not in str(raised.value)
    assert "key" not in str(raised.value)


def test_what_a_store_says_is_one_sentence() -> None:
    said = remote._sentence(  # noqa: SLF001 - the words are libcurl's and the store's own
        OSError(
            "When listing objects under key 'p/' in bucket 'b': AWS Error NETWORK_CONNECTION "
            "during ListObjectsV2 operation: curlCode: 60, SSL peer certificate was not "
            "OK; Details: SSL certificate problem: self-signed certificate"
        )
    )
    assert said.endswith("(SSL certificate problem: self-signed certificate)")
    other = "When reading: AWS Error SLOW_DOWN during GetObject operation: wait\n(Request ID: abc)"
    assert remote._sentence(OSError(other)) == (  # noqa: SLF001
        "When reading: AWS Error SLOW_DOWN during GetObject operation: wait"
    )
