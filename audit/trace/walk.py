"""A trace's tree → what happened to the packet on the branch that is the packet's own. Pure.

Branches in which the pipeline makes a packet of its own (a TCP reset, an ARP request, an ICMP
error, a mirrored copy) deliver that packet, not the one traced: what they output is never
success. A blocked packet need not print `drop;`, so nothing here looks for the word alone: a
packet is output, or it is not, and then the last logical flow says where it ended.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from audit.model.blindness import Spot
from audit.model.traces import AclMatch, Hop, HopEnd, Unseen
from audit.trace import blindness
from audit.trace.tree import Action, Block, Fork, Step, Table, Title

REJECTS = frozenset({"tcp_reset", "sctp_abort", "icmp4", "icmp6"})
"""Titles of branches whose packet OVN made to tell the sender no (ovn-trace.c, execute_*)."""

QUESTIONS = frozenset({"arp", "nd_ns"})
"""Titles of branches in which a router asks for its next hop's MAC; the packet waits."""

GENERATED = REJECTS | QUESTIONS | {"nd_na", "mirror"}
"""Titles of all branches whose packet is not the one traced."""

ACL_STAGE = re.compile(
    r"(?:ls_in_acl|ls_in_acl_after_lb|ls_out_acl)(?P<part>_eval|_sample|_action)?"
)
"""Up to OVN 23.03 one stage per direction; since 23.06 split in `_eval` and `_action`, since 24.09
with `_sample` between (northd.h)."""
_VERDICTS = {"reg8[16] = 1;": "allow", "reg8[17] = 1;": "drop", "reg8[18] = 1;": "reject"}
"""How `*_eval` stages record a verdict (OVN 23.06 and later, northd.c)."""
_LOWEST_ACL_PRIORITY = 1000
"""ACLs' priorities are raised by this much; the logical flows below are a switch's defaults."""

_PIPELINE = re.compile(
    r'(?:ingress|egress|multicast)\(dp="(?P<dp>[^"]*)"'
    r'(?:, inport="(?P<in>[^"]*)")?(?:, outport="(?P<out>[^"]*)")?'
)
_OUTPUT = re.compile(r'/\* output to "(?P<port>.*)", type "(?P<type>[a-z0-9]*)" \*/')
_BACKENDS = re.compile(r"ct_lb(?:_mark(?:_local)?)?\(backends=(?P<list>[^;)]*)")
_PORT_OF_BACKEND = re.compile(r'"(?:[^"\\]|\\.)*":')
"""What `ct_lb_mark_local` writes before each backend."""
_SELECT = re.compile(r"= select\((?:values=\()?(?P<list>[^)]*)\)")
_NAT = re.compile(r"ct_[sd]nat(?:_?in_czone)?\(ip[46]\.(?P<side>src|dst)=(?P<ip>[0-9a-fA-F.:]+)\)")
_DEFAULT_STATE = re.compile(r"^ *ct_.*/\* default \(use --ct to customize\) \*/", re.MULTILINE)
_CONNTRACK_TITLE = re.compile(r"^ *ct_.*(?<!;)$", re.MULTILINE)
_TAKES_A_STATE = re.compile(r"^ *ct_(?:next(?:\(\w+\))?|lb(?:_mark(?:_local)?)?);$", re.MULTILINE)
_BLOCKED = re.compile(r"ct_commit ?\{.*\bct_(?:mark|label)\.blocked = 1\b")
_NOTES = ("log(", "sample(")
"""Actions that northd writes before a drop it does not spell out; ovn-trace then prints no other.

`sample` is OVN's `debug_drop_domain_id`."""


def ran_out_of_states(output: str) -> bool:
    """Say whether the engine fell back to its own idea of a conntrack state.

    The daemon's `--ct` values are consumed one per conntrack step and never reset; past the last
    it assumes `est` and only this comment tells.
    """
    return "/* default (use --ct" in output and _DEFAULT_STATE.search(output) is not None


def states_taken(output: str) -> tuple[int, int]:
    """Return how many conntrack states a trace took, at least and at most.

    Only `ct_next` says which state it was given. The titles counted are all that tell when there
    was none left: a translation takes one too where the packet was not tracked before.
    """
    least = _TAKES_A_STATE.search(output) is not None
    return int(least), len(_CONNTRACK_TITLE.findall(output))


