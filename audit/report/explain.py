"""One cell as plain text, for the terminal: the sentence, the blame, every hop, and the reply."""

from collections.abc import Sequence

from audit.model.endpoints import EndpointKind
from audit.model.matrix import FAMILIES, PLANES
from audit.model.meaning import Meaning
from audit.model.packets import with_port
from audit.model.probes import Response
from audit.model.run import Run, TraceRecord
from audit.model.verdicts import NO_VERDICT, PASSES, REASONS, UNPROVEN, VERDICTS, Blame, Verdict
from audit.report import chains, owndecision, printing, sentences
from audit.report.printing import wrap

MOST_BACKENDS = 8
MOST_ALIKE = 3
COMPOSED = (
    "treated alike on its way (docs/cover.md); the traces below are of it. --cover exhaustive "
    "traces each cell itself."
)


def explain(run: Run, cell: int) -> str:
    """Return everything the run knows about one cell, in lines of at most 80 columns.

    Words that are longer than a line (a match, a port's name) are left whole, so that they can be
    copied.
    """
    verdicts = run.verdicts
    verdict = VERDICTS[int(verdicts.verdict[cell])]
    reason = REASONS[int(verdicts.reason[cell])]
    trace = int(verdicts.trace[cell])
    key = verdicts.trace_keys[trace] if trace >= 0 else ""
    request = chains.request_of(run, cell)
    others = chains.other(run, cell)
    lines = [*wrap(sentences.cell_sentence(run, cell)), "", f"Verdict  {verdict} ({reason})"]
    lines += _plane_lines(run, cell)
    lines += _probe_lines(run, cell)
    blame = sentences.blame_of(run, cell)
    if blame is not None:
        local, elsewhere = owndecision.of_cell(run, cell, blame)
        lines += blame_lines(local, elsewhere)
    backends = [*_backend_lines(run, cell), *wrap(_balanced(run, cell, request), indent=9)]
    if backends:
        # What policies see of a Service is no policy that shares the decision.
        apart = [""] if blame is not None and len(blame.policies) > 1 else []
        lines += [*apart, f"Backends {backends[0].lstrip()}", *backends[1:]]
    lines += _method_lines(run, cell, request)
    lines += _hop_lines(_by_plane("Request", request if others else ()), request)
    lines += _hop_lines(_by_plane("Request", others), others)
    code = int(verdicts.reply[cell])
    lines += ["", *wrap(f"Reply    {sentences.reply_sentence(verdict, code)}", hang=9)]
    if key and code != NO_VERDICT:
        lines += _hop_lines("Reply, hop by hop", chains.reply(run.traces, key))
    return printing.lines(line.rstrip() for line in lines)


def _method_lines(run: Run, cell: int, request: tuple[TraceRecord, ...]) -> list[str]:
    """Say whose traces follow, where they are of another packet than the cell's own."""
    if not request or not chains.is_composed(run, cell, request[0]):
        return []
    named = chains.equivalent(run, request[0])
    several = "; " in named
    packets = "equivalent packets" if several else "an equivalent packet"
    each = "Each of those is" if several else "That packet is"
    return ["", *wrap(f"Decided together with {packets}: {named}. {each} {COMPOSED}")]


def meaning(meant: Meaning | None) -> str:
    """Return what the policy objects say about a cell; nothing where that is not known."""
    if meant is None:
        return ""
    lines = ["", f"By the policy objects: {meant.verdict}"]
    lines += wrap(f"egress   {meant.egress}", indent=2, hang=11)
    lines += wrap(f"ingress  {meant.ingress}", indent=2, hang=11)
    if meant.cause:
        lines += wrap(f"OVN does otherwise: {meant.cause}", indent=2, hang=4)
    if meant.changes:
        lines += ["", "Any one of these would open it (each was tried)"]
    for number, change in enumerate(meant.changes, start=1):
        lines += wrap(f"{number}. {'; and '.join(change.edits)}", indent=2, hang=5)
        if change.also_count > 0:
            shown = "; ".join(change.also)
            more = " …" if change.also_more else ""
            lines += wrap(
                f"opens {_others(change.also_count)} of this run too: {shown}{more}",
                indent=5,
                hang=7,
            )
        elif change.also_count == 0:
            lines += wrap("opens no other cell of this run", indent=5)
        else:
            lines += wrap("what else it opens was not counted: the run is too large", indent=5)
    return printing.lines(lines)


def alike(run: Run, cells: Sequence[int]) -> str:
    """Say that the same is true of other cells of a run, the first of which it names."""
    named = [run.matrix.describe(cell) for cell in cells[:MOST_ALIKE]]
    more = f" and {len(cells) - MOST_ALIKE:,} more" if len(cells) > MOST_ALIKE else ""
    what = "cell" if len(cells) == 1 else "cells"
    text = f"The same is true of {len(cells):,} more {what}: {'; '.join(named)}{more}."
    return printing.lines(["", *wrap(text)])


def _others(count: int) -> str:
    return f"{count:,} other {'cell' if count == 1 else 'cells'}"


def _balanced(run: Run, cell: int, request: tuple[TraceRecord, ...]) -> str:
    """Say what policies see of a Service's packets; nothing of other cells."""
    matrix = run.matrix
    dst = matrix.endpoints[matrix.dst[cell]]
    address = dst.address(FAMILIES[matrix.family[cell]])
    if dst.kind is not EndpointKind.SERVICE or address is None:
        return ""
    seen = ", ".join(chains.backends(request, address))
    if not seen and run.manifest.get("engine"):
        return ""
    return (
        "OVN balances the load before it looks at policies: they see the backend's address and "
        f"port{seen and f', {seen},'} and not the Service's, "
        f"{with_port(address, matrix.ports[matrix.port[cell]].number)}."
    )


