"""Whose ACL decides a cell: that of the cell's own zone, which an equivalent packet may not be of.

Each zone has a northbound database of its own, and in it its own ACL of one policy and rule.
"""

from dataclasses import replace

from audit.model.run import Run
from audit.model.verdicts import Blame


def of_cell(run: Run, cell: int, blame: Blame) -> tuple[Blame, str]:
    """Return what decided a cell with the ACL and the flow of its own zone, if the run knows them.

    Otherwise as it was traced, with a sentence that says whose they are.
    """
    zone = _zone(run, cell, blame)
    if not zone or not blame.acl or blame.zone in ("", zone):
        return blame, ""
    trace = run.traces.deciding(zone, blame)
    if trace is None or not trace.acl:
        return blame, (
            f"The ACL and the flow below are zone {blame.zone}'s, where an equivalent packet was "
            f"traced; this run has no trace of zone {zone}'s own ACL, which decides here."
        )
    local = replace(
        blame,
        acl=trace.acl,
        acl_match=trace.acl_match,
        logical_flow=trace.logical_flow,
        stage=trace.stage,
        zone=zone,
    )
    return local, ""


def _zone(run: Run, cell: int, blame: Blame) -> str:
    """Return the zone that decides: the source's for what leaves, else the destination's.

    Nothing where the ACL is of neither end's switch (a router's policy, a gateway).
    """
    matrix = run.matrix
    ends = (matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]])
    if blame.direction == "egress" or blame.stage.startswith("ls_in_"):
        attached = ends[0].attachment
    elif blame.direction == "ingress" or blame.stage.startswith("ls_out_"):
        attached = ends[1].attachment
    else:
        return ""
    return attached.zone if attached is not None else ""
