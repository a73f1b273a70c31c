"""What ovn-trace prints → a tree: strict, and the same tree that was printed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.trace import tree
from audit.trace.tree import Action, Block, Fork, Table, Title, TraceSyntaxError

GOLDEN = Path(__file__).resolve().parent / "golden"

SMALL = """\
# tcp,reg14=0x1,dl_src=0a:00:00:00:00:01

ingress(dp="sw", inport="p1")
-----------------------------
 0. ls_in_check_port_sec (northd.c:5752): 1, priority 50, uuid 5ed04908
    reg0[15] = check_in_port_sec();
    next;
28. ls_in_l2_lkup (northd.c:10246): eth.dst == 0a:00:00:00:00:02, priority 50, uuid b3ec2517
    outport = "p2";
    output;

egress(dp="sw", inport="p1", outport="p2")
------------------------------------------
12. ls_out_apply_port_sec (northd.c:5843): 1, priority 0, uuid a045541f
    output;
    /* output to "p2", type "" */
"""


@dataclass
class Node:
    """A node of ovn-trace's own tree; titles and tables have `subs`."""

    kind: type[Title | Table | Action]
    text: str
    subs: "list[Node]" = field(default_factory=list)
    always_indent: bool = False


def _printed(nodes: list[Node], level: int = 0) -> Iterator[str]:
    """Print as `ovn-trace --detailed` does: who is last in a list is not indented."""
    for node in nodes:
        more = node.kind is Action or node is not nodes[-1] or node.always_indent
        indent = " " * 4 * (level + more)
        if node.kind is Title:
            yield from ("", f"{indent}{node.text}", f"{indent}{'-' * len(node.text.encode())}")
        else:
            yield f"{indent}{node.text}"
        yield from _printed(node.subs, level + 2 * more)


def _expected(nodes: list[Node]) -> list[tree.Step]:
    """Say which steps the nodes are."""
    steps: list[tree.Step] = []
    for node in nodes:
        if node.kind is Action:
            steps.append(Action(node.text))
            continue
        inner = [_step(node), *_expected(node.subs)]
        if node is nodes[-1] and not node.always_indent:
            steps += inner
        else:
            steps.append(Fork(Block(inner)))
    return steps


def _step(node: Node) -> tree.Step:
    if node.kind is Title:
        return Title(node.text)
    uuid = node.text[-8:]
    return Table(stage="ls_in_lb", match=node.text[14:-27], priority=1, uuid=uuid)


_titles = st.sampled_from(
    [
        'egress(dp="sw", inport="p1", outport="p2")',
        'egress(dp="sw", outport="ü-\u2028-é")',
        'multicast(dp="sw", mcgroup="_MC_unknown")',
        "ct_next(ct_state=new|trk)",
        "ct_next(ct_state=est|trk /* default (use --ct to customize) */)",
        "ct_lb_mark",
        "ct_lb /* default (use --ct to customize) */",
        "ct_dnat /* assuming no un-dnat entry, so no change */",
        "ct_snat(ip4.src=203.0.113.1)",
        "ct_snatin_czone(ip6.src=fd00::1)",
        "ct_commit_nat /* assuming no un-nat entry, so no change */",
        "ct_commit_to_zone(dnat)",
        "select: reg8[16..31] = 1 /* Randomly selected. Use --select-id to specify. */",
        *("clone", "arp", "nd_na", "nd_ns", "icmp4", "icmp6", "tcp_reset", "sctp_abort", "mirror"),
        'LOG: ACL name=a b, direction=IN, verdict=drop, severity=info, packet="tcp,in_port=0"',
    ]
)
_actions = st.sampled_from(
    [
        "next;",
        "output;",
        "drop;",
        'log(name="a; b", severity=info);',
        "ct_commit { ct_mark.blocked = 1; };",
        '/* output to "p2", type "" */',
        "/* No MAC binding. */",
        "*** output to null logical port",
    ]
)
_tables = st.builds(
    lambda number, match, uuid: (
        f"{number:2}. ls_in_lb: {match}, priority 1, uuid {uuid:08x}".lstrip(" ")
    ),
    st.integers(10, 40),
    st.sampled_from(["1", 'inport == "p1"', "ip4, priority 7, uuid 0", "tcp.dst == {1, 2}"]),
    st.integers(0, 0xFFFFFFFF),
)


def _nodes(subs: st.SearchStrategy[list[Node]]) -> st.SearchStrategy[list[Node]]:
    branch = st.builds(Node, st.just(Title), _titles, subs, st.booleans()) | st.builds(
        Node, st.just(Table), _tables, subs, st.booleans()
    )
    return st.lists(st.builds(Node, st.just(Action), _actions) | branch, max_size=4)


_trees: st.SearchStrategy[list[Node]] = st.recursive(st.just([]), _nodes, max_leaves=12)


def _root(subs: list[Node]) -> list[Node]:
    table = Node(Table, "10. ls_in_lb: 1, priority 1, uuid 5ed04908", subs)
    return [Node(Title, 'ingress(dp="sw", inport="p1")', [table])]


