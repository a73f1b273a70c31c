"""Record golden traces with the OVN installations at hand; see README.md beside this file.

What is expected is written by hand in `cases()`, from what the topology is built to do. Nothing
here uses the parser that is tested.
"""

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.replay import toolchain as toolchains
from audit.replay.toolchain import Toolchain, Version

HERE = Path(__file__).resolve().parent
OLDEST = Version(23, 3, 0)
SPLIT = Version(23, 6, 0)
"""Since this release an ACL stage is two, `_eval` and `_action`."""
DISTRIBUTED = Version(26, 3, 0)
"""Since this release there is what `LATEST` needs."""
_DEADLINE_S = 60

TOPOLOGY = """
ls-add plain
lsp-add plain p1 -- lsp-set-addresses p1 '0a:00:00:00:00:01 10.0.0.1'
lsp-set-port-security p1 '0a:00:00:00:00:01 10.0.0.1'
lsp-add plain p2 -- lsp-set-addresses p2 '0a:00:00:00:00:02 10.0.0.2 fd00::2'
lsp-add plain p3 -- lsp-set-addresses p3 '0a:00:00:00:00:03 10.0.0.3'
lsp-set-port-security p3 '0a:00:00:00:00:03 10.0.0.33'

ls-add flood
lsp-add flood f1 -- lsp-set-addresses f1 '0a:00:00:00:01:01 10.0.1.1'
lsp-add flood f2 -- lsp-set-addresses f2 unknown
lsp-add flood f3 -- lsp-set-addresses f3 unknown
ls-add flood1
lsp-add flood1 g1 -- lsp-set-addresses g1 unknown
lsp-add flood1 g2 -- lsp-set-addresses g2 unknown

ls-add guarded
lsp-add guarded client -- lsp-set-addresses client '0a:00:00:00:02:01 10.0.2.1'
lsp-add guarded web -- lsp-set-addresses web '0a:00:00:00:02:02 10.0.2.2'
acl-add guarded to-lport 1001 'outport == "web" && tcp.dst == 80' allow-related
acl-add guarded to-lport 1002 'outport == "web" && tcp.dst == 23' reject
--log --name=noisy acl-add guarded to-lport 1003 'outport == "web" && tcp.dst == 7070' drop
--log --name=noisy acl-add guarded to-lport 1003 'outport == "web" && tcp.dst == 7071' allow-related
acl-add guarded to-lport 1000 'outport == "web" && ip4' drop
acl-add guarded from-lport 1000 'inport == "web" && ip4' drop
acl-add guarded from-lport 1001 'inport == "client" && tcp.dst == 25' drop
acl-add guarded from-lport 1001 'inport == "client" && udp.dst == 25' reject

ls-add afterlb
lsp-add afterlb al1 -- lsp-set-addresses al1 '0a:00:00:00:03:01 10.0.3.1'
lsp-add afterlb al2 -- lsp-set-addresses al2 '0a:00:00:00:03:02 10.0.3.2'
--apply-after-lb acl-add afterlb from-lport 1001 'inport == "al1" && tcp.dst == 8081' drop

ls-add stateless
lsp-add stateless s1 -- lsp-set-addresses s1 '0a:00:00:00:04:01 10.0.4.1'
lsp-add stateless s2 -- lsp-set-addresses s2 '0a:00:00:00:04:02 10.0.4.2'
acl-add stateless to-lport 1001 'outport == "s2" && tcp.dst == 80' allow-stateless
acl-add stateless to-lport 1000 'outport == "s2" && ip4' drop

ls-add balanced
lsp-add balanced lc -- lsp-set-addresses lc '0a:00:00:00:05:01 10.0.5.1'
lsp-add balanced b1 -- lsp-set-addresses b1 '0a:00:00:00:05:11 10.0.5.11'
lsp-add balanced b2 -- lsp-set-addresses b2 '0a:00:00:00:05:12 10.0.5.12'
lsp-add balanced b3 -- lsp-set-addresses b3 '0a:00:00:00:05:13 10.0.5.13'
lb-add three 10.96.0.1:80 10.0.5.11:8080,10.0.5.12:8080,10.0.5.13:8080 tcp
--reject lb-add none 10.96.0.2:80 '' tcp
lb-add sticky 10.96.0.3:80 10.0.5.11:8080,10.0.5.12:8080 tcp
set load_balancer sticky options:affinity_timeout=60
lb-add one 10.96.0.4:80 10.0.5.11:8080 tcp
lb-add hashed 10.96.0.5:80 10.0.5.11:8080,10.0.5.12:8080 tcp
set load_balancer hashed selection_fields=ip_src,ip_dst
lb-add six [fd96::1]:80 [fd05::11]:8080,[fd05::12]:8080 tcp
ls-lb-add balanced three -- ls-lb-add balanced none -- ls-lb-add balanced sticky
ls-lb-add balanced one -- ls-lb-add balanced hashed -- ls-lb-add balanced six

create chassis_template_var chassis=hv1 variables='{VIP="10.0.9.9"}'
create load_balancer name=templated protocol=tcp options='{template=true, address-family=ipv4}'
set load_balancer templated vips='{"^VIP:80"="10.0.5.11:8080"}'
ls-lb-add balanced templated

lr-add core
lrp-add core core-r1 0e:00:00:00:00:01 10.1.0.254/24 fd01::254/64
lrp-add core core-r2 0e:00:00:00:00:02 10.2.0.254/24 fd02::254/64
ls-add r1
lsp-add r1 r1-core -- lsp-set-type r1-core router -- lsp-set-addresses r1-core router
lsp-set-options r1-core router-port=core-r1
lsp-add r1 x1 -- lsp-set-addresses x1 '0a:00:00:01:00:01 10.1.0.1 fd01::1'
ls-add r2
lsp-add r2 r2-core -- lsp-set-type r2-core router -- lsp-set-addresses r2-core router
lsp-set-options r2-core router-port=core-r2
lsp-add r2 y2 -- lsp-set-addresses y2 '0a:00:00:02:00:02 10.2.0.2'
lsp-add r2 y3 -- lsp-set-addresses y3 '0a:00:00:02:00:03 10.2.0.3'
--ecmp lr-route-add core 192.0.2.0/24 10.2.0.2
--ecmp lr-route-add core 192.0.2.0/24 10.2.0.3

ls-add join
lrp-add core core-join 0e:00:00:00:00:03 100.64.0.1/24
lsp-add join join-core -- lsp-set-type join-core router -- lsp-set-addresses join-core router
lsp-set-options join-core router-port=core-join
lr-add gateway -- set logical_router gateway options:chassis=hv1
lrp-add gateway gw-join 0e:00:00:00:00:04 100.64.0.2/24
lsp-add join join-gw -- lsp-set-type join-gw router -- lsp-set-addresses join-gw router
lsp-set-options join-gw router-port=gw-join
lrp-add gateway gw-ext 0e:00:00:00:00:05 203.0.113.1/24
ls-add external
lsp-add external ext-gw -- lsp-set-type ext-gw router -- lsp-set-addresses ext-gw router
lsp-set-options ext-gw router-port=gw-ext
lsp-add external ext-net -- lsp-set-type ext-net localnet -- lsp-set-addresses ext-net unknown
lsp-set-options ext-net network_name=physnet
lr-route-add core 198.51.100.0/24 100.64.0.2
lr-route-add core 198.51.101.0/24 100.64.0.2
lr-route-add gateway 198.51.101.0/24 203.0.113.253
lr-route-add gateway 0.0.0.0/0 203.0.113.254
lr-nat-add gateway snat 203.0.113.1 10.1.0.0/24

lr-add edge
lrp-add edge edge-in 0e:00:00:00:00:06 10.6.0.254/24
ls-add inner
lsp-add inner in-edge -- lsp-set-type in-edge router -- lsp-set-addresses in-edge router
lsp-set-options in-edge router-port=edge-in
lsp-add inner e1 -- lsp-set-addresses e1 '0a:00:00:06:00:01 10.6.0.1'
lrp-add edge edge-out 0e:00:00:00:00:07 10.7.0.254/24
lrp-set-gateway-chassis edge-out hv1 10
ls-add outer
lsp-add outer out-edge -- lsp-set-type out-edge router -- lsp-set-addresses out-edge router
lsp-set-options out-edge router-port=edge-out
lsp-add outer e2 -- lsp-set-type e2 remote -- lsp-set-addresses e2 '0a:00:00:07:00:02 10.7.0.2'
"""

