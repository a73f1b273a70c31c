"""What `ovn-trace --detailed` prints → a tree. Pure, strict, line by line.

The text is a tree with its tail recursion flattened (ovn-trace(8), "Detailed Output"): a node
that is the last of its list is printed at its parent's own level, any other is indented. So at
level L a block reads

    ingress(dp="ls1", inport="lp1")            title, level L; a line of dashes follows
    -------------------------------
     0. ls_in_check_port_sec (northd.c:1): 1, priority 50, uuid 5ed04908      table, level L
        next;                                                              action, level L + 1
     9. ls_in_lb: …                                                        and on, level L
        arp { … output; };                     action, level L + 1

        arp                                    title, level L + 1: a fork, its block is at L + 2
        ---
                output;
        output;                                the block of level L goes on

where a level is four spaces. Stages are told by name: their numbers move between versions.
Versions 22.03 to 26.03 print this form; anything else is a TraceSyntaxError, never a guess. That
holds for titles too: whether a branch is the packet's own depends on what made it.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_INDENT = 4
_DEEPEST = 300
"""Levels of branches in branches; real traces have a dozen."""
_TABLE = re.compile(
    r"(?P<number>\d+)\. "
    # Every northd since 22.03 names its stages; only a table without any logical flow has none.
    r"(?:(?:(?P<empty>[a-z][a-z0-9_]*): )?no match \(implicit drop\)"
    r"|(?P<stage>[a-z][a-z0-9_]*)(?: \([^)]*\))?: "
    r"(?P<match>.*), priority (?P<priority>\d+), uuid (?P<uuid>[0-9a-f]{8}))"
)
_TITLE = re.compile(
    r"(?:ingress|egress|multicast)\(dp=.*\)"
    r"|(?:ct_next\(ct_state=.*\)|ct_lb(?:_mark(?:_local)?)?|ct_[ds]nat(?:_?in_czone)?(?:\(ip[46]\..*\))?"
    r"|ct_commit_nat|ct_commit_to_zone\([ds]nat\)|select: .*)(?: /\*.*\*/)*"
    r"|clone|mirror|arp|nd_n[as]|icmp[46]|tcp_reset|sctp_abort|LOG: .*"
)
"""What ovn-trace.c prints a line of dashes under."""
_COMMENT = re.compile(r"/\*.*\*/|\*\*\* .*")
"""What is output is a comment, complaints begin with stars; all else ends in a semicolon."""


class TraceSyntaxError(ValueError):
    """A line this parser does not know, with its number and what was expected."""

    def __init__(self, line_number: int, line: str, expected: str) -> None:
        shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
        super().__init__(f"line {line_number}: expected {expected}, got {shown!r}")
        self.line_number = line_number


_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Title:
    """A pipeline or a transformation: `ingress(dp="sw0", inport="p1")`, `ct_lb_mark`, `arp`."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A logical flow that matched; without `uuid` none did, which drops the packet."""

    stage: str
    match: str
    priority: int
    uuid: str


@dataclass(frozen=True, slots=True)
class Action:
    """An action, an output or a complaint of the tracer, as printed."""

    text: str


@dataclass(frozen=True, slots=True)
class Fork:
    """A branch: its block runs, then the block it stands in goes on."""

    block: "Block"


@dataclass(slots=True)
class Block:
    """Steps in the order they were executed."""

    steps: "list[Step]" = field(default_factory=list)


Step = Title | Table | Action | Fork


class _Line(NamedTuple):
    number: int
    level: int
    step: Title | Table | Action


def parse(text: str) -> Block:
    """Parse one trace. TraceSyntaxError on any line out of place, or when there is no table."""
    lines = _lines(text)
    if not lines or not isinstance(lines[0].step, Title):
        first = next((line for line in text.splitlines() if line.strip()), "")
        raise TraceSyntaxError(1, first, "a trace that begins with a pipeline")
    block, end = _block(lines, 0, 0)
    if end != len(lines):
        line = lines[end]
        raise TraceSyntaxError(line.number, _shown(line.step), "a line of the outermost pipeline")
    if not any(isinstance(step, Table) for step in block.steps):
        raise TraceSyntaxError(lines[-1].number, _shown(lines[-1].step), "a logical flow")
    return block


def _shown(step: Title | Table | Action) -> str:
    return step.match if isinstance(step, Table) else step.text


def _lines(text: str) -> list[_Line]:
    """Split into meaningful lines; a line followed by dashes is a title."""
    raw = text.split("\n")  # str.splitlines() would split inside names, at U+2028 for one
    lines: list[_Line] = []
    underline = ""
    for index, line in enumerate(raw):
        if underline:
            underline = ""
            continue
        if not line.strip(" ") or (line.startswith("# ") and not lines):
            continue
        following = raw[index + 1] if index + 1 < len(raw) else ""
        if following.endswith("-") and following == _dashes(line):
            underline = following
        recognised = _recognised(line, titled=bool(underline))
        if recognised is None:
            raise TraceSyntaxError(index + 1, line, "a logical flow, an action or a known title")
        lines.append(_Line(index + 1, *recognised))
    return lines


def _dashes(title: str) -> str:
    """Return the line below a title: ovn-trace counts its bytes, not its characters."""
    body = title.lstrip(" ")
    return " " * (len(title) - len(body)) + "-" * len(body.encode(errors="surrogatepass"))


@functools.lru_cache(maxsize=1 << 16)
def _recognised(line: str, *, titled: bool) -> tuple[int, Title | Table | Action] | None:
    """Return a line's level and what it is; None when it is nothing ovn-trace prints there.

    Cached: the traces of a zone share nearly all of their lines.
    """
    body = line.lstrip(" ")
    indent = len(line) - len(body)
    step = _step(body, indent, titled=titled)
    return None if step is None else (indent // _INDENT, step)


def _step(body: str, indent: int, *, titled: bool) -> Title | Table | Action | None:
    """Recognise one line; None when it is nothing ovn-trace prints at that place."""
    if titled:
        return Title(body) if _TITLE.fullmatch(body) and indent % _INDENT == 0 else None
    if body[0].isdigit():
        # Table numbers are right-aligned in two columns.
        aligned = indent % _INDENT == (1 if body[1:2] == "." else 0)
        return _table(body) if aligned else None
    if indent % _INDENT == 0 and (body.endswith(";") or _COMMENT.fullmatch(body)):
        return Action(body)
    return None


def _table(body: str) -> Table | None:
    """Parse `9. stage (source): match, priority 1, uuid 0123abcd`, or return None."""
    matched = _TABLE.fullmatch(body)
    if matched is None:
        return None
    return Table(
        stage=matched["stage"] or matched["empty"] or "",
        match=matched["match"] or "",
        priority=int(matched["priority"] or -1),
        uuid=matched["uuid"] or "",
    )


def _block(lines: Sequence[_Line], start: int, level: int) -> tuple[Block, int]:
    """Parse a block of `level` from line `start`; return it and the first line after it."""
    if level > _DEEPEST:
        raise TraceSyntaxError(lines[start - 1].number, "", f"at most {_DEEPEST} levels")
    block = Block()
    index = start
    while index < len(lines):
        line = lines[index]
        branches = not isinstance(line.step, Action)
        if line.level == (level if branches else level + 1):
            block.steps.append(line.step)
            index += 1
        elif branches and line.level == level + 1:
            inner, after = _block(lines, index + 1, level + 2)
            inner.steps.insert(0, line.step)
            block.steps.append(Fork(inner))
            index = after
        elif line.level <= level:
            break
        else:
            raise TraceSyntaxError(line.number, _shown(line.step), f"a line of level {level}")
    return block, index
