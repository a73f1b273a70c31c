"""A trace's tree → what happened to the packet: by example, and whatever is cut off."""

import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.model.traces import Hop, HopEnd
from audit.trace import tree, walk

DROP_WITHOUT_THE_WORD = "ct_commit { ct_mark.blocked = 1; };"


def _title(text: str, level: int = 0) -> list[str]:
    indent = " " * 4 * level
    return ["", f"{indent}{text}", f"{indent}{'-' * len(text)}"]


def _flow(
    stage: str, *actions: str, level: int = 0, priority: int = 2001, uuid: str = ""
) -> list[str]:
    indent = " " * 4 * level
    number = uuid or f"{zlib.crc32(repr((stage, actions)).encode()):08x}"
    flow = f"{indent}10. {stage} (northd.c:1): ip, priority {priority}, uuid {number}"
    return [flow, *(f"{indent}    {action}" for action in actions)]


def _ingress(level: int = 0, port: str = "p1") -> list[str]:
    return _title(f'ingress(dp="sw", inport="{port}")', level)


def _egress(port: str = "p2", level: int = 0) -> list[str]:
    return _title(f'egress(dp="sw", inport="p1", outport="{port}")', level)


def _output(port: str = "p2", port_type: str = "", level: int = 0) -> list[str]:
    said = f'/* output to "{port}", type "{port_type}" */'
    return _flow("ls_out_apply_port_sec", "output;", said, level=level)


def _read(*parts: Sequence[str], target: str = "p2", select: int = 0, draws: int = 0) -> Hop:
    text = "\n".join(line for part in parts for line in part)
    return walk.read(tree.parse(text), target=target, select=select, draws=draws)


def _acls(hop: Hop) -> list[tuple[str, str]]:
    return [(acl.stage, acl.action) for acl in hop.acls]


def test_output_to_the_target() -> None:
    hop = _read(
        _ingress(), _flow("ls_in_l2_lkup", 'outport = "p2";', "output;"), _egress(), _output()
    )
    assert (hop.end, hop.port, hop.entered, hop.outport) == (HopEnd.OUTPUT, "p2", "p1", "p2")


def test_no_match_is_a_drop() -> None:
    hop = _read(_ingress(), [" 3. ls_in_pre_acl: no match (implicit drop)"])
    assert (hop.end, hop.stage, hop.logical_flow) == (HopEnd.DROPPED, "ls_in_pre_acl", "")


@pytest.mark.parametrize(
    ("stage", "actions"),
    [
        ("ls_out_acl", ["drop;"]),
        ("ls_out_acl", [DROP_WITHOUT_THE_WORD]),
        ("ls_out_acl", ["ct_commit { ct_label.blocked = 1; };"]),
        ("ls_out_acl", ['log(name="a", verdict=drop, severity=info);']),
        ("ls_in_acl", [DROP_WITHOUT_THE_WORD, "log(severity=info);"]),
        ("ls_in_acl_after_lb", ["sample(probability=1,collector_set=1,obs_domain=1);"]),
    ],
)
def test_an_acl_drops_in_its_own_flow_up_to_23_03(stage: str, actions: list[str]) -> None:
    hop = _read(_ingress(), _flow(stage, *actions, uuid="0123abcd"))
    assert hop.end is HopEnd.DROPPED
    assert _acls(hop) == [(stage, "drop")]
    assert hop.acls[0].logical_flow == hop.logical_flow == "0123abcd"


@pytest.mark.parametrize("direction", ["ls_in_acl", "ls_in_acl_after_lb", "ls_out_acl"])
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize(
    "action",
    [
        ["reg8[16] = 0;", "reg8[17] = 0;", "reg8[18] = 0;"],
        ["reg8[16] = 0;", "reg8[17] = 0;", "reg8[18] = 0;", "reg8[30..31] = 0;"],
        ["reg8[17] = 0;", DROP_WITHOUT_THE_WORD],
        ["drop;"],
    ],
)
def test_an_acl_drops_in_the_action_stage_from_23_06(
    direction: str, action: list[str], *, sample: bool
) -> None:
    hop = _read(
        _ingress(),
        _flow(f"{direction}_eval", "reg8[17] = 1;", "next;", uuid="0123abcd"),
        _flow(f"{direction}_sample", "sample(probability=65535);", "next;") if sample else [],
        _flow(f"{direction}_action", *action, priority=1000),
    )
    assert (hop.end, hop.stage) == (HopEnd.DROPPED, f"{direction}_action")
    assert _acls(hop) == [(f"{direction}_eval", "drop")]
    assert (hop.acls[0].logical_flow, hop.acls[0].priority) == ("0123abcd", 2001)


