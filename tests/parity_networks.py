"""Compare runs with recorded traces in and between user-defined networks (`parity.py`).

A pod is called by the logical port that it has on a network, so that what is asked is what was
traced: the packet of one attachment to the address of another, or to a Service's.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from audit.model.options import Covering
from audit.model.run import Run
from audit.model.verdicts import NO_VERDICT, PASSES, REASONS, VERDICTS, Reason, Verdict
from tests import mutate, parity
from tests.mutable import Cluster, copied
from tests.parity import Answer, Score

RECORDED: Mapping[str, tuple[str, ...]] = {
    "udn-interconnect": (),
    "head-shared": ("blue", "cyan", "green", "red-1", "red-2", "sec"),
}
"""Clusters by the namespaces whose pods are on user-defined networks; none for all of them."""
CAUGHT_UP = "head-shared-caught-up"
_BEHIND = "worker-b"
"""The zone of `head-shared` whose southbound database lacks rows that its northbound asks for."""


def snapshot(name: str, root: Path) -> Path:
    """Return a recorded cluster; `root` is short, as sockets are made below it.

    CAUGHT_UP is `head-shared` with the southbound database that ovn-northd makes where it is
    behind.
    """
    if name != CAUGHT_UP:
        return parity.SNAPSHOTS[name]
    engine = mutate.Clusters(root).engine("head-shared")
    if engine is None:
        raise RuntimeError("there is no OVN 26.03 here: make ovns")
    copy = copied(engine.snapshot, root / "s")
    cluster = Cluster(root=copy, rng=random.Random(0), recompile={_BEHIND})  # noqa: S311
    mutate.recompile_zones(cluster, engine, root)
    return copy


def compare(name: str, root: Path, cover: Covering, ports: Sequence[str] = ()) -> list[Score]:
    """Compare delivery, the ACL that denies and the reply of what was recorded of a cluster."""
    answers = parity.asked(f"{name}-networks", ports)
    spaces = RECORDED[name.removesuffix("-caught-up")]
    run = parity.audit(
        snapshot(name, root),
        root,
        cover=cover,
        namespaces=spaces,
        with_peers=bool(spaces),  # nodes and Services among them
        ports=sorted({parity.port(a) for a in answers}),
        family=parity.families(answers),
    )
    cells = dict(parity.cells(run))
    about = f"{name}, networks, {cover}"
    delivery = Score(f"{about}: where the packet ends")
    blame, replies = Score(f"{about}: the ACL that stops it"), Score(f"{about}: replies")
    for answer in answers:
        place = parity.place(answer)
        if place not in cells:
            # Who has no address of a family is asked nothing of it.
            delivery.add(good=answer["outcome"] == "none", about=f"{place}: no such cell")
            continue
        cell = cells[place]
        delivery.add(good=_same_end(run, cell, answer), about=_about(run, cell, answer))
        if answer["acl"] and cover is Covering.EXHAUSTIVE:  # legs show one zone's row for all
            index = int(run.verdicts.blame[cell])
            acl = run.verdicts.blames[index].acl if index >= 0 else ""
            good = acl.startswith(answer["acl"])
            blame.add(good=good, about=f"{place}: ACL {answer['acl']}, not {acl}")
        if answer["reply"]:
            reply = int(run.verdicts.reply[cell])
            passes = reply != NO_VERDICT and VERDICTS[reply] in PASSES
            replies.add(
                good=passes == (answer["reply"] == "1"), about=f"{place}: {answer['reply']}"
            )
    return [score for score in (delivery, blame, replies) if score.total]


_ENDS: Mapping[str, tuple[Verdict | None, Reason | None]] = {
    "delivered": (Verdict.REACHABLE, None),
    "dropped": (Verdict.BLOCKED, None),
    "another": (Verdict.UNROUTABLE, Reason.ADDRESS_OF_ANOTHER),
    # The router asks for the MAC of an address that nobody in OVN has.
    "unanswered": (Verdict.INCONCLUSIVE, Reason.NEXT_HOP_UNRESOLVED),
    "exits": (Verdict.INCONCLUSIVE, Reason.LEFT_NETWORK),
    "leaves": (Verdict.EXITS, None),  # towards a node's own address, where OVN ends
    "rejected": (None, Reason.SERVICE_WITHOUT_ENDPOINTS),
    "unroutable": (Verdict.UNROUTABLE, None),
    "none": (Verdict.UNTRACED, Reason.NO_ADDRESS),
}
"""The verdict and the reason of a cell, where they are one, by how its packet ended."""


def _same_end(run: Run, cell: int, answer: Answer) -> bool:
    """Say whether a cell ends as the packet did: no doubt stands for either side."""
    verdict, reason = _ENDS[answer["outcome"]]
    return verdict in (None, VERDICTS[run.verdicts.verdict[cell]]) and reason in (
        None,
        REASONS[run.verdicts.reason[cell]],
    )


def _about(run: Run, cell: int, answer: Answer) -> str:
    verdict, reason = VERDICTS[run.verdicts.verdict[cell]], REASONS[run.verdicts.reason[cell]]
    return f"{parity.place(answer)}: {answer['outcome']}, not {verdict} ({reason})"