@dataclass(slots=True)
class _Path:
    """What has happened so far on one branch."""

    datapath: str = ""
    entered: str = ""
    outport: str = ""
    stage: str = ""
    logical_flow: str = ""
    priority: int = -1
    text: str = ""
    implicit_drop: bool = False
    acls: tuple[AclMatch, ...] = ()
    passes: tuple[AclMatch, ...] = ()
    ip_src: str = ""
    ip_dst: str = ""
    waiting: Hop | None = None
    unseen: tuple[Unseen, ...] = ()
    registers: int = 0
    """Bits of registers that this pipeline wrote and that are not zero, or not known to be."""
    stale: int = 0
    """Such bits of the pipeline before, on another datapath: a node clears them between."""
    crossed: Hop | None = None
    """The end at the patch port by which this datapath was entered, if there are such bits."""
    rewritten: bool = False
    """Headers that a hop does not tell are not as they were when the packet was sent."""
    classed: Unseen | None = None
    """The packet was given a service class (`ip.dscp`), which ovn-trace cannot be told of one."""

    def end(self, end: HopEnd, **fields: object) -> Hop:
        """Return the hop that ends here."""
        return replace(
            Hop(
                end=end,
                datapath=self.datapath,
                entered=self.entered,
                outport=self.outport,
                acls=self.acls,
                passes=self.passes,
                stage=self.stage,
                logical_flow=self.logical_flow,
                text=self.text,
                ip_src=self.ip_src,
                ip_dst=self.ip_dst,
                unseen=self.unseen,
            ),
            **fields,  # type: ignore[arg-type]  # fields of Hop, named by the callers below
        )

    def miss(self, spot: Spot, what: str) -> None:
        """Take note of what the engine passes over here."""
        self.unseen += (
            Unseen(spot=str(spot), what=what, datapath=self.datapath, stage=self.stage),
        )


@dataclass(slots=True)
class _Walk:
    """How far to read (`TraceTask`), and the ends of the packet's own branches."""

    through_balancer: bool
    through_select: bool
    ends: list[Hop] = field(default_factory=list)


def read(block: Block, *, target: str, select: int = 0, draws: int = 0) -> Hop:
    """Return how the packet ended: at `target` if any branch of its own reaches it."""
    walk = _Walk(through_balancer=draws > 0, through_select=select > 0)
    _follow(block, _Path(), walk)
    return _decide(walk, target)


def _decide(walk: _Walk, target: str) -> Hop:
    """Choose among the ends of the packet's own branches."""
    ends: dict[HopEnd, list[Hop]] = defaultdict(list)
    outputs: dict[str, Hop] = {}
    for hop in walk.ends:
        ends[hop.end].append(hop)
        if hop.end in (HopEnd.OUTPUT, HopEnd.PATCHED):
            outputs.setdefault(hop.port, hop)
    if target and target in outputs:
        return outputs[target]
    if chosen := ends[HopEnd.BALANCED] or ends[HopEnd.SELECTED]:
        return chosen[0]
    if outputs:
        first, *others = outputs.values()
        reached = ", ".join(sorted(outputs))
        spread = replace(first, end=HopEnd.SPREAD, port="", port_type="", text=reached)
        return spread if others else first
    return (ends[HopEnd.REJECTED] or ends[HopEnd.DROPPED] or walk.ends)[-1]


def _follow(block: Block, path: _Path, walk: _Walk) -> None:
    """Walk one block; the path it is given is consumed.

    Afterwards there is an end at least, unless the block has no logical flow and outputs nothing,
    which is a note (`LOG: …`).
    """
    flows = False
    ended = False
    for index, step in enumerate(block.steps):
        match step:
            case Title(text) if _generates(path, text):
                # What follows in this block happens to the packet that OVN made.
                ended = _generate(text, block.steps[index + 1 :], path, walk)
                break
            case Title(text):
                _enter(path, text)
            case Table():
                flows = True
                ended = False
                _match(path, step)
                if path.crossed is not None and path.stale & blindness.reads(step.match):
                    walk.ends.append(_settled(path, path.crossed))
                    return
            case Fork(inner):
                ended = _branch(inner, path, walk)
            case Action(text):
                ended = False
                end = _act(path, text, walk)
                if end is not None:
                    walk.ends.append(_settled(path, end))
                    return
    # Where the last thing was a branch that ended, the packet went there: nothing is left here.
    if flows and not ended:
        walk.ends.append(_settled(path, _stop(path)))


def _settled(path: _Path, end: Hop) -> Hop:
    """Return how a packet ended, given that it may have had to wait for its next hop's MAC.

    From OVN 23.06 on a trace goes on behind the router's question, with a destination MAC of
    zeros. Where that leads is no packet's way, but that it leaves by a gateway is known.
    """
    if path.waiting is None or end.port_type == "localnet":
        return end
    return path.waiting