def test_a_default_drop_is_no_acl() -> None:
    flow = _flow("ls_out_acl_action", "reg8[16] = 0;", "reg8[18] = 0;", priority=0)
    hop = _read(_ingress(), flow)
    assert (hop.end, hop.acls) == (HopEnd.DROPPED, ())
    old = _read(_ingress(), _flow("ls_out_acl", "drop;", priority=1))
    assert (old.end, old.acls) == (HopEnd.DROPPED, ())


@pytest.mark.parametrize(
    ("stage", "action"),
    [
        ("ls_in_acl", "next;"),
        ("ls_in_acl_action", "next;"),
        ("ls_in_acl_eval", "reg8[17] = 1;"),
        ("ls_in_acl_sample", "next;"),
        ("ls_out_acl", "ct_next;"),
        ("ls_in_acl_hint", "reg0[7] = 1;"),
        ("ls_in_pre_acl", "reg0[0] = 1;"),
        ("ls_in_lb_aff_learn", "commit_lb_aff(vip = 1, backend = 2, proto = tcp, timeout = 60);"),
        ("lr_in_unsnat", "ct_snat;"),
        ("ls_in_l2_lkup", "/* omitting output because inport == outport && !flags.loopback */"),
        ("ls_in_l2_lkup", "*** output to null logical port"),
    ],
)
def test_a_trace_that_just_stops_is_no_drop(stage: str, action: str) -> None:
    hop = _read(_ingress(), _flow(stage, action))
    assert (hop.end, hop.stage, hop.text) == (HopEnd.ENDED, stage, action)


def test_a_sampled_drop_is_a_drop_in_any_stage() -> None:
    hop = _read(_ingress(), _flow("ls_in_l2_unknown", "sample(probability=65535);"))
    assert (hop.end, hop.acls) == (HopEnd.DROPPED, ())
    hop = _read(_ingress(), _flow("ls_in_acl_sample", "sample(probability=65535);", "next;"))
    assert hop.end is HopEnd.ENDED


def test_a_pass_moves_on_to_the_next_tier() -> None:
    hop = _read(
        _ingress(),
        _flow("ls_in_acl_eval", "next;"),
        _flow("ls_in_acl_action", "reg8[30..31] = 1;", "next(pipeline=ingress, table=8);"),
        _flow("ls_in_acl_eval", "reg8[16] = 1;", "next;", uuid="0000000b", priority=3001),
        _flow("ls_in_acl_action", "reg8[16] = 0;", "next;", priority=1000),
        _egress(),
        _output(),
    )
    assert hop.end is HopEnd.OUTPUT
    assert [(acl.action, acl.logical_flow, acl.priority) for acl in hop.acls] == [
        ("allow", "0000000b", 3001)
    ]


def test_defaults_of_an_old_switch_are_no_acls() -> None:
    hop = _read(
        _ingress(),
        _flow("ls_in_acl", "reg0[1] = 1;", "next;", priority=1),
        _egress(),
        _flow("ls_out_acl", "reg0[1] = 1;", "next;", priority=1001),
        _output(),
    )
    assert _acls(hop) == [("ls_out_acl", "allow")]


@pytest.mark.parametrize("made", sorted(walk.REJECTS))
@pytest.mark.parametrize("last", [True, False])
def test_a_rejection_is_output_to_the_sender_and_does_not_count(made: str, *, last: bool) -> None:
    level = 0 if last else 1
    depth = 0 if last else 2
    reject = "reject { outport <-> inport; next(pipeline=egress, table=5); };"
    hop = _read(
        _ingress(),
        _flow("ls_in_acl", reject, uuid="0123abcd"),
        _title(made, level),
        [f"{' ' * 4 * (depth + 1)}outport <-> inport;"],
        _title('egress(dp="sw", outport="p1")', depth),
        _output("p1", level=depth),
        [] if last else ["    next;"],
        target="p1",
    )
    assert (hop.end, hop.stage, hop.logical_flow) == (HopEnd.REJECTED, "ls_in_acl", "0123abcd")
    assert (hop.text, hop.port) == (reject, "")
    assert _acls(hop) == [("ls_in_acl", "reject")]


def test_a_rejection_by_the_action_stage_keeps_the_verdict_of_eval() -> None:
    hop = _read(
        _ingress(),
        _flow("ls_out_acl_eval", "reg8[18] = 1;", "next;"),
        _flow("ls_out_acl_action", "reg8[18] = 0;", "reject { next; };"),
        _title("tcp_reset"),
        _title('egress(dp="sw", outport="p1")'),
        _flow("ls_out_acl_eval", "reg8[16] = 1;", "next;"),
        _output("p1"),
    )
    assert (hop.end, hop.stage) == (HopEnd.REJECTED, "ls_out_acl_action")
    assert _acls(hop) == [("ls_out_acl_eval", "reject")]