TIERS = """
ls-add tiered
lsp-add tiered t1 -- lsp-set-addresses t1 '0a:00:00:00:06:01 10.0.6.1'
lsp-add tiered t2 -- lsp-set-addresses t2 '0a:00:00:00:06:02 10.0.6.2'
--tier=1 acl-add tiered to-lport 1001 'outport == "t2" && tcp.dst == 80' pass
--tier=1 acl-add tiered to-lport 1001 'outport == "t2" && tcp.dst == 81' drop
--tier=1 acl-add tiered to-lport 1001 'outport == "t2" && tcp.dst == 82' pass
--tier=2 acl-add tiered to-lport 1001 'outport == "t2" && tcp.dst == 80' drop
--tier=2 acl-add tiered to-lport 1000 'outport == "t2" && tcp.dst == 81' allow-related
"""
"""ACL tiers exist since OVN 23.06."""

LATEST = """
ls-add mirrored
lsp-add mirrored m1 -- lsp-set-addresses m1 '0a:00:00:00:07:01 10.0.7.1'
lsp-add mirrored m2 -- lsp-set-addresses m2 '0a:00:00:00:07:02 10.0.7.2'
lsp-add mirrored tap -- lsp-set-addresses tap unknown
acl-add mirrored to-lport 1001 'outport == "m2" && tcp.dst == 81' drop
mirror-add copies lport both tap -- mirror-rule-add copies 100 ip mirror
lsp-attach-mirror m1 copies
lsp-attach-mirror m2 copies

lr-add spreader
lrp-add spreader spreader-in 0e:00:00:00:00:08 10.8.0.254/24
lrp-add spreader spreader-out 0e:00:00:00:00:09 10.9.0.254/24
lrp-set-gateway-chassis spreader-in hv1 10
ls-add s8
lsp-add s8 s8-spreader -- lsp-set-type s8-spreader router -- lsp-set-addresses s8-spreader router
lsp-set-options s8-spreader router-port=spreader-in
lsp-add s8 c8 -- lsp-set-addresses c8 '0a:00:00:08:00:01 10.8.0.1'
ls-add s9
lsp-add s9 s9-spreader -- lsp-set-type s9-spreader router -- lsp-set-addresses s9-spreader router
lsp-set-options s9-spreader router-port=spreader-out
lsp-add s9 d1 -- lsp-set-addresses d1 '0a:00:00:09:00:01 10.9.0.1'
lsp-add s9 d2 -- lsp-set-addresses d2 '0a:00:00:09:00:02 10.9.0.2'
lb-add distributed 10.96.0.7:80 10.9.0.1:8080,10.9.0.2:8080 tcp
set load_balancer distributed options:distributed=true
set load_balancer distributed ip_port_mappings:10.9.0.1=d1 ip_port_mappings:10.9.0.2=d2
lb-add alone 10.96.0.8:80 10.9.0.1:8080 tcp
set load_balancer alone options:distributed=true ip_port_mappings:10.9.0.1=d1
lr-lb-add spreader distributed -- lr-lb-add spreader alone
"""
"""Mirrors to a logical port exist since OVN 25.09, distributed load balancers since 26.03."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A packet and what the topology is built to do with it."""

    name: str
    source: str
    to: str
    port: int = 80
    protocol: str = "tcp"
    ct: str = "new"
    ttl: int = 64
    target: str = ""
    select: int = 0
    draws: int = 0
    since: Version = OLDEST
    expected: Mapping[str, Any] = field(default_factory=dict)


