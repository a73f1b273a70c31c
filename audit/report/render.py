"""A run as one HTML file that needs nothing else: no network, no server, no other file.

The names in a run are anybody's to choose, so nothing of a run is ever markup: Jinja2 escapes what
it inserts, the data block cannot be left (`<`, `>` and `&` are escaped in it), the script inserts
text only, and the page's own policy lets nothing run or load but the style and script that are
hashed in it.
"""

import base64
import hashlib
import json

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audit.model.run import Run
from audit.report.axes import axes
from audit.report.census import blockers, census
from audit.report.payload import MOST_BYTES, MOST_TRACE_BYTES, payload
from audit.report.view import summary

JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render_html(run: Run, *, trace_budget: int = MOST_TRACE_BYTES, budget: int = MOST_BYTES) -> str:
    """Return the report of a run as one HTML page. The same run gives the same text.

    The budgets bound the compressed bytes of the traces and of all data; what does not fit is left
    out, and the page says so.
    """
    page = axes(run.matrix)
    counted = census(run.matrix, run.verdicts, page)
    blocking = blockers(run.matrix, run.verdicts, page)
    data = payload(run, page, counted, blocking, trace_budget=trace_budget, budget=budget)
    # Both are this package's own text, and the policy below admits them by their hash.
    style, script = (Markup(_source(name)) for name in ("style.css", "report.js"))  # noqa: S704
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            summary=summary(run, page, counted, blocking),
            path=run.path,
            left_out=data["leftOut"],
            style=style,
            script=script,
            policy=_content_security_policy(style, script),
            data=Markup(_json_for_html(data)),  # noqa: S704 - escaped for the block it stands in
        )
    )


def _environment() -> Environment:
    """Return the templates' environment: everything is escaped, nothing may be undefined."""
    return Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    """Return the text of the stylesheet or the script, as it will stand in the page."""
    environment = _environment()
    return environment.loader.get_source(environment, name)[0] if environment.loader else ""


def _content_security_policy(style: str, script: str) -> str:
    """Return the policy that admits exactly this style and this script, and no request."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_sha256(style)}'",
            f"script-src 'sha256-{_sha256(script)}'",
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