def _question(title: str, *outputs: tuple[str, str]) -> list[str]:
    lines = [
        *_flow("lr_in_arp_request", f"{title} {{ output; }};"),
        *_title(title, 1),
        *_title('egress(dp="lr", inport="a", outport="lr-b")', 2),
        *_flow("lr_out_delivery", "output;", '/* output to "lr-b", type "patch" */', level=2),
    ]
    for port, port_type in outputs:
        lines += _title(f'egress(dp="sw", inport="sw-lr", outport="{port}")', 3)
        lines += _output(port, port_type, level=4)
    return lines


@pytest.mark.parametrize("title", sorted(walk.QUESTIONS))
def test_a_router_that_asks_keeps_the_packet(title: str) -> None:
    for onwards in ([], ["    output;", *_flow("ls_in_l2_unknown", "drop;")]):
        hop = _read(_ingress(), _question(title, ("p2", ""), ("p3", "")), onwards)
        assert (hop.end, hop.port, hop.port_type) == (HopEnd.RESOLVING, "lr-b", "")
        assert hop.stage == "lr_in_arp_request"


def test_a_packet_with_an_unknown_mac_is_delivered_to_nobody() -> None:
    onwards = ["    output;", *_egress("p2"), *_output("p2")]
    assert _read(_ingress(), _question("arp"), onwards).end is HopEnd.RESOLVING


def test_a_question_to_the_outside_says_so() -> None:
    asked = _question("arp", ("vm", ""), ("net", "localnet"))
    hop = _read(_ingress(), asked, target="")
    assert (hop.end, hop.port, hop.port_type) == (HopEnd.RESOLVING, "net", "localnet")
    hop = _read(_ingress(), asked, ["    output;"], _egress("net"), _output("net", "localnet"))
    assert (hop.end, hop.port, hop.port_type) == (HopEnd.OUTPUT, "net", "localnet")


@pytest.mark.parametrize("title", ["mirror", "nd_na"])
def test_a_copy_or_an_answer_is_not_the_packet(title: str) -> None:
    hop = _read(
        _ingress(),
        _flow("ls_in_mirror", f"{title};"),
        _title(title, 1),
        _egress("p2", 2),
        _output("p2", level=2),
        ["    next;"],
        _flow("ls_in_l2_unknown", "drop;"),
    )
    assert (hop.end, hop.stage) == (HopEnd.DROPPED, "ls_in_l2_unknown")


def test_a_clone_is_the_packet() -> None:
    hop = _read(
        _ingress(),
        _flow("lr_out_egr_loop", "clone { next(pipeline=ingress, table=0); };"),
        _title("clone", 1),
        ["            ct_clear;"],
        _ingress(2, "p9"),
        _flow("ls_in_l2_lkup", "output;", level=2),
        _egress("p2", 2),
        _output("p2", level=2),
    )
    assert (hop.end, hop.port, hop.entered) == (HopEnd.OUTPUT, "p2", "p1")


@pytest.mark.parametrize(
    ("action", "end"), [("drop;", HopEnd.DROPPED), ("commit_lb_aff();", HopEnd.ENDED)]
)
def test_a_clone_that_ends_leaves_no_other_end(action: str, end: HopEnd) -> None:
    hop = _read(
        _ingress(),
        _flow("lr_out_egr_loop", "clone { next; };"),
        _title("clone", 1),
        _flow("lr_in_lb_aff_learn", action, level=2),
    )
    assert (hop.end, hop.stage, hop.text) == (end, "lr_in_lb_aff_learn", action)


def test_a_note_in_the_log_is_no_branch() -> None:
    note = 'LOG: ACL name=a, direction=IN, verdict=allow, severity=info, packet="tcp"'
    log = 'log(name="a", verdict=allow, severity=info);'
    flow = _flow("ls_in_acl", log)
    rest = [*_flow("ls_in_l2_lkup", "output;"), *_egress(), *_output()]
    hop = _read(_ingress(), flow, _title(note, 1), ["    next;"], rest)
    assert (hop.end, _acls(hop)) == (HopEnd.OUTPUT, [("ls_in_acl", "allow")])
    dropped = _read(_ingress(), flow, _title(note))
    assert (dropped.end, _acls(dropped)) == (HopEnd.DROPPED, [("ls_in_acl", "drop")])