ADDRESSES = {
    "p1": "0a:00:00:00:00:01 10.0.0.1",
    "spoofed": "0a:00:00:00:00:01 10.0.0.9",
    "p2": "0a:00:00:00:00:02 10.0.0.2",
    "p3": "0a:00:00:00:00:03 10.0.0.3",
    "nobody": "0a:00:00:00:00:99 10.0.0.99",
    "f1": "0a:00:00:00:01:01 10.0.1.1",
    "f-unknown": "0a:00:00:00:01:99 10.0.1.99",
    "g1": "0a:00:00:00:01:0a 10.0.1.10",
    "client": "0a:00:00:00:02:01 10.0.2.1",
    "web": "0a:00:00:00:02:02 10.0.2.2",
    "al1": "0a:00:00:00:03:01 10.0.3.1",
    "al2": "0a:00:00:00:03:02 10.0.3.2",
    "s1": "0a:00:00:00:04:01 10.0.4.1",
    "s2": "0a:00:00:00:04:02 10.0.4.2",
    "lc": "0a:00:00:00:05:01 10.0.5.1",
    "lc6": "0a:00:00:00:05:01 fd05::1",
    "three": "0a:00:00:00:05:11 10.96.0.1",
    "none": "0a:00:00:00:05:11 10.96.0.2",
    "sticky": "0a:00:00:00:05:11 10.96.0.3",
    "one": "0a:00:00:00:05:11 10.96.0.4",
    "hashed": "0a:00:00:00:05:11 10.96.0.5",
    "six": "0a:00:00:00:05:11 fd96::1",
    "t1": "0a:00:00:00:06:01 10.0.6.1",
    "t2": "0a:00:00:00:06:02 10.0.6.2",
    "x1": "0a:00:00:01:00:01 10.1.0.1",
    "x1-6": "0a:00:00:01:00:01 fd01::1",
    "y2": "0e:00:00:00:00:01 10.2.0.2",
    "y-silent": "0e:00:00:00:00:01 10.2.0.99",
    "y-silent-6": "0e:00:00:00:00:01 fd02::99",
    "unrouted": "0e:00:00:00:00:01 172.16.0.1",
    "ecmp": "0e:00:00:00:00:01 192.0.2.7",
    "outside": "0e:00:00:00:00:01 198.51.100.7",
    "outside-silent": "0e:00:00:00:00:01 198.51.101.7",
    "m1": "0a:00:00:00:07:01 10.0.7.1",
    "m2": "0a:00:00:00:07:02 10.0.7.2",
    "c8": "0a:00:00:08:00:01 10.8.0.1",
    "distributed": "0e:00:00:00:00:08 10.96.0.7",
    "alone": "0e:00:00:00:00:08 10.96.0.8",
    "e1": "0a:00:00:06:00:01 10.6.0.1",
    "e2": "0e:00:00:00:00:06 10.7.0.2",
}
"""Who is meant by a case's `source` and `to`: the MAC a packet to or from them has, and the IP."""