@settings(deadline=None)  # a busy machine is no failure
@given(_trees)
def test_what_is_printed_is_read_back(subs: list[Node]) -> None:
    nodes = _root(subs)
    assert tree.parse("\n".join(_printed(nodes))).steps == _expected(nodes)


@settings(deadline=None)  # a busy machine is no failure
@given(_trees, st.data())
def test_a_garbled_line_is_named(subs: list[Node], data: st.DataObject) -> None:
    lines = ["# tcp", *_printed(_root(subs))]
    where = data.draw(st.integers(0, len(lines)))
    garbage = data.draw(
        st.sampled_from(
            ["garbage", "    next", "  next;", "next:", "9. ls", " 10. ls_in_lb: 1", "}", "# tcp"]
        )
    )
    if garbage == "# tcp" and where <= 2:
        return  # a header may have several lines
    garbled = [*lines[:where], garbage, *lines[where:]]
    with pytest.raises(TraceSyntaxError) as caught:
        tree.parse("\n".join(garbled))
    # Between a title and its dashes, the title is the first line that makes no sense.
    assert caught.value.line_number in {where, where + 1}
    assert f"line {caught.value.line_number}: " in str(caught.value)


def test_a_small_trace() -> None:
    block = tree.parse(SMALL)
    assert block.steps == [
        Title('ingress(dp="sw", inport="p1")'),
        Table(stage="ls_in_check_port_sec", match="1", priority=50, uuid="5ed04908"),
        Action("reg0[15] = check_in_port_sec();"),
        Action("next;"),
        Table(
            stage="ls_in_l2_lkup",
            match="eth.dst == 0a:00:00:00:00:02",
            priority=50,
            uuid="b3ec2517",
        ),
        Action('outport = "p2";'),
        Action("output;"),
        Title('egress(dp="sw", inport="p1", outport="p2")'),
        Table(stage="ls_out_apply_port_sec", match="1", priority=0, uuid="a045541f"),
        Action("output;"),
        Action('/* output to "p2", type "" */'),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (" 9. ls_in_lb (northd.c:1): ip, priority 2, uuid 0123abcd", ("ls_in_lb", "ip", 2)),
        (" 9. ls_in_lb: ip, priority 2, uuid 0123abcd", ("ls_in_lb", "ip", 2)),
        ("29. ls_in_acl: a, priority 1, uuid x, priority 2, uuid 0123abcd", None),
        (" 9. no match (implicit drop)", ("", "", -1)),
        (" 9. ls_in_lb: no match (implicit drop)", ("ls_in_lb", "", -1)),
    ],
)
def test_the_forms_of_a_logical_flow(line: str, expected: tuple[str, str, int] | None) -> None:
    text = f'ingress(dp="sw", inport="p1")\n{"-" * 29}\n{line}\n'
    table = tree.parse(text).steps[1]
    assert isinstance(table, Table)
    wanted = expected or ("ls_in_acl", "a, priority 1, uuid x", 2)
    assert (table.stage, table.match, table.priority) == wanted


@pytest.mark.parametrize(
    ("old", "new", "number"),
    [
        ("12. ls_out", "12: ls_out", 14),
        ("    outport", "   outport", 9),
        ("    outport", "        outport", 9),
        ("    output;\n    /*", "output;\n    /*", 15),
        (" 0. ls_in", "0. ls_in", 5),
        ("28. ls_in", " 28. ls_in", 8),
        ("uuid b3ec2517", "uuid b3ec251", 8),
        ("egress(", "regress(", 12),
        ("egress(", "ogress(", 12),
        ("-" * 42, "-" * 41, 12),
        ("-" * 42 + "\n", "", 12),
        ('    /* output to "p2", type "" */', '    /* output to "p2", type ""', 16),
        ("    next;\n", "    next;\n\x00\n", 8),
    ],
)
def test_a_line_out_of_place_is_named(old: str, new: str, number: int) -> None:
    with pytest.raises(TraceSyntaxError) as caught:
        tree.parse(SMALL.replace(old, new, 1))
    assert caught.value.line_number == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        'unknown port "nope"\n',
        "error parsing flow: Syntax error at `&&'.\n",
        "microflow does not specify ingress port",
        "# tcp\n",
        f'ingress(dp="sw", inport="p1")\n{"-" * 29}\n',
        " 0. ls_in_lb: 1, priority 1, uuid 5ed04908\n",
    ],
)
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(TraceSyntaxError):
        tree.parse(text)


def test_titles_are_underlined_by_bytes() -> None:
    text = SMALL.replace('outport="p2"', 'outport="pé"').replace("-" * 42, "-" * 43)
    assert Title('egress(dp="sw", inport="p1", outport="pé")') in tree.parse(text).steps


def test_branches_without_end_are_refused_and_not_a_crash() -> None:
    lines = list(_printed(_root([])))
    for level in range(1, 2000, 2):
        indent = " " * 4 * level
        lines += [f"{indent}clone", f"{indent}-----"]
    with pytest.raises(TraceSyntaxError, match="levels"):
        tree.parse("\n".join(lines))


def test_every_real_trace_is_read() -> None:
    traces = sorted(GOLDEN.glob("*/*/trace.txt"))
    assert traces
    for path in traces:
        assert tree.parse(path.read_text()).steps
