"""Pictures of the report for `docs/`, from a run of the bundled example: `make screenshots`."""

import os
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
OUT = Path("docs/images")
VIEWS = {
    "report-summary": "",
    "report-namespaces": "",
    "report-workloads": "ns=*,*&level=workloads",
    "report-pods": "ns=*,*",
    "report-cell": "cell=pod%20shop%2Ffront-0,pod%20default%2Fweb-0",
}


def main() -> None:
    """Take the picture of each view of the report named on the command line."""
    report = Path(sys.argv[1]).resolve()
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for name, fragment in VIEWS.items():
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{report.as_uri()}#{fragment}")
            page.evaluate("window.auditReport.ready")
            page.wait_for_timeout(500)
            _picture(page, name)
            page.close()
        browser.close()


def _picture(page: Page, name: str) -> None:
    if name == "report-summary":
        page.screenshot(path=OUT / f"{name}.png")
    else:
        part = "#panel" if name == "report-cell" else ".map"
        page.locator(part).screenshot(path=OUT / f"{name}.png")
    print(OUT / f"{name}.png", (OUT / f"{name}.png").stat().st_size)


if __name__ == "__main__":
    main()