INPORTS = {"spoofed": "p1", "lc6": "lc", "x1-6": "x1"}


def cases(version: Version) -> Iterator[Case]:
    """Yield the cases that this release can build."""
    made = (*_switching(), *_acls(version), *_balancers(), *_routing(version), *_latest())
    yield from (case for case in made if version >= case.since)


def _switching() -> Iterator[Case]:
    yield Case(
        name="allow",
        source="p1",
        to="p2",
        target="p2",
        expected={"end": "output", "port": "p2", "port_type": "", "entered": "p1", "acls": []},
    )
    yield Case(
        name="another-target",
        source="p1",
        to="p2",
        target="p3",
        expected={"end": "output", "port": "p2", "datapath": "plain"},
    )
    yield Case(
        name="port-security-in",
        source="spoofed",
        to="p2",
        target="p2",
        expected={"end": "dropped", "stage": "ls_in_apply_port_sec", "port": "", "acls": []},
    )
    yield Case(
        name="port-security-out",
        source="p1",
        to="p3",
        target="p3",
        expected={"end": "dropped", "stage": "ls_out_apply_port_sec", "outport": "p3"},
    )
    yield Case(
        name="unknown-mac",
        source="p1",
        to="nobody",
        target="p2",
        expected={"end": "dropped", "stage": "ls_in_l2_unknown"},
    )
    yield Case(
        name="to-itself",
        source="p1",
        to="p1",
        target="p2",
        expected={"end": "ended", "port": "", "stage": "ls_in_l2_lkup"},
    )
    yield Case(
        name="flood",
        source="f1",
        to="f-unknown",
        expected={"end": "spread", "text": "f2, f3", "datapath": "flood"},
    )
    yield Case(
        name="flood-with-target",
        source="f1",
        to="f-unknown",
        target="f3",
        expected={"end": "output", "port": "f3", "outport": "f3"},
    )
    yield Case(
        name="flood-omits-sender",
        source="g1",
        to="f-unknown",
        expected={"end": "output", "port": "g2"},
    )


