"""What was read of a trace, as text: how a resumed run has it again without tracing.

A hop is judged anew from it, by the rules of the program that resumes, which is the one that
wrote it. The engine's own words are in the same row and stay there.
"""

import msgspec

from audit.model.packets import Microflow
from audit.model.traces import DatapathTrace, Hop, LogicalTrace, TraceOutcome, Tunnel


class _Read(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A trace that ran; the last four are the datapath's."""

    hop: Hop
    datapath: bool = False
    flow: str = ""
    tunnel: Tunnel | None = None
    packet: Microflow | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Read)


def encode(outcome: TraceOutcome) -> str | None:
    """Return the text of what was read; None of a trace that failed, which is to be run again."""
    match outcome:
        case DatapathTrace(hop=hop, flow=flow, tunnel=tunnel, packet=packet):
            read = _Read(hop=hop, datapath=True, flow=flow, tunnel=tunnel, packet=packet)
        case LogicalTrace(hop=hop):
            read = _Read(hop=hop)
        case _:
            return None
    return _ENCODER.encode(read).decode()


def decode(key: str, text: str) -> LogicalTrace:
    """Return the outcome that `text` was made of, without the engine's words.

    ValueError when it is none.
    """
    read = _DECODER.decode(text)
    if not read.datapath:
        return LogicalTrace(key=key, hop=read.hop, output="")
    return DatapathTrace(
        key=key, hop=read.hop, output="", flow=read.flow, tunnel=read.tunnel, packet=read.packet
    )
