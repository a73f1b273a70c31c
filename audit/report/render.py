"""A run as one HTML file that needs nothing else: no network, no server, no other file.

The names in a run are anybody's to choose, so nothing of a run is ever markup: Jinja2 escapes what
it inserts, the data block cannot be left (`<`, `>` and `&` are escaped in it), the script inserts
text only, and the page's own policy lets nothing run or load but the style and script that are
hashed in it.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit.model.changes import ChangedCells
from audit.model.expectations import Checks
from audit.model.history import Kept
from audit.model.meaning import Meanings
from audit.model.run import StreamedRun
from audit.report.census import census, deciders
from audit.report.grid import Grid, gather
from audit.report.payload import MOST_BYTES, MOST_TRACE_BYTES, payload
from audit.report.script import joined
from audit.report.timeline import HEIGHT, TITLES, WIDTH, timeline
from audit.report.view import summary

JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render_html(
    run: StreamedRun,
    *,
    grid: Grid | None = None,
    meanings: Meanings | None = None,
    changed: ChangedCells | None = None,
    checks: Checks | None = None,
    trace_budget: int = MOST_TRACE_BYTES,
    budget: int = MOST_BYTES,
) -> str:
    """Return the report of a run as one HTML page. The same run gives the same text.

    `grid` are its cells, where they were gathered before; `meanings` is what the policy objects say
    of them, `changed` what a comparison with an earlier run found, `checks` what became of
    expectations. The budgets bound the compressed bytes of the traces and of all data; what does
    not fit is left out, and the page says so.
    """
    grid = grid or gather(run, changed.cells if changed else None)
    counted = census(grid)
    deciding = deciders(grid, counted, run.policies)
    data = payload(
        run,
        grid,
        counted,
        deciding,
        meanings=meanings,
        changed=changed,
        trace_budget=trace_budget,
        budget=budget,
    )
    # Both are this package's own text, and the policy below admits them by their hash.
    modules = environment().list_templates(extensions=["js"])
    script = Markup(joined({name: _source(name) for name in modules}))  # noqa: S704
    style = Markup(_source("style.css"))  # noqa: S704
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            summary=summary(run.manifest, grid, counted, deciding, changed=changed, checks=checks),
            path=run.path,
            # Where no trace was run none is left out.
            left_out=[n for n in data["leftOut"] if data["traced"] or n not in ("hops", "raw")],
            style=style,
            script=script,
            policy=_content_security_policy(style, script),
            data=Markup(_json_for_html(data)),  # noqa: S704 - escaped for the block it stands in
        )
    )


def render_history(root: str, runs: Sequence[Kept], skipped: Sequence[str] = ()) -> str:
    """Return the page of the runs below `root`: trends, exposure, and a link to each run's page.

    `skipped` are sentences about what could not be read. The page has no script.
    """
    style = Markup(_source("style.css") + _source("history.css"))  # noqa: S704 - our own text
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            root=root,
            scopes=timeline(runs),
            titles=TITLES,
            skipped=skipped,
            size=(WIDTH, HEIGHT),
            style=style,
            policy=_content_security_policy(style),
        )
    )


def environment() -> Environment:
    """Return the templates' environment: everything is escaped, nothing may be undefined."""
    return Environment(
        loader=FileSystemLoader(_templates()),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _templates() -> Path:
    """Return where the templates are: beside this module when installed, else in the checkout."""
    installed = Path(__file__).parent / "templates"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "reports" / "templates"


def _plain(value: object) -> object:
    """Return what is inserted without characters that would turn the text around it, or hide."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.translate(_HIDING)
    return value


_HIDING = dict.fromkeys(
    [
        *(*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)),  # but tab and newline
        *(0x200B, 0x200E, 0x200F, 0xFEFF),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ],
    "\N{REPLACEMENT CHARACTER}",
)


def _source(name: str) -> str:
    """Return the text of a stylesheet or of a module of the script."""
    made = environment()
    return made.loader.get_source(made, name)[0] if made.loader else ""


def _content_security_policy(style: str, script: str | None = None) -> str:
    """Return the policy that admits exactly this style and this script, and no request."""
    scripts = "'none'" if script is None else f"'sha256-{_sha256(script)}'"
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_sha256(style)}'",
            f"script-src {scripts}",
            "img-src data:",
            "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _sha256(text: str) -> str:
    """Return the hash as a content security policy spells it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json_for_html(value: object) -> str:
    """Return JSON that no HTML parser can see the end of a script in."""
    return json.dumps(value, separators=(",", ":")).translate(JSON_ESCAPES)
