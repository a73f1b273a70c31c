"""Pictures of the report, from a run of the bundled example: `make screenshots`.

Those of `docs/images` are in the documentation. Those of `dist/screenshots` are to be looked at:
every view on every kind of screen, and on paper.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = "/usr/bin/chromium"
OUT = Path("docs/images")
EVERY = Path("dist/screenshots")
EXAMPLE = Path("examples/interconnect.tar.gz")
RUN = ("run", "-q", "--exit-zero", "--snapshot", str(EXAMPLE))
PLANES = ("--planes", "intent,logical,datapath")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A picture: what of which view, in a window of which size."""

    name: str
    fragment: str = ""
    whole: bool = False
    """The whole map, however small its cells."""
    part: str = ""
    """What of the page is taken; without, what of it the window shows."""
    window: tuple[int, int] = (1280, 900)


VIEWS = (
    View(name="report-summary"),
    View(name="report-namespaces", part=".map", window=(1280, 1010)),
    View(
        name="report-workloads",
        fragment="ns=*,*&level=workloads",
        whole=True,
        part=".map",
        window=(1500, 1100),
    ),
    View(name="report-pods", fragment="ns=shop,shop", part=".map"),
    View(
        name="report-cell",
        fragment="cell=pod%20staging%2Fstage-0,pod%20default%2Fweb-0",
        part="#panel",
        window=(1280, 1500),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """What a page is looked at on."""

    name: str
    window: tuple[int, int]
    scheme: Literal["light", "dark"] = "light"
    media: Literal["screen", "print"] = "screen"


MEDIA = (
    Medium(name="1440", window=(1440, 900)),
    Medium(name="1920", window=(1920, 1080)),
    Medium(name="390", window=(390, 844)),
    Medium(name="dark", window=(1440, 900), scheme="dark"),
    Medium(name="dark-390", window=(390, 844), scheme="dark"),
    Medium(name="print", window=(794, 1123), media="print"),
)
FRAGMENTS = {
    "start": "",
    "workloads": "ns=*,*&level=workloads",
    "pods": "ns=shop,shop",
    "all-pods": "ns=*,*",
    "cell": "cell=pod%20shop%2Ffront-0,pod%20shop%2Fback-0",
    "drift": "only=drift",
    "policy": "policy=networkpolicy%20default%2Fdeny-by-default",
    "gone": "cell=pod%20nobody%2Fx,pod%20shop%2Fback-0",
}


def main() -> None:
    """Audit the example, and take the picture of each view of its report."""
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory(prefix="audit-screenshots-") as scratch:
        report = audited(Path(scratch))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            for view in VIEWS:
                take(browser, report, view)
            EVERY.mkdir(parents=True, exist_ok=True)
            for medium in MEDIA:
                take_every(browser, report, medium)
            browser.close()


def audited(scratch: Path) -> Path:
    """Run the audit as a reader of the README would, and return the report; with a history.

    The page says the command and where the run is: both are relative to a directory of its own.
    """
    (scratch / EXAMPLE).parent.mkdir(parents=True)
    shutil.copy(EXAMPLE, scratch / EXAMPLE)
    program = Path(sys.executable).with_name("audit")
    subprocess.run([program, *RUN, *PLANES], cwd=scratch, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    history = scratch / "runs" / "index.html"
    with history.open("wb") as file:
        asked = [str(program), "history", "runs", "-o", "html"]
        subprocess.run(asked, cwd=scratch, check=True, stdout=file)  # noqa: S603
    return next(scratch.glob("runs/*/report.html"))


def take(browser: Browser, report: Path, view: View) -> None:
    """Take one picture."""
    width, height = view.window
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(f"{report.as_uri()}#{view.fragment}")
    page.evaluate("window.auditReport.ready")
    page.wait_for_timeout(500)
    if view.whole:
        page.get_by_test_id("whole").click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
    picture = OUT / f"{view.name}.png"
    if view.part:
        page.locator(view.part).screenshot(path=picture)
    else:
        page.screenshot(path=picture)
    print(picture, picture.stat().st_size)
    page.close()


def take_every(browser: Browser, report: Path, medium: Medium) -> None:
    """Take each view, and the history, whole as it is looked at on one medium."""
    width, height = medium.window
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=medium.scheme)
    page.emulate_media(media=medium.media, color_scheme=medium.scheme)
    addresses = {name: f"{report.as_uri()}#{part}" for name, part in FRAGMENTS.items()}
    for name, address in addresses.items():
        page.goto("about:blank")
        page.goto(address)
        page.evaluate("window.auditReport.ready")
        page.wait_for_timeout(500)
        page.screenshot(path=EVERY / f"{medium.name}-{name}.png")
    page.screenshot(path=EVERY / f"{medium.name}-whole.png", full_page=True)
    page.goto((report.parents[1] / "index.html").as_uri())
    page.screenshot(path=EVERY / f"{medium.name}-history.png", full_page=True)
    page.close()


if __name__ == "__main__":
    main()