def _multicast(*ports: str) -> list[str]:
    lines = _title('multicast(dp="sw", mcgroup="_MC_unknown")')
    for port in ports:
        lines += [*_egress(port, 1), *_output(port, level=2)]
    return lines


def test_a_flood_reaches_the_target_or_is_spread() -> None:
    flow = _flow("ls_in_l2_unknown", 'outport = "_MC_unknown";', "output;")
    hop = _read(_ingress(), flow, _multicast("p3", "p2"))
    assert (hop.end, hop.port) == (HopEnd.OUTPUT, "p2")
    hop = _read(_ingress(), flow, _multicast("p3", "p4"))
    assert (hop.end, hop.text) == (HopEnd.SPREAD, "p3, p4")
    omitted = "/* omitting output because inport == outport && !flags.loopback */"
    rest = [*_egress("p1"), f"    {omitted}"]
    assert _read(_ingress(), flow, _multicast("p3"), rest).port == "p3"
    assert _read(_ingress(), flow, _multicast(), rest).end is HopEnd.ENDED


def test_a_packet_goes_through_patch_ports() -> None:
    through = '/* output to "a-lr", type "patch" */'
    hop = _read(
        _ingress(),
        _flow("ls_out_apply_port_sec", "output;", through),
        _title('ingress(dp="lr", inport="lr-a")'),
        _flow(
            "lr_in_gw_redirect",
            "output;",
            '/* Replacing type "chassisredirect" outport "cr-b" with distributed port "b". */',
        ),
        _title('egress(dp="lr", inport="lr-a", outport="b")'),
        _title("ct_snat(ip4.src=203.0.113.1)"),
        _flow("lr_out_delivery", "output;", '/* output to "b", type "l3gateway" */'),
        _ingress(port="sw-lr"),
        _egress("net"),
        _output("net", "localnet"),
        target="",
    )
    assert (hop.end, hop.port_type, hop.ip_src, hop.ip_dst) == (
        HopEnd.OUTPUT,
        "localnet",
        "203.0.113.1",
        "",
    )


@pytest.mark.parametrize(
    "title", ["ct_dnat(ip4.dst=10.0.0.1)", "ct_dnatin_czone(ip4.dst=10.0.0.1)"]
)
def test_the_address_after_dnat(title: str) -> None:
    hop = _read(_ingress(), _flow("lr_in_dnat", f"{title};"), _title(title), _output())
    assert (hop.ip_src, hop.ip_dst) == ("", "10.0.0.1")


@pytest.mark.parametrize(
    ("action", "backends"),
    [
        ("ct_lb(backends=10.0.0.1:80,10.0.0.2:80);", ("10.0.0.1:80", "10.0.0.2:80")),
        ("ct_lb_mark(backends=10.0.0.1:80);", ("10.0.0.1:80",)),
        ("ct_lb_mark(backends=10.0.0.1,10.0.0.2);", ("10.0.0.1", "10.0.0.2")),
        (
            'ct_lb_mark(backends=[fd00::1]:80,[fd00::2]:80; hash_fields="ip_src,ip_dst");',
            ("[fd00::1]:80", "[fd00::2]:80"),
        ),
        ("ct_lb_mark(backends=10.0.0.1:80; skip_snat);", ("10.0.0.1:80",)),
    ],
)
def test_a_load_balancer_draws(action: str, backends: tuple[str, ...]) -> None:
    parts = (_ingress(), _flow("ls_in_lb", action), _title("ct_lb_mark"), _egress(), _output())
    hop = _read(*parts)
    assert (hop.end, hop.backends) == (HopEnd.BALANCED, backends)
    assert (_read(*parts, draws=1).end, _read(*parts, draws=1).backends) == (HopEnd.OUTPUT, ())


def test_a_load_balancer_without_a_list_only_tracks() -> None:
    flow = _flow("ls_in_pre_stateful", "ct_lb_mark;")
    assert _read(_ingress(), flow, _title("ct_lb_mark"), _egress(), _output()).port == "p2"


@pytest.mark.parametrize(
    "action",
    [
        "reg8[16..31] = select(1, 2);",
        "reg8[16..31] = select(1=100, 2=100);",
        'reg8[16..31] = select(values=(1=100, 2=100); hash_fields="ip_src");',
    ],
)
def test_a_router_selects(action: str) -> None:
    title = "select: reg8[16..31] = 2"
    parts = (_ingress(), _flow("lr_in_ip_routing", action), _title(title), _egress(), _output())
    hop = _read(*parts)
    assert (hop.end, hop.choices) == (HopEnd.SELECTED, (1, 2))
    assert _read(*parts, select=2).end is HopEnd.OUTPUT


