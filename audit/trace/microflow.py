"""Microflow → the expression `ovn-trace` takes. Pure."""

import re

from audit.model.packets import Family, Microflow, Protocol

_PORT_NAME = re.compile(r'[^"\\\x00-\x1f\x7f\ud800-\udfff]+')


class UnnameableError(ValueError):
    """A logical port's name cannot stand in a quoted string."""


def expression(flow: Microflow) -> str:
    """Return `flow` as an OVN expression (ovn-trace(8); ovn-sb(5), Logical_Flow match).

    UnnameableError when the port's name could not stand in a quoted string.
    """
    if not _PORT_NAME.fullmatch(flow.inport):
        raise UnnameableError(f"logical port {flow.inport!r} cannot be named in an expression")
    if flow.protocol is Protocol.ICMP:
        version = "icmp4" if flow.family is Family.IP4 else "icmp6"
        what = f"{version}.type=={flow.icmp_type} && {version}.code==0"
    else:
        what = f"{flow.protocol}.dst=={flow.dst_port} && {flow.protocol}.src=={flow.src_port}"
    return (
        f'inport=="{flow.inport}" && eth.src=={flow.eth_src} && eth.dst=={flow.eth_dst} && '
        f"{flow.family}.src=={flow.ip_src} && {flow.family}.dst=={flow.ip_dst} && "
        f"ip.ttl=={flow.ttl} && {what}"
    )
