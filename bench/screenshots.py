"""Pictures of the report for `docs/`, from a run of the bundled example: `make screenshots`."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = "/usr/bin/chromium"
OUT = Path("docs/images")
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


def main() -> None:
    """Audit the example, and take the picture of each view of its report."""
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory(prefix="audit-screenshots-") as scratch:
        report = audited(Path(scratch))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            for view in VIEWS:
                take(browser, report, view)
            browser.close()


def audited(scratch: Path) -> Path:
    """Run the audit as a reader of the README would, and return the report.

    The page says the command and where the run is: both are relative to a directory of its own.
    """
    (scratch / EXAMPLE).parent.mkdir(parents=True)
    shutil.copy(EXAMPLE, scratch / EXAMPLE)
    program = Path(sys.executable).with_name("audit")
    subprocess.run([program, *RUN, *PLANES], cwd=scratch, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
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


if __name__ == "__main__":
    main()
