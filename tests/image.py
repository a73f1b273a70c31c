"""The Dockerfile's own steps, run in roots that debootstrap makes: `make image-test`, minutes.

There is no container engine here: FROM is a copy of a fresh Debian, RUN a shell in it by chroot,
COPY a copy. It needs root, debootstrap and a network, and says which is missing.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
RELEASE = "trixie"
MINUTES = 60
USER = "65532:65532"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PASSED_ON = ("PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def instructions() -> list[tuple[str, str]]:
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    found = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, rest in found]


def call(*argv: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        timeout=15 * MINUTES,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


class Root:
    """One stage: a directory with a Debian in it."""

    def __init__(self, base: Path, place: Path) -> None:
        call("cp", "-a", "--reflink=auto", base, place)
        self.place = place
        self.environment = {"DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}

    def run(self, script: str, *, user: str = "0:0") -> str:
        kept = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = {"PIP_CERT": "/etc/authorities.crt"}  # a registry may be a mirror of this site
        environment = {"PATH": path, **kept, **own, **self.environment}
        words = [f"{name}={value}" for name, value in environment.items()]
        chroot = ("chroot", f"--userspec={user}", str(self.place))
        mounted = f"mount -t proc proc '{self.place}/proc' && exec \"$@\""
        return call(
            *("unshare", "--mount", "sh", "-c", mounted, "sh"),
            *chroot,
            *("env", "-i", *words, "sh", "-ec", script),
        )


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Return a fresh Debian, as the image's base would be: no services are started in it."""
    if os.geteuid() or shutil.which("debootstrap") is None:
        pytest.fail("this needs root and debootstrap (apt-get install debootstrap)")
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(
            dir="/var/tmp", prefix="image-", ignore_cleanup_errors=True
        )
        work = Path(stack.enter_context(made))
        place = work / "base"
        call("debootstrap", "--variant=minbase", RELEASE, place)
        policy = place / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        for name in ("resolv.conf", "pip.conf"):
            if (source := Path("/etc") / name).exists():
                shutil.copy(source, place / "etc" / name)
        shutil.copy(AUTHORITIES, place / "etc" / "authorities.crt")
        yield place


def copy_source(target: Path) -> None:
    """Do `COPY . target`: what is in the repository and not in .dockerignore."""
    lines = (REPOSITORY / ".dockerignore").read_text().split()
    ignored = tuple(f"{line}/" for line in lines if line[0] != "!")
    kept = {line[1:] for line in lines if line[0] == "!"}
    names = call("git", "-C", REPOSITORY, "ls-files").splitlines()
    for name in names:
        if name in kept or not name.startswith(ignored):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)


@pytest.fixture(scope="module")
def image(base: Path) -> Root:
    """Return the last stage, built."""
    stages: dict[str, Root] = {}
    root: Root | None = None
    for word, rest in instructions():
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "image"
            root = stages[name] = Root(base, base.parent / name)
            continue
        if root is None:
            continue  # ARG BASE
        if word in ("ARG", "ENV"):
            name, _, value = rest.partition("=")
            root.environment[name] = value.strip('"')
        elif word == "RUN":
            root.run(rest)
        elif word == "COPY":
            found = re.fullmatch(r"(?:--from=(\w+) )?(\S+) /(\S+)", rest)
            assert found is not None, rest
            stage, source, target = found.groups()
            if stage:
                call("cp", "-a", stages[stage].place / source.lstrip("/"), root.place / target)
            else:
                copy_source(root.place / target)
        else:
            assert word in ("LABEL", "USER", "WORKDIR", "ENTRYPOINT"), word
    assert root is not None
    return root


def test_the_image_audits_the_example_without_rights(image: Root, example_snapshot: Path) -> None:
    shutil.copy(example_snapshot, image.place / "tmp" / "example.tar.gz")
    # Its planes differ, which are findings.
    audit = "audit run -q --exit-zero --snapshot example.tar.gz --out runs"
    said = image.run(f"cd /tmp && {audit}", user=USER)
    assert "2,232 cells decided by" in said
    assert re.search(r"untraced +24\n", said), said  # host to host, as everywhere
    assert "OVN 25.03" in image.run("audit doctor", user=USER)


def test_nothing_that_builds_is_in_it(image: Root) -> None:
    found = image.run("for p in cc gcc g++ make ld pip pip3; do command -v $p || true; done")
    assert found == ""


def test_what_is_in_it_is_pinned_and_listed(image: Root) -> None:
    listed = (image.place / "opt/ovn-audit/sbom/python.cdx.json").read_text()
    site = next((image.place / "opt/ovn-audit/lib").glob("python3*/site-packages"))
    packages = [path.stem.replace("-", "==") for path in site.glob("*.dist-info")]
    pinned = (REPOSITORY / "constraints.txt").read_text().lower().replace("_", "-")
    names = [one.lower().replace("_", "-") for one in packages]
    assert len(names) > 20
    for one in names:
        assert one.startswith("ovn-audit==") or one in pinned, one
        assert f'"{one.partition("==")[0]}"' in listed.lower().replace("_", "-"), one
    assert "ovn-central 25.03" in (image.place / "opt/ovn-audit/sbom/debian.txt").read_text()


def test_its_size_is_what_the_documentation_says(image: Root) -> None:
    """In megabytes of files, before a registry packs them; a tenth more or less is as good."""
    text = (REPOSITORY / "docs" / "packaging.md").read_text()
    documented = re.search(r"The whole image has ([\d,]+) MB", text)
    assert documented is not None
    whole, audited = (
        int(call("du", "-sxm", place).split()[0]) for place in (image.place, image.place / "tmp")
    )
    measured = whole - audited
    least, most = (int(documented[1].replace(",", "")) * share for share in (0.9, 1.1))
    assert least <= measured <= most, f"the image has {measured} MB"


def test_its_user_is_nobody_and_its_entrypoint_is_the_audit() -> None:
    last = dict(instructions())
    assert last["USER"] == USER
    assert last["ENTRYPOINT"] == '["audit"]'
    assert "HEALTHCHECK" not in last
