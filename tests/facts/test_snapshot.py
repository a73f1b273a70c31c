"""A snapshot is untrusted input: every way it can be wrong is a sentence, never a traceback."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from audit.errors import ExitCode, SnapshotError
from audit.facts import kube, snapshot, sums

FILES: Mapping[str, bytes] = {
    "kube/pods.json": b'{"kind": "List", "items": []}',
    "kube/nodes.json": b'{"kind": "List", "items": []}',
    "ovn/worker/nb.db": b"OVSDB",
    "ovn/worker/sb.db": b"OVSDB",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "given"
    for name, content in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def pack(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def refused(path: Path, workdir: Path) -> str:
    with pytest.raises(SnapshotError) as caught:
        snapshot.open_snapshot(path, workdir)
    assert caught.value.exit_code is ExitCode.COULD_NOT_RUN
    return str(caught.value)


def test_a_directory(directory: Path, tmp_path: Path) -> None:
    found = snapshot.open_snapshot(directory, tmp_path / "work")
    assert found.source == str(directory)
    assert sorted(found.lists) == ["nodes", "pods"]
    assert found.zones == {
        "worker": (directory / "ovn/worker/nb.db", directory / "ovn/worker/sb.db")
    }
    assert found.incomplete_zones == ()
    assert not (tmp_path / "work").exists()


def test_the_directory_above_it_will_do(directory: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    directory.rename(outer / "cluster")
    found = snapshot.open_snapshot(outer, tmp_path / "work")
    assert found.shown(found.lists["pods"]) == f"{outer}/cluster/kube/pods.json"


@pytest.mark.parametrize("top", ["", "./", "cluster/", "a/b/c/"])
@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_an_archive(tmp_path: Path, top: str, mode: str) -> None:
    members = {f"{top}{name}": content for name, content in FILES.items()}
    archive = pack(tmp_path / "cluster.tar.gz", members, mode)
    found = snapshot.open_snapshot(archive, tmp_path / "work")
    assert found.root.is_relative_to(tmp_path / "work")
    assert sorted(found.lists) == ["nodes", "pods"]
    assert list(found.zones) == ["worker"]
    assert found.shown(found.lists["pods"]) == f"{archive}/kube/pods.json"
    assert [given.path for given in snapshot.hash_inputs(found)] == sorted(FILES)


def test_an_archive_and_its_directory_have_the_same_inputs(directory: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "cluster.tar.gz", FILES)
    hashed = [
        snapshot.hash_inputs(snapshot.open_snapshot(path, tmp_path / "work"))
        for path in (directory, archive)
    ]
    assert hashed[0] == hashed[1]
    assert hashed[0][0].size == len(FILES["kube/nodes.json"])


def test_only_plain_files_with_a_snapshots_names_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    archive = tmp_path / "cluster.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in {
            **FILES,
            "../kube/secrets.json": b"{}",
            "x/../../kube/jobs.json": b"{}",
            f"{tmp_path}/kube/events.json": b"{}",
            "kube/../../evil": b"{}",
            "README": b"extra",
            "kube/UPPER.json": b"{}",
            "ovn/worker/nb.db.bak": b"",
            "ovn/.hidden/nb.db": b"",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, kind in {
            "kube/services.json": tarfile.SYMTYPE,
            "kube/endpointslices.json": tarfile.LNKTYPE,
            "kube/routes.json": tarfile.CHRTYPE,
            "kube/pipes.json": tarfile.FIFOTYPE,
            "ovn/link": tarfile.SYMTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret")
            tar.addfile(info)
    before = set(tmp_path.rglob("*"))
    found = snapshot.open_snapshot(archive, tmp_path / "work")
    made = {p for p in set(tmp_path.rglob("*")) - before if not p.is_dir()}
    assert made == {found.root / name for name in FILES}
    assert all(p.is_file() and not p.is_symlink() for p in made)


def test_a_zone_with_one_file_is_incomplete(directory: Path, tmp_path: Path) -> None:
    (directory / "ovn/half").mkdir()
    (directory / "ovn/half/nb.db").write_bytes(b"")
    (directory / "ovn/none").mkdir()
    (directory / "ovn/stray.txt").write_text("")
    found = snapshot.open_snapshot(directory, tmp_path / "work")
    assert found.incomplete_zones == ("half", "none")
    assert list(found.zones) == ["worker"]


def test_what_is_no_snapshot_says_so(directory: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert "does not exist; --snapshot takes a directory" in refused(tmp_path / "nope", work)
    (tmp_path / "empty").mkdir()
    assert "has no kube/*.json; it is not a snapshot" in refused(tmp_path / "empty", work)
    (tmp_path / "note.txt").write_text("not an archive")
    assert "note.txt cannot be unpacked as a .tar.gz" in refused(tmp_path / "note.txt", work)
    (tmp_path / "nothing.tar.gz").write_bytes(b"")
    assert "cannot be unpacked" in refused(tmp_path / "nothing.tar.gz", work)
    pack(tmp_path / "other.tar.gz", {"README": b"x"})
    assert "holds no kube/*.json and no ovn/" in refused(tmp_path / "other.tar.gz", work)
    (directory / "ovn/worker/sb.db").unlink()
    assert "no zone with both ovn/<zone>/nb.db and" in refused(directory, work)


def test_an_archive_of_several_snapshots_is_ambiguous(tmp_path: Path) -> None:
    members = {f"{top}/{name}": b"" for top in ("before", "after") for name in FILES}
    complaint = refused(pack(tmp_path / "both.tar.gz", members), tmp_path / "work")
    assert "holds several snapshots (after, before); unpack it and name one" in complaint


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_a_damaged_archive_is_an_error(tmp_path: Path, mode: str) -> None:
    noise = {"ovn/worker/nb.db": os.urandom(50_000), "ovn/worker/sb.db": os.urandom(50_000)}
    whole = pack(tmp_path / "whole.tar", noise, mode).read_bytes()
    for kept in (len(whole) // 3, len(whole) - 30_000):
        (tmp_path / "cut.tar").write_bytes(whole[:kept])
        assert "cannot be unpacked" in refused(tmp_path / "cut.tar", tmp_path / "work")
    if mode != "w":  # a plain tar has no checksum of its contents
        (tmp_path / "bad.tar").write_bytes(whole[:30_000] + bytes(5_000) + whole[35_000:])
        assert "cannot be unpacked" in refused(tmp_path / "bad.tar", tmp_path / "work")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"items": [\n  {},]}', "is not JSON: .*line 2 column"),
        (b"", r"is not JSON: .*line 1 column 1"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[]", "is not a List as `kubectl get pods -A -o json` prints"),
        (b'{"kind": "Pod", "metadata": {}}', "is not a List"),
        (b'{"kind": "Pod", "items": []}', "is not a List"),
        (b'{"kind": "List", "items": {}}', "is not a List"),
        (b'{"kind": "List"}', "is not a List"),
    ],
)
def test_a_list_that_is_none(
    directory: Path, tmp_path: Path, content: bytes, complaint: str
) -> None:
    (directory / "kube/pods.json").write_bytes(content)
    found = snapshot.open_snapshot(directory, tmp_path)
    with pytest.raises(SnapshotError, match=complaint) as caught:
        snapshot.read_list(found, "pods")
    assert str(caught.value).startswith(f"{directory}/kube/pods.json ")


@pytest.mark.parametrize(
    "content",
    [
        b'{"items": []}',
        b'{"kind": "PodList", "items": []}',
        b'{"kind": "List", "items": null}',
    ],
)
def test_an_empty_list_has_several_spellings(
    directory: Path, tmp_path: Path, content: bytes
) -> None:
    (directory / "kube/pods.json").write_bytes(content)
    found = snapshot.open_snapshot(directory, tmp_path)
    listed = snapshot.read_list(found, "pods")
    assert listed is not None
    assert [*listed] == []
    assert snapshot.read_list(found, "services") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_a_list_may_be_in_any_encoding(directory: Path, tmp_path: Path, encoding: str) -> None:
    items: list[Any] = [{"name": "ü", "number": 1.5}, None, [], 7]
    text = json.dumps({"kind": "List", "items": items}, ensure_ascii=False)
    (directory / "kube/pods.json").write_bytes(text.encode(encoding))
    listed = snapshot.read_list(snapshot.open_snapshot(directory, tmp_path), "pods")
    assert listed is not None
    assert [*listed] == items


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (r'{"name": "\ud800"}', "items[1].name holds half of a character"),
        ('{"number": NaN}', "NaN is no number in JSON"),
        ('{"number": 1e400}', "1e400 is no number in JSON"),
    ],
)
def test_what_is_no_json_in_an_item_is_said(
    directory: Path, tmp_path: Path, item: str, complaint: str
) -> None:
    text = f'{{"kind": "List", "items": [{json.dumps(POD)}, {item}]}}'
    (directory / "kube/pods.json").write_text(text)
    found = snapshot.open_snapshot(directory, tmp_path)
    with pytest.raises(SnapshotError, match=r"kube/pods\.json is not JSON") as raised:
        snapshot.read_objects(found, "pods", lambda item: item)
    assert complaint in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(directory: Path, tmp_path: Path) -> None:
    found = snapshot.open_snapshot(directory, tmp_path)
    (directory / "kube/pods.json").unlink()
    (directory / "kube/pods.json").mkdir()
    for read in (
        lambda: snapshot.read_list(found, "pods"),
        lambda: snapshot.hash_inputs(found),
    ):
        with pytest.raises(SnapshotError, match=r"kube/pods.json cannot be read: Is a directory"):
            read()
    # A directory is no list to begin with.
    assert list(snapshot.open_snapshot(directory, tmp_path).lists) == ["nodes"]


def test_a_directory_that_cannot_be_read_is_named(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: Path, *_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied", str(directory))

    monkeypatch.setattr(Path, "is_dir", denied)
    assert refused(directory, tmp_path) == f"{directory} cannot be read: Permission denied"


POD = {"kind": "Pod", "metadata": {"namespace": "shop", "name": "web-0"}}


@pytest.mark.parametrize(
    ("resource", "parse", "items", "complaint"),
    [
        ("pods", kube.pod, [POD, {"kind": "Pod"}], "item 1: metadata.namespace is missing"),
        ("pods", kube.pod, ["x"], "item 0: it is a string, not an object"),
        ("pods", kube.pod, [None], "item 0: metadata.namespace is missing"),
        ("pods", kube.pod, [{"metadata": []}], "item 0: metadata is a list, not an object"),
        (
            "pods",
            kube.pod,
            [POD, {**POD, "kind": "Service"}],
            "item 1 (shop/web-0): kind is Service, not Pod",
        ),
        ("pods", kube.pod, [POD, POD], "item 1 (shop/web-0): it is listed twice"),
        (
            "pods",
            kube.pod,
            [{**POD, "spec": {"containers": 7}}],
            "item 0 (shop/web-0): spec.containers is a number, not a list",
        ),
        ("nodes", kube.node, [{"metadata": {"name": 5}}], "item 0: metadata.name is a number"),
        (
            "nodes",
            kube.node,
            [{"metadata": {"name": "w", "labels": 5}}],
            "item 0 (w): metadata.labels is a number",
        ),
    ],
)
def test_a_malformed_item_is_named_by_file_and_place(
    directory: Path,
    tmp_path: Path,
    resource: str,
    parse: Callable[[Mapping[str, Any]], object],
    items: list[object],
    complaint: str,
) -> None:
    file = directory / f"kube/{resource}.json"
    file.write_text(json.dumps({"kind": "List", "items": items}))
    found = snapshot.open_snapshot(directory, tmp_path)
    with pytest.raises(SnapshotError) as caught:
        snapshot.read_objects(found, resource, parse)
    assert f"{file}: {complaint}" in str(caught.value)


def test_objects_of_one_name_in_two_namespaces_are_two(directory: Path, tmp_path: Path) -> None:
    other = {"metadata": {"namespace": "prod", "name": "web-0"}}
    (directory / "kube/pods.json").write_text(json.dumps({"items": [POD, other]}))
    found = snapshot.open_snapshot(directory, tmp_path)
    objects = snapshot.read_objects(found, "pods", kube.pod)
    assert objects is not None
    assert [pod.namespace for pod in objects] == ["shop", "prod"]


def test_its_own_sums_are_compared(directory: Path, tmp_path: Path) -> None:
    sums.write(directory)
    listed = (directory / sums.NAME).read_text().splitlines()
    assert [line.split("  ")[1] for line in listed] == sorted(FILES)
    known = snapshot.hash_inputs(snapshot.open_snapshot(directory, tmp_path))
    assert sorted(one.path for one in known) == sorted(FILES)

    def said() -> str:
        with pytest.raises(SnapshotError) as caught:
            snapshot.hash_inputs(snapshot.open_snapshot(directory, tmp_path))
        return str(caught.value)

    kept = (directory / "ovn/worker/nb.db").read_bytes()
    (directory / "ovn/worker/nb.db").write_bytes(kept + b" ")
    assert "ovn/worker/nb.db is not what" in said()
    (directory / "ovn/worker/nb.db").write_bytes(kept)
    (directory / "kube/services.json").write_text("{}")
    assert "kube/services.json is not listed in" in said()
    (directory / "kube/services.json").unlink()
    (directory / "kube/nodes.json").rename(tmp_path / "nodes.json")
    assert "lists kube/nodes.json, which is not there" in said()
    (directory / sums.NAME).write_text("nothing\n")
    assert "is not as `sha256sum` writes it" in said()
    (directory / sums.NAME).unlink()
    assert snapshot.hash_inputs(snapshot.open_snapshot(directory, tmp_path))


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udfff": 1}', '[{"a": ["\\ud800x"]}]'])
def test_half_a_character_is_refused(directory: Path, tmp_path: Path, text: str) -> None:
    (directory / "kube/pods.json").write_text(f'{{"kind": "List", "items": [{text}]}}')
    found = snapshot.open_snapshot(directory, tmp_path)
    with pytest.raises(SnapshotError, match=r"items\[0\].* holds half of a character"):
        snapshot.read_list(found, "pods")


def test_databases_without_objects_are_told_what_lacks(tmp_path: Path) -> None:
    file = tmp_path / "sosreport/var/lib/ovn-ic/etc/ovnnb_db.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"OVSDB JSON 2 x\n{}\n")
    said = refused(tmp_path / "sosreport", tmp_path / "work")
    assert "var/lib/ovn-ic/etc/ovnnb_db.db" in said
    assert "`kubectl get <resource> -A -o json`" in said
