"""What `run.json` says about a run, but for its id, its times and the list of its files."""

import getpass
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from audit import __version__
from audit.model.facts import ClusterState, Note
from audit.model.matrix import Counted, among, proven
from audit.model.verdicts import BEYOND_OVN, CODE, REASON_CODE, UNPROVEN, VERDICTS

TOOLS = ("cryptography", "duckdb", "jinja2", "msgspec", "numpy", "pyarrow", "pyyaml", "ray")


def describe(
    state: ClusterState,
    counted: Counted,
    notes: Sequence[Note],
    *,
    request: Mapping[str, Any],
    traces: int,
) -> dict[str, Any]:
    """Return what was audited and what came out; `request` is taken over as it is."""
    counts = {str(v): int(counted.cells[counted.verdict == CODE[v]].sum()) for v in VERDICTS}
    unproven = sum(counts[verdict] for verdict in UNPROVEN)
    cells = len(counted)
    beyond = among(counted.reason, [REASON_CODE[reason] for reason in BEYOND_OVN])
    beyond &= ~proven(counted.verdict)
    return {
        "audit": __version__,
        "source": state.source,
        "cluster": state.cluster or None,
        **request,
        "host": host(),
        "tools": tools(),
        "databases": [
            {
                "zone": z.name,
                "northd_version": z.northd_version,
                "sequence": z.sequence,
                "rejecting_acls": sum(
                    acl.action == "reject" for acls in z.acls.values() for acl in acls
                ),
            }
            for z in state.zones.values()
        ],
        "counts": {"cells": cells, **counts, "traces": traces},
        "coverage": {
            "proven": cells - unproven,
            "total": cells,
            "unprovable": int(counted.cells[beyond].sum()),
        },
        "verify": None,
        "notes": [note.fields() for note in notes],
        "inputs": inputs(state),
        "source_lines": {
            subject: [source.file, source.line] for subject, source in state.source_lines.items()
        },
    }


def inputs(state: ClusterState) -> list[dict[str, Any]]:
    """Return every file the facts were read from."""
    return [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in state.inputs]


def host() -> dict[str, Any]:
    """Return who runs the audit, and where."""
    return {
        "name": platform.node(),
        "user": _user(),
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def tools() -> dict[str, str]:
    """Return the versions of the libraries that read, decided and wrote."""
    return {name: importlib.metadata.version(name) for name in TOOLS}