@pytest.mark.parametrize(
    "line",
    [
        "ct_next(ct_state=est|trk /* default (use --ct to customize) */)",
        "    ct_lb_mark /* default (use --ct to customize) */",
        "ct_dnat /* assuming no un-dnat entry */ /* default (use --ct to customize) */",
    ],
)
def test_states_that_ran_out_are_noticed(line: str) -> None:
    assert walk.ran_out_of_states(f"# tcp\n\n{line}\n{'-' * len(line)}\n")
    name = "LOG: ACL name=/* default (use --ct to customize) */, direction=IN, verdict=drop"
    assert not walk.ran_out_of_states(f"# tcp\n{name}\n")


_stages = st.sampled_from(
    ["ls_in_acl", "ls_in_acl_eval", "ls_in_acl_action", "ls_out_acl", "ls_in_lb", "lr_in_policy"]
)
_actions = st.lists(
    st.sampled_from(
        [
            *("next;", "output;", "drop;", "reg8[16] = 1;", "reg8[17] = 1;", "reg8[18] = 1;"),
            *("reject { next; };", DROP_WITHOUT_THE_WORD, "ct_lb_mark(backends=10.0.0.1:80);"),
            "reg8[16..31] = select(1=100, 2=100);",
            '/* output to "p2", type "" */',
            '/* output to "p3", type "" */',
            '/* output to "net", type "localnet" */',
            '/* output to "lr", type "patch" */',
        ]
    ),
    min_size=1,
    max_size=4,
)
_branches = st.sampled_from(
    [*sorted(walk.GENERATED), "clone", "ct_lb_mark", 'egress(dp="sw", inport="p1", outport="p2")']
)


@st.composite
def _blocks(draw: st.DrawFn, level: int = 0, depth: int = 0) -> list[str]:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        actions = draw(_actions)
        flow = _flow(draw(_stages), *actions, level=level)
        for line in flow:
            lines.append(line)
            if line is not flow[0] and depth < 2 and draw(st.integers(0, 3)) == 0:
                lines += _title(draw(_branches), level + 1)
                lines += draw(_blocks(level + 2, depth + 1))
        if draw(st.integers(0, 3)) == 0:
            lines += _title(draw(_branches), level)
    return lines


@settings(deadline=None)  # a busy machine is no failure
@given(_blocks(), st.integers(0, 1), st.integers(0, 1))
def test_every_trace_has_an_end(lines: list[str], select: int, draws: int) -> None:
    hop = _read(_ingress(), lines, select=select, draws=draws)
    assert (hop.end is HopEnd.OUTPUT) == bool(hop.port) or hop.end is HopEnd.RESOLVING
    assert (hop.end is HopEnd.BALANCED) == bool(hop.backends)
    assert (hop.end is HopEnd.SELECTED) == bool(hop.choices)
    if hop.end is HopEnd.OUTPUT:
        assert any(f'/* output to "{hop.port}", type ' in line for line in lines)


@settings(deadline=None)  # a busy machine is no failure
@given(_blocks(), st.integers(0, 1), st.integers(0, 1))
def test_what_is_cut_off_is_never_output_where_the_whole_is_not(
    lines: list[str], select: int, draws: int
) -> None:
    """The cut trace says `output to the target` from its line on, and never before."""
    text = [*_ingress(), *lines]
    whole = _read(text, select=select, draws=draws)
    arrived = (whole.end, whole.port) == (HopEnd.OUTPUT, "p2")
    first = 0
    for count in range(len(text) + 1):
        try:
            hop = _read(text[:count], select=select, draws=draws)
        except tree.TraceSyntaxError:
            continue
        if (hop.end, hop.port) == (HopEnd.OUTPUT, "p2"):
            assert arrived
            first = first or count
            assert '/* output to "p2", type "" */' in text[first - 1]
        else:
            assert not first


@settings(deadline=None)  # a busy machine is no failure
@given(_blocks(level=2), st.sampled_from(sorted(walk.GENERATED)))
def test_nothing_a_generated_packet_does_is_output(inner: list[str], made: str) -> None:
    hop = _read(
        _ingress(),
        _flow("lr_in_policy", "next;"),
        _title(made, 1),
        inner,
        ["    next;"],
        _flow("ls_in_l2_unknown", "drop;"),
    )
    assert hop.end in {HopEnd.DROPPED, HopEnd.REJECTED, HopEnd.RESOLVING}
    assert hop.stage in {"lr_in_policy", "ls_in_l2_unknown"}