def _acls(version: Version) -> Iterator[Case]:
    split = version >= SPLIT
    verdict, action = ("_eval", "_action") if split else ("", "")

    def acls(*found: tuple[str, str]) -> list[list[str]]:
        return [[stage + verdict, what] for stage, what in found]

    allowed = {"end": "output", "port": "web", "acls": acls(("ls_out_acl", "allow"))}
    dropped = {
        "end": "dropped",
        "stage": "ls_out_acl" + action,
        "acls": acls(("ls_out_acl", "drop")),
        "outport": "web",
    }
    web: dict[str, Any] = {"source": "client", "to": "web", "target": "web"}
    yield Case(name="acl-allow", **web, expected={**allowed, "acl_match": "tcp.dst == 80"})
    yield Case(
        name="acl-drop-to-lport",
        **web,
        port=81,
        expected={**dropped, "acl_match": 'outport == "web" && ip4'},
    )
    yield Case(
        name="acl-drop-established",
        **web,
        port=81,
        ct="est",
        expected={
            **dropped,
            # The client's pipeline lets an established connection pass.
            "acls": acls(("ls_out_acl", "drop")),
            "acl_match": 'outport == "web" && ip4',
        },
    )
    yield Case(
        name="acl-reject-to-lport",
        **web,
        port=23,
        expected={
            "end": "rejected",
            "stage": "ls_out_acl" + action,
            "acls": acls(("ls_out_acl", "reject")),
            "acl_match": "tcp.dst == 23",
            "outport": "web",
        },
    )
    yield Case(
        name="acl-drop-logged",
        **web,
        port=7070,
        expected={**dropped, "acl_match": "tcp.dst == 7070"},
    )
    yield Case(
        name="acl-allow-logged",
        **web,
        port=7071,
        expected={**allowed, "acl_match": "tcp.dst == 7071"},
    )
    yield Case(
        name="acl-drop-from-lport",
        **web,
        port=25,
        expected={
            "end": "dropped",
            "stage": "ls_in_acl" + action,
            "acls": acls(("ls_in_acl", "drop")),
            "acl_match": "tcp.dst == 25",
            "entered": "client",
        },
    )
    yield Case(
        name="acl-reject-from-lport",
        **web,
        port=25,
        protocol="udp",
        expected={
            "end": "rejected",
            "stage": "ls_in_acl" + action,
            "acls": acls(("ls_in_acl", "reject")),
            "acl_match": "udp.dst == 25",
        },
    )
    yield Case(
        name="request-of-a-denied-sender",
        source="web",
        to="client",
        target="client",
        expected={
            "end": "dropped",
            "stage": "ls_in_acl" + action,
            "acls": acls(("ls_in_acl", "drop")),
            "acl_match": 'inport == "web" && ip4',
        },
    )
    yield Case(
        name="reply-of-a-denied-sender",
        source="web",
        to="client",
        target="client",
        ct="est,rpl",
        expected={
            "end": "output",
            "port": "client",
            # Established by conntrack, it passes every ACL stage on its way.
            "acls": acls(
                ("ls_in_acl", "allow"), ("ls_in_acl_after_lb", "allow"), ("ls_out_acl", "allow")
            ),
        },
    )
    yield Case(
        name="acl-drop-after-lb",
        source="al1",
        to="al2",
        port=8081,
        target="al2",
        expected={
            "end": "dropped",
            "stage": "ls_in_acl_after_lb" + action,
            "acls": acls(("ls_in_acl_after_lb", "drop")),
            "acl_match": "tcp.dst == 8081",
        },
    )
    yield Case(
        name="acl-stateless",
        source="s1",
        to="s2",
        target="s2",
        expected={
            "end": "output",
            "port": "s2",
            "acls": acls(("ls_out_acl", "allow")),
            "acl_match": "tcp.dst == 80",
        },
    )
    yield Case(
        name="acl-stateless-drop",
        source="s1",
        to="s2",
        port=81,
        target="s2",
        expected={
            "end": "dropped",
            "stage": "ls_out_acl" + action,
            "acls": acls(("ls_out_acl", "drop")),
        },
    )
    tiers: dict[str, Any] = {"source": "t1", "to": "t2", "target": "t2", "since": SPLIT}
    tier_drop = {
        "end": "dropped",
        "stage": "ls_out_acl_action",
        "acls": [["ls_out_acl_eval", "drop"]],
    }
    yield Case(name="tier-pass-then-drop", **tiers, expected={**tier_drop, "acl_priority": 2001})
    yield Case(name="tier-drop-first", **tiers, port=81, expected=tier_drop)
    yield Case(
        name="tier-pass-to-the-default",
        **tiers,
        port=82,
        expected={"end": "output", "port": "t2", "acls": []},
    )


