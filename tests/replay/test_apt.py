import subprocess
from pathlib import Path

import pytest

from audit.errors import EngineError
from audit.replay import apt
from audit.replay.apt import Source

DEBIAN = apt.distribution({"ID": "debian", "VERSION_CODENAME": "bookworm"})
UBUNTU = apt.distribution({"ID": "ubuntu", "VERSION_CODENAME": "noble"})

DEBIAN_DEB822 = """\
# the image's own
Types: deb deb-src
# http://snapshot.example.org/archive/debian/20250520T000000Z
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

UBUNTU_DEB822 = """\
Types: deb
URIs: http://archive.example.org/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://security.example.org/ubuntu/
Suites: noble-security
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""

THIRD_PARTIES = """\
deb https://dl.example.com/linux/chrome/deb/ stable main
deb [arch=amd64 signed-by=/usr/share/keyrings/vendor.gpg] https://apt.example.com bookworm main
deb [signed-by=/usr/share/keyrings/cloud.gpg] https://packages.example.com/apt cloud-bookworm main
"""

NODE = """\
Types: deb
URIs: https://deb.example.com/node_20.x
Suites: nodistro
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/nodesource.gpg
"""

EMBEDDED_KEY = """\
Types: deb
URIs: https://vendor.example.com/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL0BUBEADmW5NdOOHwPIJlgPu6JDcKw/NZJPR8lsD3K87ZM18gzyQZJD+w
 -----END PGP PUBLIC KEY BLOCK-----
"""

ONE_LINE = """\
# deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/ bookworm main
deb cdrom:[Debian]/ bookworm main

deb http://mirror.example.org/debian bookworm main non-free-firmware  # the mirror
deb-src http://mirror.example.org/debian bookworm main
deb http://mirror.example.org/debian-security bookworm-security main
deb http://mirror.example.org/debian bookworm-updates main
"""


def test_the_deb822_style_is_read_entry_by_entry() -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror = "http://mirror.example.org/debian"
    assert list(apt.parse_deb822(DEBIAN_DEB822)) == [
        Source(uri=mirror, suite="bookworm", components=("main", "contrib"), signed_by=keyring),
        Source(
            uri=mirror, suite="bookworm-updates", components=("main", "contrib"), signed_by=keyring
        ),
        Source(
            uri=f"{mirror}-security",
            suite="bookworm-security",
            components=("main",),
            signed_by=keyring,
        ),
    ]


def test_the_one_line_style_is_read_with_its_options() -> None:
    assert list(apt.parse_sources_list(THIRD_PARTIES))[1] == Source(
        uri="https://apt.example.com",
        suite="bookworm",
        components=("main",),
        signed_by="/usr/share/keyrings/vendor.gpg",
    )


def test_source_packages_comments_and_disabled_stanzas_are_no_source() -> None:
    assert [
        source.uri for source in apt.parse_sources_list("deb-src http://x y z\n# deb a b c")
    ] == []
    assert list(apt.parse_deb822(f"Enabled: no\n{NODE}")) == []
    assert list(apt.parse_deb822(NODE.replace("Types: deb", "Types: deb-src"))) == []


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param([*apt.parse_deb822(DEBIAN_DEB822)], id="deb822"),
        pytest.param([*apt.parse_sources_list(ONE_LINE)], id="one-line"),
        pytest.param(
            [
                *apt.parse_sources_list(THIRD_PARTIES),
                *apt.parse_deb822(NODE),
                *apt.parse_deb822(EMBEDDED_KEY),
                *apt.parse_deb822(DEBIAN_DEB822),
            ],
            id="third parties before it",
        ),
    ],
)
def test_the_mirror_is_the_distributions_own(sources: list[Source]) -> None:
    assert apt.mirrors(sources, DEBIAN) == ("http://mirror.example.org/debian",)


def test_an_unsigned_entry_is_tried_after_the_mirror_that_has_updates() -> None:
    stranger = "deb https://vendor.example.com/debian bookworm main\n"
    assert apt.mirrors([*apt.parse_sources_list(stranger + ONE_LINE)], DEBIAN) == (
        "http://mirror.example.org/debian",
        "https://vendor.example.com/debian",
    )


def test_ubuntus_mirror_is_found_and_asked_for_the_running_release() -> None:
    assert apt.mirrors([*apt.parse_deb822(UBUNTU_DEB822)], UBUNTU) == (
        "http://archive.example.org/ubuntu/",
    )
    assert UBUNTU.suites[0] == "noble"
    assert UBUNTU.pockets == ("", "-updates")
    assert UBUNTU.components == ("main", "universe")


def test_a_mirror_named_by_alias_is_found_when_no_code_name_is() -> None:
    aliased = ONE_LINE.replace("bookworm", "oldstable")
    sources = [*apt.parse_sources_list(THIRD_PARTIES.replace("bookworm", "x") + aliased)]
    assert apt.mirrors(sources, DEBIAN)[0] == "http://mirror.example.org/debian"


def test_debian_is_asked_for_newer_suites_than_the_running_one_oldest_first() -> None:
    assert (DEBIAN.release, DEBIAN.suites) == ("bookworm", ("trixie", "sid"))


def test_ubuntu_is_asked_for_later_releases_after_its_own() -> None:
    assert UBUNTU.suites == ("noble", "questing", "resolute")
    unknown = apt.distribution({"ID": "ubuntu", "VERSION_CODENAME": "zesty"})
    assert unknown.suites == ("zesty",)


def test_settings_that_the_environment_names_are_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weaker = tmp_path / "apt.conf"
    weaker.write_text('APT::Get::AllowUnauthenticated "true";\n')
    monkeypatch.setenv("APT_CONFIG", str(weaker))
    words = ["apt-config", "dump", "APT::Get::AllowUnauthenticated"]
    assert "true" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "true" not in apt._run(words, 10)  # noqa: SLF001  what runs everything of apt's


def test_another_distribution_is_named() -> None:
    with pytest.raises(EngineError, match="this is fedora"):
        apt.distribution({"ID": "fedora"})


def test_os_release_values_lose_their_quotes() -> None:
    text = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n\n# x\n'
    assert apt.parse_os_release(text)["ID"] == "debian"
    assert apt.parse_os_release(text)["PRETTY_NAME"] == "Debian GNU/Linux 12 (bookworm)"


def test_both_styles_are_collected_from_a_machine(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (parts / "vendor.list").write_text(THIRD_PARTIES)
    (parts / "node.sources").write_text(NODE)
    (parts / "old.list.save").write_text("deb http://never.example.org x main\n")
    uris = {source.uri for source in apt.configured_sources(tmp_path)}
    assert "http://mirror.example.org/debian" in uris
    assert "https://apt.example.com" in uris
    assert "https://deb.example.com/node_20.x" in uris
    assert "http://never.example.org" not in uris


def test_set_user_id_programs_lose_their_privilege(tmp_path: Path) -> None:
    archive = _package(tmp_path)
    root = tmp_path / "root"
    apt._unpack([archive], root, progress=lambda _: None)  # noqa: SLF001
    assert (root / "usr/bin/mount").stat().st_mode & 0o7777 == 0o755


def _package(directory: Path) -> Path:
    """Build a Debian package with a set-user-id program."""
    tree = directory / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    program = tree / "usr/bin/mount"
    program.parent.mkdir(parents=True)
    program.touch()
    program.chmod(0o4755)
    archive = directory / "x.deb"
    subprocess.run(
        ["dpkg-deb", "--build", str(tree), str(archive)],
        check=True,
        capture_output=True,
        timeout=20,
    )
    return archive
