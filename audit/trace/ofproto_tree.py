"""What `ofproto/trace` prints → its sections and steps. Pure, strict where it matters.

A packet that goes through conntrack is traced in sections: each ends in a recirculation, and the
next one resumes where it went on. Within a section the text is a tree with its tail recursion
flattened, as `ovn-trace`'s is: a node that is the last of its list is printed at its parent's own
level (ofproto-dpif-trace.c, oftrace_node_print_details). It is kept as it is printed, in the
order of execution, each step with its level; which of two steps is whose child matters to no one
who asks where a packet went.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

_RULE = "=" * 79
_MARKS = "->b"
"""What a line begins with that is neither a flow nor, most often, an action."""
_INDENT = 4
_TABLE = re.compile(
    r" *(\d+)\. (?:(.*?), )?priority (\d+)(?:, cookie 0x([0-9a-f]+))?(?:, send_flow_rem)?$"
)
_MISS = re.compile(r" *(\d+)\. No match\.$")
_BRIDGE = re.compile(r' *bridge\("(.*)"\)$')
_RESUME = re.compile(
    r"recirc\((0x[0-9a-f]+)\)(?: - resume conntrack with (default )?ct_state=([a-z|]+))?"
)
_FAILED = re.compile(r"^Translation failed \((.*)\)", re.MULTILINE)


class OfprotoSyntaxError(ValueError):
    """A text that is no `ofproto/trace`, with what was expected."""


class Table(NamedTuple):
    """A flow that matched. Without `priority` (-1) none did; without cookie it has none (0)."""

    level: int
    number: int
    match: str
    priority: int
    cookie: int


class Bridge(NamedTuple):
    """The packet enters a bridge: first `br-int`, then whichever a patch port leads to."""

    level: int
    name: str


class Action(NamedTuple):
    """An action, a group's bucket or a note of the tracer's, as printed."""

    level: int
    text: str


class Detail(NamedTuple):
    """What came of the action before: `output to kernel tunnel`, `NXM_NX_REG15[] is now 0x3`."""

    level: int
    text: str


class Failure(NamedTuple):
    """What the translation could not do; the packet is dropped (`>>>> … <<<<`)."""

    level: int
    text: str


Step = Table | Bridge | Action | Detail | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What happens to a packet between two recirculations.

    `recirculation` is the id it resumes from, 0 at first, and `state` the conntrack state it
    resumes with (`new|trk`), `default` when that was the tracer's own idea. `flow` is the packet
    with its registers as it begins, `megaflow` the bits that were looked at, `actions` what the
    datapath is told to do.
    """

    recirculation: int
    state: str
    default: bool
    flow: str
    steps: tuple[Step, ...]
    megaflow: str
    actions: str
    failed: str

    @property
    def fields(self) -> dict[str, str]:
        """The packet's fields and registers as the section begins."""
        return fields(self.flow)


def fields(flow: str) -> dict[str, str]:
    """Split a flow as OVS prints it: `tcp,reg0=0x5,nw_src=10.0.0.1,…`; a bare word maps to ""."""
    pairs = (item.partition("=") for item in flow.split(","))
    return {name.strip(): value for name, _, value in pairs}


def parse(text: str) -> tuple[Section, ...]:
    """Return the sections in order. OfprotoSyntaxError when the text is not a whole trace."""
    parts = text.split(f"\n{_RULE}\n")
    if len(parts) % 2 == 0:
        raise OfprotoSyntaxError("a recirculation is announced, and nothing follows")
    sections = [_section("", parts[0])]
    for announced, body in zip(parts[1::2], parts[2::2], strict=True):
        sections.append(_section(announced, body))
    return tuple(sections)


def _resumption(announced: str) -> tuple[int, str, bool]:
    """Return the number, conntrack state and whether that is the default of a recirculation."""
    resumed = _RESUME.match(announced)
    if resumed is None:
        raise OfprotoSyntaxError(f"expected a recirculation, got {announced[:200]!r}")
    return int(resumed[1], 16), resumed[3] or "", bool(resumed[2])


def _section(announced: str, body: str) -> Section:
    recirculation, state, default = _resumption(announced) if announced else (0, "", False)
    head, has_flow, tail = body.partition("\nFinal flow: ")
    flow, _, tree = head.strip("\n").partition("\n")
    _, _, rest = tail.partition("\nMegaflow: ")
    megaflow, has_actions, rest = rest.partition("\nDatapath actions: ")
    if not flow.startswith("Flow: ") or not has_flow or not has_actions:
        raise OfprotoSyntaxError(f"expected a trace from `Flow:` on, got {body.strip()[:200]!r}")
    failed = _FAILED.search(rest)
    return Section(
        recirculation=recirculation,
        state=state,
        default=default,
        flow=flow.removeprefix("Flow: "),
        steps=tuple(_step(line) for line in tree.split("\n") if line and not _underlines(line)),
        megaflow=megaflow,
        actions=rest.partition("\n")[0],
        failed=failed[1] if failed else "",
    )


def _underlines(line: str) -> bool:
    """Say whether a line is the dashes below a bridge's name."""
    return line[-1] == "-" and not line.strip(" -")


def _step(line: str) -> Step:
    bare = line.lstrip(" ")
    level = (len(line) - len(bare)) // _INDENT
    first = bare[:1]  # nothing, of a line of blanks
    if first.isdigit():
        if matched := _TABLE.match(line):
            number, match, priority, cookie = matched.groups()
            return Table(level, int(number), match or "", int(priority), int(cookie or "0", 16))
        if matched := _MISS.match(line):
            return Table(level, int(matched[1]), "", -1, 0)
    if first not in _MARKS:
        return Action(level, bare)
    if bare.startswith("-> "):
        return Detail(level, bare[3:])
    if bare.startswith(">>>> "):
        return Failure(level, bare[5:].removesuffix(" <<<<"))
    if matched := _BRIDGE.match(line):
        return Bridge(level, matched[1])
    return Action(level, bare)
