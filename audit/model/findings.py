"""Findings: what a run has to say beyond the verdict of each cell, and the exit code it makes.

A run ends with exit code 1 when, and only when, one of its findings is an error. So there is one
list of them, in run.json, and whatever is read of a run is read of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from audit.errors import ExitCode


class Severity(StrEnum):
    """How much a sentence matters: in the order in which they are told.

    An error makes a run end with exit code 1. A warning is about something to look at, or about
    what is not known that was asked for. A note is for the reader to know.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FindingKind(StrEnum):
    """The kinds of finding; those in FAILING are errors, the others warnings."""

    DRIFT = "drift"
    NOT_ENFORCED = "not-enforced-as-written"
    DATAPATH_DRIFT = "datapath-drift"
    PREDICTION = "prediction-disagrees"
    VERIFICATION = "verification-disagrees"
    PACKETS = "packets-disagree"
    PROBE_DRIFT = "probe-drift"
    PROBE_UNANSWERED = "probe-unanswered"
    NOT_IMPLEMENTED = "not-implemented"
    ENFORCED_OTHERWISE = "enforced-otherwise"
    SELECTS_NOTHING = "selects-nothing"
    RULE_WITHOUT_EFFECT = "rule-without-effect"
    POLICY_WITHOUT_EFFECT = "policy-without-effect"
    NO_DEFAULT_DENY = "no-default-deny"
    SAME_PRIORITY = "same-priority"
    INGRESS_BLOCKED = "ingress-blocked"
    # OVN's inventory beside Kubernetes'
    POLICY_ONLY_IN_OVN = "policy-only-in-ovn"
    POLICY_NOT_IN_OVN = "policy-not-in-ovn"
    ADDRESS_SET_DIFFERS = "address-set-differs"
    PORT_GROUP_DIFFERS = "port-group-differs"
    LOAD_BALANCER_DIFFERS = "load-balancer-differs"
    POD_DIFFERS = "pod-differs"
    PORT_NOT_BOUND = "port-not-bound"
    SOUTHBOUND_DIFFERS = "southbound-differs"
    POLICY_LEFT_OVER = "policy-left-over"
    POLICY_AWAITED = "policy-awaited"
    PORT_WITHOUT_POD = "port-without-pod"


INVENTORY = frozenset(
    {
        *(FindingKind.POLICY_ONLY_IN_OVN, FindingKind.POLICY_NOT_IN_OVN),
        *(FindingKind.ADDRESS_SET_DIFFERS, FindingKind.PORT_GROUP_DIFFERS),
        *(FindingKind.LOAD_BALANCER_DIFFERS, FindingKind.POD_DIFFERS),
        *(FindingKind.PORT_NOT_BOUND, FindingKind.SOUTHBOUND_DIFFERS),
    }
)
"""Differences between OVN's databases and the objects that are in force: packets meet them."""

FAILING = frozenset(
    {
        FindingKind.DRIFT,
        FindingKind.NOT_ENFORCED,
        FindingKind.DATAPATH_DRIFT,
        FindingKind.PREDICTION,
        FindingKind.VERIFICATION,
        FindingKind.PACKETS,
        FindingKind.PROBE_DRIFT,
        *INVENTORY,
    }
)

COUNTED = frozenset(
    {
        *(FindingKind.NOT_IMPLEMENTED, FindingKind.ENFORCED_OTHERWISE),
        *(FindingKind.SELECTS_NOTHING, FindingKind.NO_DEFAULT_DENY, FindingKind.SAME_PRIORITY),
        *(FindingKind.RULE_WITHOUT_EFFECT, FindingKind.POLICY_WITHOUT_EFFECT),
    }
)
"""Kinds whose text counts policies, rules or namespaces; which these are, the subjects name."""

APPLIED = "applied"
"""The code of the note that a run is of a cluster as it would be, not as it is."""

WARNED = frozenset(
    {
        APPLIED,
        "address-unknown",
        "changed-meanwhile",
        "clock-set",
        "datapath-unproven",
        "end-unread",
        "ingress-controller-unknown",
        "ingress-not-followed",
        "list-forbidden",
        "list-missing",
        "namespace-unknown",
        "network-unknown",
        "node-unknown",
        "node-untraceable",
        "namespaces-missing",
        "no-address",
        "no-logical-port",
        "northd-version-unknown",
        "object-contradicts",
        "policy-without-meaning",
        "replies-lost",
        "replies-untraced",
        "replicas-left-out",
        "southbound-differs",
        "time-limit",
        "user-defined-network",
        "zone-incomplete",
        "zone-missing",
        "zone-torn",
        "zone-unreadable",
        "zone-untraceable",
    }
)
"""Codes of notes that are warnings: something that was asked for is not known."""


def severity_of_note(code: str) -> Severity:
    """Return the severity of a note about the facts: it never fails a run."""
    return Severity.WARNING if code in WARNED else Severity.NOTE