def _balancers() -> Iterator[Case]:
    yield Case(
        name="lb-three-backends",
        source="lc",
        to="three",
        expected={
            "end": "balanced",
            "stage": "ls_in_lb",
            "backends": ["10.0.5.11:8080", "10.0.5.12:8080", "10.0.5.13:8080"],
        },
    )
    yield Case(
        name="lb-hash-fields",
        source="lc",
        to="hashed",
        expected={"end": "balanced", "backends": ["10.0.5.11:8080", "10.0.5.12:8080"]},
    )
    yield Case(
        name="lb-ip6",
        source="lc6",
        to="six",
        expected={"end": "balanced", "backends": ["[fd05::11]:8080", "[fd05::12]:8080"]},
    )
    yield Case(
        name="lb-drawn",
        source="lc",
        to="one",
        target="b1",
        draws=3,
        expected={"end": "output", "port": "b1"},
    )
    yield Case(
        name="lb-without-endpoints",
        source="lc",
        to="none",
        expected={"end": "rejected", "stage": "ls_in_lb", "acls": [], "datapath": "balanced"},
    )
    yield Case(
        name="lb-affinity",
        source="lc",
        to="sticky",
        expected={"end": "balanced", "backends": ["10.0.5.11:8080", "10.0.5.12:8080"]},
    )
    yield Case(
        name="lb-affinity-learns",
        source="lc",
        to="sticky",
        target="b1",
        draws=1,
        expected={"end": "ended", "stage": "ls_in_lb_aff_learn", "port": ""},
    )


def _routing(version: Version) -> Iterator[Case]:
    yield Case(
        name="routed",
        source="x1",
        to="y2",
        target="y2",
        expected={"end": "output", "port": "y2", "datapath": "r2", "entered": "r2-core"},
    )
    yield Case(
        name="no-route",
        source="x1",
        to="unrouted",
        expected={"end": "dropped", "stage": "lr_in_ip_routing", "datapath": "core"},
    )
    yield Case(
        name="ttl-exceeded",
        source="x1",
        to="y2",
        ttl=1,
        target="y2",
        expected={"end": "rejected", "stage": "lr_in_ip_input", "datapath": "core"},
    )
    # The router asks for the address; the question reaches y2 and y3, the packet nobody.
    asked = {"end": "resolving", "stage": "lr_in_arp_request"}
    yield Case(
        name="arp-request",
        source="x1",
        to="y-silent",
        target="y2",
        expected={**asked, "port": "core-r2", "port_type": "", "datapath": "core"},
    )
    yield Case(
        name="neighbour-solicitation",
        source="x1-6",
        to="y-silent-6",
        target="y2",
        expected={**asked, "port": "core-r2", "port_type": "", "datapath": "core"},
    )
    left = {"port": "ext-net", "port_type": "localnet"}
    yield Case(
        name="arp-request-outside",
        source="x1",
        to="outside-silent",
        # The newer router also sends the packet on behind its question.
        expected={"end": "output", **left, "ip_src": "203.0.113.1"}
        if version >= SPLIT
        else {**asked, **left, "datapath": "gateway"},
    )
    yield Case(
        name="ecmp",
        source="x1",
        to="ecmp",
        expected={"end": "selected", "stage": "lr_in_ip_routing", "choices": [1, 2]},
    )
    # Which route is which member is ovn-northd's choice, told by the next hop's address.
    port_by_line = {"reg0 = 10.2.0.2;": "y2", "reg0 = 10.2.0.3;": "y3"}
    for member in (1, 2):
        yield Case(
            name=f"ecmp-member-{member}",
            source="x1",
            to="ecmp",
            select=member,
            expected={"end": "output", "datapath": "r2", "port_by_line": port_by_line},
        )
    yield Case(
        name="gateway-snat",
        source="x1",
        to="outside",
        expected={
            "end": "output",
            "port": "ext-net",
            "port_type": "localnet",
            "ip_src": "203.0.113.1",
            "ip_dst": "",
        },
    )
    yield Case(
        name="distributed-gateway-port",
        source="e1",
        to="e2",
        target="e2",
        expected={"end": "output", "port": "e2", "port_type": "remote", "datapath": "outer"},
    )


