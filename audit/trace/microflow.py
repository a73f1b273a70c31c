"""Microflow → the expression `ovn-trace` takes. Pure."""

import re

from audit.model.packets import Microflow

_PORT_NAME = re.compile(r'[^"\\\x00-\x1f\x7f\ud800-\udfff]+')


class UnnameableError(ValueError):
    """A logical port's name cannot stand in a quoted string."""


def expression(flow: Microflow) -> str:
    """Return `flow` as an OVN expression (ovn-trace(8); ovn-sb(5), Logical_Flow match).

    UnnameableError when the port's name could not stand in a quoted string.
    """
    if not _PORT_NAME.fullmatch(flow.inport):
        raise UnnameableError(f"logical port {flow.inport!r} cannot be named in an expression")
    return (
        f'inport=="{flow.inport}" && eth.src=={flow.eth_src} && eth.dst=={flow.eth_dst} && '
        f"{flow.family}.src=={flow.ip_src} && {flow.family}.dst=={flow.ip_dst} && "
        f"ip.ttl=={flow.ttl} && "
        f"{flow.protocol}.dst=={flow.dst_port} && {flow.protocol}.src=={flow.src_port}"
    )
