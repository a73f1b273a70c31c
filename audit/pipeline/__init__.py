"""facts → plan → traces → verdicts → store → report: the only package that knows the order.

Each public function is one command's work. They raise AuditError with a sentence for the user,
and leave nothing half-written.
"""

from audit.facts.manifests import Surroundings
from audit.pipeline.agents import OVS_RUNDIR, AgentOptions
from audit.pipeline.agents import serve as serve_agent
from audit.pipeline.capturing import Access, Saved, captured, save, sweep
from audit.pipeline.checking import (
    Format,
    baseline,
    check,
    checked_text,
    formatted,
    namespaces_text,
    read_expectations,
    rendered,
    write_formats,
)
from audit.pipeline.comparing import diff_manifests, diff_runs, mark_runs
from audit.pipeline.comparing import markdown as changes_markdown
from audit.pipeline.comparing import plain as changes_text
from audit.pipeline.completing import Outcome, write_report
from audit.pipeline.delivering import (
    Destination,
    Part,
    Place,
    copy,
    destination,
    fetched,
    located,
    resumable,
)
from audit.pipeline.doctor import (
    Finding,
    examine,
    examine_cluster,
    install_advice,
    install_engine,
)
from audit.pipeline.intending import inventory
from audit.pipeline.keeping import History, Retention, ask_all, past, prune
from audit.pipeline.options import (
    DEFAULT_PLANES,
    Covering,
    Options,
    PlaneName,
    Progress,
    Workers,
)
from audit.pipeline.pairing import TraceOptions, trace
from audit.pipeline.planning import Planned, plan
from audit.pipeline.plans import OWN, REPEATED
from audit.pipeline.reading import Explained, explain, query
from audit.pipeline.rehearsing import Rehearsed, rehearse
from audit.pipeline.running import resume, run
from audit.pipeline.tracing import MOST_ROUNDS, Verified
from audit.pipeline.verifying import Evidence, verify
from audit.plan.expectations import PACKS

__all__ = [
    "DEFAULT_PLANES",
    "MOST_ROUNDS",
    "OVS_RUNDIR",
    "OWN",
    "PACKS",
    "REPEATED",
    "Access",
    "AgentOptions",
    "Covering",
    "Destination",
    "Evidence",
    "Explained",
    "Finding",
    "Format",
    "History",
    "Options",
    "Outcome",
    "Part",
    "Place",
    "PlaneName",
    "Planned",
    "Progress",
    "Rehearsed",
    "Retention",
    "Saved",
    "Surroundings",
    "TraceOptions",
    "Verified",
    "Workers",
    "ask_all",
    "baseline",
    "captured",
    "changes_markdown",
    "changes_text",
    "check",
    "checked_text",
    "copy",
    "destination",
    "diff_manifests",
    "diff_runs",
    "examine",
    "examine_cluster",
    "explain",
    "fetched",
    "formatted",
    "install_advice",
    "install_engine",
    "inventory",
    "located",
    "mark_runs",
    "namespaces_text",
    "past",
    "plan",
    "prune",
    "query",
    "read_expectations",
    "rehearse",
    "rendered",
    "resumable",
    "resume",
    "run",
    "save",
    "serve_agent",
    "sweep",
    "trace",
    "verify",
    "write_formats",
    "write_report",
]