def _latest() -> Iterator[Case]:
    mirrored: dict[str, Any] = {"since": DISTRIBUTED, "source": "m1", "to": "m2"}
    yield Case(
        name="mirrored",
        **mirrored,
        target="m2",
        expected={"end": "output", "port": "m2", "datapath": "mirrored"},
    )
    yield Case(
        name="mirrored-drop",
        **mirrored,
        port=81,
        # Only the copy gets there.
        target="mp-mirrored-tap",
        expected={
            "end": "dropped",
            "stage": "ls_out_acl_action",
            "outport": "m2",
            "acls": [["ls_out_acl_eval", "drop"]],
        },
    )
    yield Case(
        name="lb-distributed",
        source="c8",
        to="distributed",
        since=DISTRIBUTED,
        expected={"end": "balanced", "backends": ["10.9.0.1:8080", "10.9.0.2:8080"]},
    )
    yield Case(
        name="lb-distributed-drawn",
        source="c8",
        to="alone",
        target="d1",
        draws=1,
        since=DISTRIBUTED,
        expected={"end": "output", "port": "d1", "datapath": "s9"},
    )


@dataclass(frozen=True)
class Sandbox:
    """A northbound and a southbound database, and an ovn-northd between them."""

    toolchain: Toolchain
    rundir: Path

    def run(self, program: str, *arguments: str) -> str:
        """Run one of OVN's programs to its end and return what it printed."""
        return subprocess.run(
            self.toolchain.argv(program, *arguments),
            env={**os.environ, **self.toolchain.environment(self.rundir)},
            capture_output=True,
            text=True,
            check=True,
            timeout=_DEADLINE_S,
        ).stdout

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of OVN's daemons in the foreground."""
        with (self.rundir / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                self.toolchain.argv(program, *arguments, "--log-file=/dev/null"),
                env={**os.environ, **self.toolchain.environment(self.rundir)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def nbctl(self, lines: str) -> None:
        """Run `ovn-nbctl` lines, one transaction each, and wait for ovn-northd."""
        for line in filter(None, (line.strip() for line in lines.splitlines())):
            self.run("ovn-nbctl", f"--db=unix:{self.rundir / 'nb.sock'}", *shlex.split(line))
        self.run("ovn-nbctl", f"--db=unix:{self.rundir / 'nb.sock'}", "--wait=sb", "sync")

    def learn(self, port: str, ip: str, mac: str) -> None:
        """Let a router know a neighbour's MAC, as ovn-controller does."""
        sbctl = ("ovn-sbctl", f"--db=unix:{self.rundir / 'sb.sock'}")
        listed = self.run(
            *sbctl, "--bare", "--columns=datapath", "find", "port_binding", f"logical_port={port}"
        )
        values = (f"logical_port={port}", f"ip={ip}", f'mac="{mac}"', f"datapath={listed.strip()}")
        self.run(*sbctl, "create", "mac_binding", *values)

    def datapath(self, name: str) -> str:
        """Return the uuid of a logical switch or router, as a trace names it."""
        listed = self.run(
            "ovn-nbctl", f"--db=unix:{self.rundir / 'nb.sock'}", *("ls-list", "--", "lr-list")
        )
        return next(line.split()[0] for line in listed.splitlines() if line.endswith(f"({name})"))

    def trace(self, case: Case) -> str:
        """Trace with a process of its own, its conntrack states stated for every step."""
        return self.run(
            "ovn-trace",
            f"--db=unix:{self.rundir / 'sb.sock'}",
            "--no-friendly-names",
            "--detailed",
            *([f"--ct={case.ct}"] * 8),
            *([f"--select-id={case.select}"] if case.select else []),
            microflow(case),
        )


def microflow(case: Case) -> str:
    """Return the packet of a case as an OVN expression."""
    (source_mac, source_ip), (to_mac, to_ip) = (
        ADDRESSES[name].split() for name in (case.source, case.to)
    )
    ip = "ip6" if ":" in to_ip else "ip4"
    return (
        f'inport == "{INPORTS.get(case.source, case.source)}" && eth.src == {source_mac} && '
        f"eth.dst == {to_mac} && {ip}.src == {source_ip} && {ip}.dst == {to_ip} && "
        f"ip.ttl == {case.ttl} && "
        f"{case.protocol}.src == 52888 && {case.protocol}.dst == {case.port}"
    )


@contextmanager
def sandbox(toolchain: Toolchain, rundir: Path) -> Iterator[Sandbox]:
    """Serve both databases and run ovn-northd."""
    box = Sandbox(toolchain, rundir)
    processes = []
    try:
        for name in ("nb", "sb"):
            schema = toolchain.schema(f"ovn-{name}.ovsschema")
            box.run("ovsdb-tool", "create", str(rundir / f"{name}.db"), str(schema))
            processes.append(
                box.start(
                    "ovsdb-server",
                    f"--remote=punix:{rundir / name}.sock",
                    f"--unixctl={rundir / name}.ctl",
                    str(rundir / f"{name}.db"),
                )
            )
            _wait_for(rundir / f"{name}.sock")
        box.run("ovn-nbctl", f"--db=unix:{rundir / 'nb.sock'}", "init")
        remotes = (f"--ovn{name}-db=unix:{rundir / name}.sock" for name in ("nb", "sb"))
        processes.append(box.start("ovn-northd", *remotes, f"--unixctl={rundir / 'northd.ctl'}"))
        yield box
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=_DEADLINE_S)


def _wait_for(socket: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not socket.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(socket)
        time.sleep(0.01)


def record(toolchain: Toolchain, directory: Path) -> None:
    """Write the traces of one release, and the database they were made on."""
    with tempfile.TemporaryDirectory(prefix="golden-") as run:
        rundir = Path(run)
        with sandbox(toolchain, rundir) as box:
            box.run(
                "ovn-sbctl",
                f"--db=unix:{rundir / 'sb.sock'}",
                *("chassis-add", "hv1", "geneve", "127.0.0.1"),
            )
            box.nbctl(TOPOLOGY)
            box.learn("gw-ext", "203.0.113.254", "0c:00:00:00:00:fe")
            if toolchain.version >= SPLIT:
                box.nbctl(TIERS)
            if toolchain.version >= DISTRIBUTED:
                box.nbctl(LATEST)
            for case in cases(toolchain.version):
                expected = dict(case.expected)
                if "datapath" in expected:
                    expected["datapath"] = box.datapath(expected["datapath"])
                _write(directory / case.name, case, expected, box.trace(case))
            box.run("ovs-appctl", "-t", str(rundir / "sb.ctl"), "ovsdb-server/compact")
        packed = gzip.compress((rundir / "sb.db").read_bytes(), mtime=0)
        (directory / "sb.db.gz").write_bytes(packed)


def _write(directory: Path, case: Case, expected: Mapping[str, Any], trace: str) -> None:
    directory.mkdir(parents=True)
    (directory / "trace.txt").write_text(trace)
    asked = {
        "microflow": microflow(case),
        "ct": case.ct,
        "target": case.target,
        "select": case.select,
        "draws": case.draws,
    }
    for name, content in (("asked", asked), ("hop", expected)):
        text = json.dumps(content, indent=2, sort_keys=True)
        (directory / f"{name}.json").write_text(f"{text}\n")


def main() -> None:
    """Record anew with the releases named, or with every release at hand."""
    for toolchain in toolchains.find():
        release = toolchain.version.release
        if sys.argv[1:] and release not in sys.argv[1:]:
            continue
        directory = HERE / f"ovn-{release}"
        shutil.rmtree(directory, ignore_errors=True)
        record(toolchain, directory)
        print(f"{directory.name}: {len(list(directory.iterdir())) - 1} cases")  # noqa: T201


if __name__ == "__main__":
    main()