def _backend_lines(run: Run, cell: int) -> list[str]:
    """Say for how many endpoints of a Service packets pass, and name each; nothing of one alone."""
    each = chains.balanced(run, cell)
    if len(each) < 2:  # noqa: PLR2004 - the verdict says what becomes of one
        return []
    passing = sum(backend.verdict in PASSES for backend in each)
    unproven = sum(backend.verdict in UNPROVEN for backend in each)
    doubt = f", {unproven} may or may not" if unproven else ""
    lines = [f"{passing} of {len(each)} can be reached{doubt}"]
    for backend in each[:MOST_BACKENDS]:
        target = backend.target or "the sender itself"
        lines += wrap(f"{target} {backend.verdict} ({backend.by})", indent=9, hang=11)
    if len(each) > MOST_BACKENDS:
        lines += wrap(f"… and {len(each) - MOST_BACKENDS:,} more; -o json has all", indent=9)
    return lines


def _plane_lines(run: Run, cell: int) -> list[str]:
    """Return what each plane says, when more than one was asked."""
    verdicts = run.verdicts
    planes = {name: getattr(verdicts, name) for name in PLANES}
    by_plane = {
        name: VERDICTS[int(codes[cell])]
        for name, codes in planes.items()
        if codes is not None and int(codes[cell]) != NO_VERDICT
    }
    if len(by_plane) < 2 or verdicts.drift is None:  # noqa: PLR2004 - one has none to agree with
        return []
    text = ", ".join(f"{name} {verdict}" for name, verdict in by_plane.items())
    drift = int(verdicts.drift[cell])
    if drift == 1:
        return wrap(f"Planes   {text} (drift: {_differing(by_plane)})", hang=9)
    agree = " and ".join(filter(None, (", ".join([*by_plane][:-1]), [*by_plane][-1])))
    same = f" ({agree} agree)" if drift == 0 else ""
    return wrap(f"Planes   {text}{same}", hang=9)


def _probe_lines(run: Run, cell: int) -> list[str]:
    """Return what came of a real connection, where one was tried."""
    probe = run.probes.get(cell)
    if probe is None:
        return []
    by = f" by {probe.client}" if probe.client else ""
    text = f"Probe    {probe.response}{by}, {probe.address} port {probe.port}, {probe.at}"
    lines = wrap(text, hang=9) + wrap(f"{probe.meaning}.", indent=9)
    return lines + (wrap(probe.detail, indent=9) if probe.response == Response.NOT_SENT else [])


def _differing(by_plane: dict[str, Verdict]) -> str:
    """Return which planes disagree: each is compared with what OVN decides."""
    decided = by_plane.get("logical")
    others = [
        name
        for name, verdict in by_plane.items()
        if name != "logical" and decided is not None and _side(verdict) != _side(decided)
    ]
    return f"logical and {' and '.join(others)} disagree" if others else "the planes disagree"


def _side(verdict: Verdict) -> str:
    return "passes" if verdict in PASSES else str(verdict)


def _by_plane(title: str, hops: tuple[TraceRecord, ...]) -> str:
    """Return a title with the plane that these hops are of."""
    return f"{title}, {hops[0].plane} plane" if hops else title


def blame_lines(blame: Blame, elsewhere: str = "") -> list[str]:
    """Return who decided: the policy, its ACL and logical flow, and who shares a default deny.

    `elsewhere` says that ACL and flow are not those of the cell's own zone, where they are not.
    """
    lines = wrap(f"Decided  {blame}", hang=9)
    lines += wrap(elsewhere, indent=9)
    if blame.stage:
        where = f" of zone {blame.zone}" if blame.zone else ""
        lines += wrap(f"stage {blame.stage}{where}", indent=9)
    if blame.acl:
        lines += wrap(f"ACL {blame.acl}, action {blame.action}", indent=9)
    if blame.acl_match:
        lines += wrap(f"match {blame.acl_match}", indent=9, hang=15)
    if blame.logical_flow:
        lines += wrap(f"logical flow {blame.logical_flow}", indent=9)
    if len(blame.policies) > 1:
        lines += ["", "Policies that share this decision (a rule in any of them could allow it)"]
        lines += [f"  {policy}" for policy in blame.policies]
    return lines


def _hop_lines(title: str, records: tuple[TraceRecord, ...]) -> list[str]:
    """Return what each trace of a chain said."""
    lines = ["", title] if records else []
    for number, record in enumerate(records, start=1):
        # Why one that goes on does so is the reason of the whole way, which is not known there.
        reason = "" if record.outcome == "continues" else record.reason
        outcome = record.outcome + (f" ({reason})" if reason else "")
        stage = f" at {record.stage}" if record.stage else ""
        where = f"zone {record.zone}" if record.zone else "load balancer"
        where += f", node {record.node}" if record.node else ""
        lines += wrap(f"{number}. {where}: {outcome}{stage}", indent=2, hang=5)
        details = (
            ("policy", chains.policy_of(record)),
            ("ACL", record.acl),
            ("match", record.acl_match),
            ("logical flow", record.logical_flow),
            ("microflow", record.microflow),
            ("", record.detail),
        )
        for name, text in details:
            if text:
                lines += wrap(f"{name} {text}".lstrip(), indent=5, hang=7)
    return lines