def _branch(inner: Block, path: _Path, walk: _Walk) -> bool:
    """Walk a branch that forks off; say whether the packet itself ended in it."""
    first, *rest = inner.steps
    if isinstance(first, Title) and _generates(path, first.text):
        return _generate(first.text, rest, path, walk)
    before = len(walk.ends)
    _follow(inner, replace(path), walk)
    return len(walk.ends) > before


def _generates(path: _Path, title: str) -> bool:
    """Say whether a branch is of a packet that OVN makes.

    OVN 25.09 and later copies what is mirrored to another port under the title `clone`.
    """
    return title in GENERATED or (title == "clone" and path.text.startswith("mirror("))


def _generate(title: str, steps: Sequence[Step], path: _Path, walk: _Walk) -> bool:
    """Take note of a packet OVN makes in `steps`; say whether ours ends by that."""
    if title in QUESTIONS:
        physical = next((at for at in _destinations(steps) if at[1] == "localnet"), None)
        port, port_type = physical or next(_destinations(steps), ("", ""))
        path.waiting = path.end(HopEnd.RESOLVING, port=port, port_type=port_type)
    if title in REJECTS:
        walk.ends.append(path.end(HopEnd.REJECTED))
    return title in REJECTS


def _destinations(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    """Yield where a question goes: first the router's own port, then all ports it is output to."""
    for step in steps:
        match step:
            case Title(text) if (matched := _PIPELINE.match(text)) and matched["out"]:
                yield matched["out"], ""
            case Action(text) if isinstance(leads := _leads(text), _Output):
                yield leads.port, leads.type
            case Fork(inner):
                yield from _destinations(inner.steps)
            case _:
                pass


def _stop(path: _Path) -> Hop:
    """Return the hop of a packet that was not output: a drop, spelled out or not, or neither."""
    if not _is_drop(path):
        return path.end(HopEnd.ENDED)
    if _is_own_verdict(path):
        path.acls = (*path.acls[:-1], replace(path.acls[-1], action="drop"))
    return path.end(HopEnd.DROPPED)


def _is_drop(path: _Path) -> bool:
    """Say whether the path ended by a drop.

    A trace that merely stops, after `next;` say, is none.
    """
    if path.implicit_drop or path.text == "drop;" or path.text.startswith("sample("):
        return True
    acl = ACL_STAGE.fullmatch(path.stage)
    if acl is None:
        return False
    if acl["part"] is None:
        return path.text.startswith(_NOTES) or _BLOCKED.match(path.text) is not None
    if acl["part"] != "_action":
        return False
    # The actions of a drop are those of an allow without `next;`, all of them registers' resets.
    return path.text.startswith(("reg", *_NOTES)) or _BLOCKED.match(path.text) is not None


def _is_own_verdict(path: _Path) -> bool:
    """Say whether the last ACL verdict is that of the logical flow itself (OVN ≤ 23.03)."""
    return (
        bool(path.acls)
        and path.acls[-1].logical_flow == path.logical_flow
        and path.acls[-1].stage == path.stage
        and not path.stage.endswith("_eval")
    )


def _enter(path: _Path, text: str) -> None:
    """Take note of a pipeline or a NAT."""
    if matched := _PIPELINE.match(text):
        if text.startswith("ingress"):
            if matched["dp"] != path.datapath:  # by a patch port, or first of all
                path.stale, path.registers = path.registers, 0
        else:
            path.stale, path.registers, path.crossed = 0, 0, None
        path.datapath = matched["dp"]
        path.outport = matched["out"] or ""
        if matched["in"] is not None:
            path.entered = matched["in"]
    elif matched := _NAT.match(text):
        if matched["side"] == "src":
            path.ip_src = matched["ip"]
        else:
            path.ip_dst = matched["ip"]


def _match(path: _Path, table: Table) -> None:
    """Take note of the logical flow that matched."""
    path.stage = table.stage
    path.logical_flow = table.uuid
    path.priority = table.priority
    path.text = ""
    path.implicit_drop = not table.uuid
    for port in blindness.residents(table.match):
        path.miss(Spot.RESIDENCE, port)
    # Up to 23.03 the flow's own actions are the verdict; a later action overrides this.
    acl = ACL_STAGE.fullmatch(table.stage)
    if acl is None or table.priority < _LOWEST_ACL_PRIORITY:
        return
    if acl["part"] is None:
        path.acls += (_acl(path, "allow"),)
    elif acl["part"] == "_eval":
        path.passes += (_acl(path, "pass"),)  # until an action says otherwise


def _acl(path: _Path, action: str) -> AclMatch:
    return AclMatch(
        stage=path.stage,
        datapath=path.datapath,
        action=action,
        logical_flow=path.logical_flow,
        priority=path.priority,
        inport=path.entered,
        outport=path.outport,
    )


def _act(path: _Path, text: str, walk: _Walk) -> Hop | None:
    """Take note of an action; return the hop if it ends here."""
    path.text = text
    _look(path, text)
    _decided(path, text)
    match _leads(text):
        case _Output(port, kind) if kind not in _PATCHES:
            hop = path.end(HopEnd.OUTPUT, port=port, port_type=kind)
            return _gone_on_without_class(path, hop) if kind == "remote" else hop
        case _Output(port):
            return _patched(path, port)
        case _Balancer(backends) if not walk.through_balancer:
            return path.end(HopEnd.BALANCED, backends=backends)
        case _Choice(members) if not walk.through_select:
            return path.end(HopEnd.SELECTED, choices=members)
        case _:
            return None


class _Output(NamedTuple):
    port: str
    type: str


class _Balancer(NamedTuple):
    backends: tuple[str, ...]


class _Choice(NamedTuple):
    members: tuple[int, ...]


@functools.lru_cache(maxsize=1 << 15)
def _leads(text: str) -> _Output | _Balancer | _Choice | None:
    """Return where an action that was printed leads; None where the packet goes on by itself.

    Cached: the traces of a zone share nearly all of their actions.
    """
    if matched := _OUTPUT.fullmatch(text):
        return _Output(matched["port"], matched["type"])
    if matched := _BACKENDS.match(_PORT_OF_BACKEND.sub("", text)):
        return _Balancer(tuple(_split(matched["list"])))
    if matched := _SELECT.search(text):
        members = [member.partition("=")[0] for member in _split(matched["list"])]
        if all(map(str.isdecimal, members)):  # else the trace ends here, undecided
            return _Choice(tuple(map(int, members)))
    return None


def _decided(path: _Path, text: str) -> None:
    """Take note of an action that is the verdict of the ACL that matched."""
    if text in _VERDICTS and path.stage.endswith("_eval"):
        path.acls += (_acl(path, _VERDICTS[text]),)
        path.passes = path.passes[:-1]
    elif text.startswith("reject") and _is_own_verdict(path):
        path.acls = (*path.acls[:-1], replace(path.acls[-1], action="reject"))


def _look(path: _Path, text: str) -> None:
    """Take note of what an action does to registers and headers, and what of it is not done."""
    effect = blindness.effect(text)
    if effect is None:
        return
    path.registers = path.registers & ~effect.zeroed | effect.set
    path.stale &= ~(effect.zeroed | effect.set)
    if _CLASSES.fullmatch(text):
        path.classed = Unseen(
            spot=str(Spot.SERVICE_CLASS), what="ip.dscp", datapath=path.datapath, stage=path.stage
        )
    elif _REWRITES.match(text) or _BACKENDS.match(text):
        path.rewritten = True
    if effect.spot is not None and (not effect.left or effect.left & (path.registers | path.stale)):
        path.miss(effect.spot, effect.name)


def _patched(path: _Path, port: str) -> Hop | None:
    """Return the end of a packet at a patch port where the engine cannot go on as a node does.

    A node clears all registers there (ovn-controller's physical.c), and ovn-trace keeps them. What
    is left of them matters where the next datapath looks at it: then the packet has to be traced
    anew from there, with headers that are known.
    """
    path.crossed = None
    if not path.registers:
        return None
    here = path.end(HopEnd.PATCHED, port=port, port_type="patch")
    if path.rewritten:
        unseen = Unseen(
            spot=str(Spot.REGISTERS), what="registers", datapath=path.datapath, stage=path.stage
        )
        here = replace(here, unseen=(*here.unseen, unseen))
    here = _gone_on_without_class(path, here)
    path.crossed = here
    return here if path.registers & blindness.ROUTERS_FLAGS else None


def _gone_on_without_class(path: _Path, hop: Hop) -> Hop:
    """Return an end behind which the packet is traced anew, and its service class is not told."""
    return hop if path.classed is None else replace(hop, unseen=(*hop.unseen, path.classed))


_CLASSES = re.compile(r"ip\.dscp = \d+;")
_REWRITES = re.compile(
    r"(?:eth|ip|ip4|ip6|tcp|udp|sctp|icmp4|icmp6|arp|vlan)[.\w]*(?:\[[\d.]+\])? (?:=|<->) "
    r"|ip\.ttl--"
)
_PATCHES = frozenset({"patch", "l3gateway"})
"""Port types with a peer: the trace goes on at the other side."""


def _split(listed: str) -> Iterator[str]:
    """Split `a,b` or `1=100, 2=100`."""
    return (item.strip() for item in listed.split(",") if item.strip())