MOST_SAID = 50
"""Disagreements of a kind that are written out; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Two answers about one thing, in a sentence.

    `about` is what makes it the same in another run: workloads, a port and the answers, but no
    pods' names, addresses or traces. `cause` is what several of them come from, if that is known.
    """

    text: str
    about: tuple[str, ...]
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, what it is about, and the number of cells it explains, if it is about cells.

    `kind` is a FindingKind, or a word of another version's. `cause` is what it comes from, empty
    when that is not known: a deviation of OVN-Kubernetes, what a node's datapath lacks, or the kind
    of the finding about OVN's inventory that explains it. `about` is what makes a finding about
    cells the same in another run, as a Disagreement's.
    """

    kind: str
    text: str
    subjects: tuple[str, ...] = ()
    cells: int = 0
    cause: str = ""
    about: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """An error, which makes a run end with exit code 1, or a warning."""
        return Severity.ERROR if self.kind in FAILING else Severity.WARNING

    def fields(self, most_subjects: int) -> dict[str, Any]:
        """Return it for run.json."""
        subjects = list(self.subjects[:most_subjects])
        return {**asdict(self), "subjects": subjects, "severity": str(self.severity)}


MOST_SUBJECTS = 200
"""Subjects of a finding that run.json lists; its text counts all."""
MOST_IN_A_SENTENCE = 3
"""Subjects that a sentence names; the rest it counts."""


def with_names(kind: str, text: str, subjects: Sequence[str]) -> str:
    """Return a finding's text with the first of what it counts, unless it names that already."""
    if kind not in COUNTED or not subjects or (len(subjects) == 1 and subjects[0] in text):
        return text
    left = len(subjects) - MOST_IN_A_SENTENCE
    more = f" and {left:,} more" if left > 0 else ""
    if len(subjects) >= MOST_SUBJECTS:  # others may have been left out
        more = " and others"
    return f"{text} ({', '.join(subjects[:MOST_IN_A_SENTENCE])}{more})"


FROM_DISAGREEMENTS = {
    FindingKind.DATAPATH_DRIFT: "a node's datapath does not do what OVN decided",
    FindingKind.PREDICTION: "OVN decides otherwise than its ACLs say",
    FindingKind.VERIFICATION: "a cell's own trace decides otherwise than the traces of its legs",
    FindingKind.PACKETS: "a real packet does otherwise than its trace",
    FindingKind.PROBE_DRIFT: "a real connection passes where the run says that it is stopped",
    FindingKind.PROBE_UNANSWERED: "a real connection is not answered where the run says it passes",
}
"""What the findings of a kind have in common, for those that come from disagreements."""


def of_disagreements(
    kind: FindingKind, disagreements: Sequence[Disagreement], *, count: int | None = None
) -> tuple[Finding, ...]:
    """Return a finding for what disagrees about the same, and one for what is not written out.

    `count` is how many there are in all, where not all of them are given.
    """
    total = len(disagreements) if count is None else count
    return tuple(_grouped(kind, disagreements[:MOST_SAID], total))


def _grouped(
    kind: FindingKind, disagreements: Sequence[Disagreement], total: int
) -> Iterator[Finding]:
    alike: dict[tuple[str, ...], list[Disagreement]] = {}
    for disagreement in disagreements:
        alike.setdefault(disagreement.about, []).append(disagreement)
    meaning = FROM_DISAGREEMENTS[kind]
    for about, same in alike.items():
        more = f"; and {len(same) - 1} more like it" if len(same) > 1 else ""
        yield Finding(
            kind=kind,
            text=f"{meaning}: {same[0].text}{more}",
            subjects=tuple(disagreement.text for disagreement in same[1:]),
            cells=len(same),
            cause=same[0].cause,
            about=about,
        )
    left = total - len(disagreements)
    if left:
        text = f"{meaning}, {left:,} times more than is written out here"
        yield Finding(kind=kind, text=text, cells=left, about=("more",))


_CHECKS = {
    FindingKind.DATAPATH_DRIFT: "drift",
    FindingKind.VERIFICATION: "verify",
    FindingKind.PREDICTION: "prediction",
    FindingKind.PACKETS: "packets",
}
"""Where an earlier version's run.json has what disagrees, which were no findings then."""


def recorded(manifest: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return the findings of a run.json, errors first; also of one that an earlier audit wrote."""
    findings = [_finding(row) for row in manifest.get("findings") or ()]
    kinds = {finding.kind for finding in findings}
    for kind, name in _CHECKS.items():
        if kind not in kinds:
            findings += of_disagreements(kind, _disagreements(manifest.get(name) or {}))
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR))


def _finding(row: Mapping[str, Any]) -> Finding:
    return Finding(
        kind=str(row["kind"]),
        text=str(row["text"]),
        subjects=tuple(map(str, row.get("subjects") or ())),
        cells=int(row.get("cells") or 0),
        cause=str(row.get("cause") or ""),
        about=tuple(map(str, row.get("about") or ())),
    )


def _disagreements(check: Mapping[str, Any]) -> list[Disagreement]:
    texts = [str(text) for text in check.get("disagreements") or ()]
    about = check.get("about") or [[text] for text in texts]  # as the first versions had it
    return [
        Disagreement(text=text, about=tuple(map(str, key)))
        for text, key in zip(texts, about, strict=False)
    ]


def notes_of(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the notes of a run.json about the facts: an earlier audit listed findings there too."""
    findings = {(row.get("kind"), row.get("text")) for row in manifest.get("findings") or ()}
    for note in manifest.get("notes") or ():
        earlier = note["code"] == FindingKind.DRIFT
        if not earlier and (note["code"], note["text"]) not in findings:
            yield note


def exit_code(manifest: Mapping[str, Any]) -> ExitCode:
    """Return the exit code that a run deserves: 1 for an error among its findings, and only then.

    3 when the run did not do what it set out to.
    """
    if any(finding.severity is Severity.ERROR for finding in recorded(manifest)):
        return ExitCode.FINDINGS
    return ExitCode.INCOMPLETE if manifest.get("incomplete") else ExitCode.CLEAN
