"""An archive of anyone's making: read whole or refused, and never more than is allowed."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from audit.errors import SnapshotError
from audit.facts import archive, snapshot
from tests import flips

MEMBERS = ("kube/pods.json", "ovn/a/nb.db", "ovn/a/sb.db")


def packed(
    path: Path, extra: Callable[[tarfile.TarFile], None] | None = None, mode: str = "w:gz"
) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        if extra is not None:
            extra(tar)
        for name in MEMBERS:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"{}\n"))
    return path


def refused(path: Path, workdir: Path, most: int = archive.LARGEST) -> str:
    with pytest.raises(SnapshotError) as caught:
        snapshot.open_snapshot(path, workdir, most=most)
    return str(caught.value)


@pytest.mark.parametrize("packing", flips.PACKINGS)
def test_no_flipped_bit_goes_unnoticed(packing: str) -> None:
    counted = flips.outcomes(packing, 100)
    assert counted["SILENT"] == 0
    assert counted["refused"] > 50


@pytest.mark.parametrize("cut", [1, 4, 8, 9])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = packed(tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[:-cut])
    assert "cannot be unpacked as a .tar.gz" in refused(path, tmp_path / "work")


@pytest.mark.parametrize("kept", [512, 1024, 2048, 3072])
def test_a_tar_that_ends_between_members_is_refused(tmp_path: Path, kept: int) -> None:
    path = packed(tmp_path / "a.tar", mode="w")
    path.write_bytes(path.read_bytes()[:kept])
    assert "cannot be unpacked" in refused(path, tmp_path / "work")


def test_a_damaged_header_does_not_end_the_archive(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", mode="w")
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    assert "bad checksum" in refused(path, tmp_path / "work")


def test_what_follows_its_end_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", mode="w")
    path.write_bytes(path.read_bytes() + b"\0" * 512 + b"more")
    assert "something follows where it ends" in refused(path, tmp_path / "work")


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    def sparse(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("kube/nodes.json")
        member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50)}
        tar.addfile(member)

    path = packed(tmp_path / "a.tar.gz", sparse)
    assert "kube/nodes.json is packed as a sparse file" in refused(path, tmp_path / "work")
    assert not any(p.stat().st_size > 10 for p in tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["kube/nodes.json", "elsewhere"])
def test_more_than_is_allowed_is_not_unpacked(tmp_path: Path, name: str) -> None:
    def large(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = 5_000_000
        tar.addfile(member, io.BytesIO(bytes(member.size)))

    path = packed(tmp_path / "a.tar.gz", large)
    assert path.stat().st_size < 10_000
    said = refused(path, tmp_path / "work", most=1_000_000)
    assert "unpacks to more than 1,000,000 bytes" in said
    assert "--max-snapshot-size" in said
    assert not list((tmp_path / "work").rglob("*.json"))
    assert snapshot.open_snapshot(path, tmp_path / "work", most=6_000_000).zones


def test_the_sum_counts_too(tmp_path: Path) -> None:
    def many(tar: tarfile.TarFile) -> None:
        for number in range(10):
            member = tarfile.TarInfo(f"ovn/z{number}/nb.db")
            member.size = 500_000
            tar.addfile(member, io.BytesIO(bytes(member.size)))

    path = packed(tmp_path / "a.tar.xz", many, mode="w:xz")
    assert "unpacks to more than" in refused(path, tmp_path / "work", most=2_000_000)


def test_headers_are_bounded(tmp_path: Path) -> None:
    def long(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"comment": "a" * (16 << 20)}
        tar.addfile(member)

    path = packed(tmp_path / "a.tar.gz", long)
    assert "a header in it is longer than" in refused(path, tmp_path / "work")


def test_a_disk_without_room_is_said_before_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a.tar.gz")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    assert "3 bytes are to be unpacked and 1 are free" in refused(path, tmp_path / "work")
