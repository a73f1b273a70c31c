"""What a run's Parquet files hold: one schema per table, one description per column.

The store is a product: people point their own SQL at it. So the schema has a version, a reader
refuses those it does not know, every column says what it means (the text travels in the files, as
field metadata) and `docs/store.md` is printed from this module.

Text that repeats is dictionary-encoded: a cell costs small integers, not strings. A null means
*not asked* or *none*; an empty text means that Kubernetes has none there (a node's namespace).
"""

from dataclasses import dataclass, fields

import pyarrow as pa

from audit.model.endpoints import Endpoint
from audit.model.verdicts import REASONS, VERDICTS

SCHEMA_VERSION = 5
OLDEST_VERSION = 2
"""The oldest that is read: what it lacks is an optional column."""
SUMMED_VERSION = 4
"""From here on `run.json` has the sum of its own content, and is refused without it."""
HISTORY: tuple[tuple[int, str], ...] = (
    (1, "The first: cells, endpoints, policies and traces."),
    (2, "`cells.port_end`, `cells.other_trace_id`, `traces.node`: port ranges, a second plane."),
    (3, "`traces.read`, which a run goes on from when it is resumed. Version 2 is read as well."),
    (
        4,
        (
            "Endpoints of kind `ingress`; `cells.src_network` and `cells.dst_network`, "
            "`endpoints.network` and `endpoints.network_role`; `run.json` always has "
            "`content_sha256` and `coverage.unprovable`. Versions 2 and 3 are read as well. "
            "`probes` is there in runs that `audit probe` added to: who does not know it reads the "
            "rest as it was."
        ),
    ),
    (
        5,
        (
            "A run of the objects alone (`--planes intent`, `--manifests`) has `blocks` and the "
            "four tables beside it instead of `cells`, which is a view of them. All other runs "
            "have `cells`, as before. Versions 2 to 4 are read as well."
        ),
    ),
)

WORD = pa.dictionary(pa.int32(), pa.string())
"""Text that repeats from row to row."""
TEXT = pa.string()
TEXTS = pa.list_(pa.string())
LABELS = pa.map_(pa.string(), pa.string())
DECLARED = pa.list_(
    pa.struct([("name", pa.string()), ("protocol", pa.string()), ("port", pa.int32())])
)


def _column(name: str, kind: pa.DataType, text: str) -> pa.Field:
    """Return a column that always has a value."""
    return pa.field(name, kind, nullable=False, metadata={"description": text})


def _optional(name: str, kind: pa.DataType, text: str) -> pa.Field:
    """Return a column that may be null."""
    return pa.field(name, kind, nullable=True, metadata={"description": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of a run: one file, or every file of `directory` when that is not empty."""

    name: str
    text: str
    schema: pa.Schema
    directory: str = ""
    optional: bool = False
    """Whether a run may have no file of it, which is as if it had no row."""

    @property
    def pattern(self) -> str:
        """Where the table is in the run directory, as a reader would type it."""
        return f"{self.directory}/*.parquet" if self.directory else f"{self.name}.parquet"


def description(field: pa.Field) -> str:
    """Return what a column means."""
    text: bytes = field.metadata[b"description"]
    return text.decode()


CELLS = Table(
    name="cells",
    directory="cells",
    text="One row per cell: a source, a destination, an address family, a protocol and a port. "
    "Sorted by source, destination, family and port. A run of the objects alone has no such file: "
    "its cells are a view of `blocks`, in no order.",
    schema=pa.schema(
        [
            _column("src_kind", WORD, "Source: `pod`, `service`, `node`, `external` or `ingress`."),
            _column("src_namespace", WORD, "Source's namespace; a pod's or Service's."),
            _column(
                "src_name",
                WORD,
                "Source's name; an external's address; `route/shop/web` of kind `ingress`.",
            ),
            _column("src_node", WORD, "Source's node; empty when it is on none."),
            _column("dst_kind", WORD, "Destination: `pod`, `service`, `node` or `external`."),
            _column("dst_namespace", WORD, "Destination's namespace; empty as for the source."),
            _column("dst_name", WORD, "Destination's name; an external's address."),
            _column("dst_node", WORD, "Destination's node; empty when it is on none."),
            _column("family", WORD, "Address family: `ip4` or `ip6`."),
            _column("protocol", WORD, "`tcp`, `udp`, `sctp`, or `icmp`: a ping, whose port is 0."),
            _column("port", pa.int32(), "Destination port; of a range the first, which may be 0."),
            _column(
                "verdict",
                WORD,
                "The strongest evidence present (datapath over logical over intent): `reachable`, "
                "`exits`, `blocked`, `unroutable`, `inconclusive` or `untraced`. The last two are "
                "unproven: count them as neither side.",
            ),
            _optional("reply", WORD, "The reply's verdict; null when there is none to trace."),
            _optional("predicted", WORD, "The planner's own prediction; null when not made."),
            _optional("intent", WORD, "The policy objects' verdict; null when not asked."),
            _optional("logical", WORD, "OVN's verdict; null when not asked."),
            _optional("datapath", WORD, "OpenFlow's verdict; null when not asked."),
            _optional(
                "drift", pa.bool_(), "Whether two planes disagree; null with fewer than two."
            ),
            _optional(
                "blame_kind",
                WORD,
                "Kubernetes kind of the policy that decided (`NetworkPolicy`, "
                "`AdminNetworkPolicy`, …); null when no known object did.",
            ),
            _optional(
                "blame_namespace", WORD, "That policy's namespace; empty when cluster-scoped."
            ),
            _optional(
                "blame_name",
                WORD,
                "That policy's name. Without a `blame_kind`: what decided, in OVN's words (the "
                "ACL's owner, the ACL or the stage). Null when nothing is to blame.",
            ),
            _optional("blame_direction", WORD, "`ingress` or `egress`, as the policy has it."),
            _optional(
                "blame_rule",
                pa.int32(),
                "Index in `spec.ingress` or `spec.egress`, from 0; null when no single rule "
                "decided.",
            ),
            _column("reason", WORD, "Stable code of why; `docs/verdicts.md` explains each."),
            _optional(
                "trace_id",
                WORD,
                "The request's first trace (`traces.trace_id`), whose `next_ids` lead on; null "
                "when none was needed or possible.",
            ),
            _column(
                "port_end",
                pa.int32(),
                "The last port of a range that nothing tells apart (`--port all`); else `port`.",
            ),
            _optional(
                "other_trace_id",
                WORD,
                "The request's first trace in the other plane that was asked: of the two, "
                "`trace_id` is the one whose verdict is the cell's. Null with one plane.",
            ),
            _column(
                "src_network",
                WORD,
                "The network that the source sends on, a pod's: `default` or a user-defined one.",
            ),
            _column(
                "dst_network",
                WORD,
                "The network that the destination is reached on; empty as for the source.",
            ),
        ]
    ),
)

ENDPOINT_KEY = ("kind", "namespace", "name", "node", "network")
"""The columns that name an endpoint; in `cells` after `src_` or `dst_`."""
_ON = ("family", "protocol", "port", "port_end")

ENDPOINTS = Table(
    name="endpoints",
    text="One row per endpoint: what can be a source or a destination. `kind`, `namespace`, "
    "`name`, `node` and `network` together name it, as the `src_` and `dst_` columns of `cells` "
    "do.",
    schema=pa.schema(
        [
            _column("kind", WORD, "`pod`, `service`, `node`, `external` or `ingress`."),
            _column("namespace", WORD, "Namespace; of pods and Services."),
            _column(
                "name", TEXT, "Name; an external's address; `route/shop/web` of kind `ingress`."
            ),
            _column("node", WORD, "Node; empty when it is on none."),
            _column("addresses", TEXTS, "What others send to: both families, in their order."),
            _column("labels", LABELS, "Labels, as `labels['app']`."),
            _column("workload", WORD, "What owns the pod; empty when nothing does."),
            _column("host_network", pa.bool_(), "Whether it uses its node's network."),
            _column("declared", DECLARED, "Ports it declares: name, protocol and port."),
            _optional("zone", WORD, "OVN zone it is attached in; null when it is not in OVN."),
            _optional("switch", WORD, "Logical switch it is attached to."),
            _optional("logical_port", TEXT, "Logical switch port of its packets."),
            _optional("mac", TEXT, "MAC it sends from."),
            _optional("gateway_mac", TEXT, "MAC of the router port it sends off-link to."),
            _optional("sends_from", TEXTS, "Addresses it sends with."),
            _column(
                "obstacle", WORD, "Reason code that leaves its cells untraced; empty when none."
            ),
            _column("network", WORD, "A pod's network here: `default` or a user-defined one."),
            _column(
                "network_role",
                WORD,
                "What that is to the pod: `primary`, `secondary` or `infrastructure-locked`.",
            ),
        ]
    ),
)

PLAIN_OF_ENDPOINTS = tuple(
    sorted(
        {field.name for field in fields(Endpoint)}
        & {*ENDPOINTS.schema.names} - {"declared", "network"}
    )
)
"""Columns of `endpoints` that hold what the value has under the same name."""

POLICIES = Table(
    name="policies",
    text="One row per policy object of the cluster.",
    schema=pa.schema(
        [
            _column("kind", WORD, "Kubernetes kind, as in `cells.blame_kind`."),
            _column("namespace", WORD, "Namespace; empty for cluster-scoped kinds."),
            _column("name", TEXT, "Name."),
            _column("directions", TEXTS, "`ingress` and `egress`, whichever it restricts."),
            _column("ingress_rules", pa.int32(), "How many ingress rules it has."),
            _column("egress_rules", pa.int32(), "How many egress rules it has."),
            _column("manifest", TEXT, "The object as YAML, without what the server wrote."),
        ]
    ),
)

TRACES = Table(
    name="traces",
    directory="traces",
    text="One row per real trace: one packet through one zone, what decided it, and the engine's "
    "own words. A headless Service's name is no packet, nor is a Service whose endpoints' packets "
    "others stand for: its row has no microflow, and "
    "`next_ids` are the traces to its endpoints; without any, the row only names the endpoints in "
    "`detail`, and each cell the one trace that stands for all of them. Each file is one batch, "
    "sorted by `trace_id`.",
    schema=pa.schema(
        [
            _column("trace_id", TEXT, "Made of what was traced: a rerun has the same."),
            _column("plane", WORD, "`logical` or `datapath`."),
            _column("zone", WORD, "OVN zone that was asked."),
            _column("node", WORD, "Node whose Open vSwitch was asked; empty on the logical plane."),
            _column("conntrack", WORD, "State at every conntrack step: `new` or `est,rpl`."),
            _column("microflow", TEXT, "The packet, as the engine was given it."),
            _column("outcome", WORD, "How the packet's way through this zone ended."),
            _column("reason", WORD, "Reason code, as in `cells.reason`."),
            _column("stage", WORD, "Stage that decided, by name."),
            _column("logical_flow", TEXT, "Logical flow that decided."),
            _column("acl", TEXT, "Northbound ACL behind that flow; empty when none is."),
            _column("acl_match", TEXT, "That ACL's match; empty when there is none."),
            _column("policy_kind", WORD, "Kind of the policy behind the ACL; empty when none."),
            _column("policy_namespace", WORD, "That policy's namespace."),
            _column("policy_name", WORD, "That policy's name."),
            _column("policy_direction", WORD, "`ingress`, `egress` or empty."),
            _optional("policy_rule", pa.int32(), "Index of its rule; null when no single one."),
            _column("policies", TEXTS, "Every policy that shares the decision."),
            _column("detail", TEXT, "What else the reader should know, in a sentence."),
            _column("next_ids", TEXTS, "Traces that took over where this one's zone ended."),
            _column("reply_of", TEXTS, "Traces whose replies this is; empty for requests."),
            _column("raw", TEXT, "The engine's output, unchanged."),
            _optional(
                "read",
                TEXT,
                "What was read of `raw`, as JSON, for `audit run --resume`; null when the trace "
                "failed.",
            ),
        ]
    ),
)

CODED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("verdict", "reply", "intent", "logical", "datapath"), VERDICTS),
    "reason": REASONS,
}
"""Columns of `cells` that are arrays of codes in `audit.model.matrix`, and the words coded so."""

TRACE_FIELDS = {
    "trace_id": "key",
    "conntrack": "state",
    "next_ids": "next_keys",
    "raw": "output",
}
"""Columns of `traces` that `audit.model.run.TraceRecord` calls otherwise."""

_CELL_OF_PROBE = (
    *(
        f"{side}_{name}"
        for side in ("src", "dst")
        for name in ("kind", "namespace", "name", "node")
    ),
    *("family", "protocol", "port", "port_end", "src_network", "dst_network"),
)
"""Columns that name the cell, as in `cells`."""

PROBES = Table(
    name="probes",
    directory="probes",
    optional=True,
    text="One row per real connection that `audit probe` tried, for one cell; none in a run that "
    "was not probed. Each file is one call of `audit probe`, in the order of their names: of a "
    "cell that is in several the last counts.",
    schema=pa.schema(
        [
            *(CELLS.schema.field(name) for name in _CELL_OF_PROBE),
            _column(
                "response",
                WORD,
                "What the client saw: `connected`, `refused`, `unreachable`, `unanswered`, or "
                "`not-sent` when no connection was tried.",
            ),
            _column(
                "verdict",
                WORD,
                "What that proves: `reachable`, `inconclusive` or `untraced`. A connection cannot "
                "prove that packets are stopped.",
            ),
            _optional(
                "drift",
                pa.bool_(),
                "Whether it contradicts the cell's verdict; null where either proves nothing.",
            ),
            _column("expected", WORD, "The cell's verdict when it was probed."),
            _optional("expected_reply", WORD, "Its reply's; null when there was none to trace."),
            _column("meaning", WORD, "Why the response comes to this verdict, in a sentence."),
            _column("client", WORD, "The program that tried it; empty when none did."),
            _column("detail", TEXT, "What that printed, or why nothing was tried."),
            _column("address", TEXT, "The address that was connected to."),
            _column("probed_port", pa.int32(), "The port of it: of a range its last."),
            _column("tried_at", TEXT, "When the response came, in UTC (ISO 8601)."),
        ]
    ),
)

_CLASS_OF_SOURCES = "A class of sources that nothing tells apart, as in `block_sources`."
_CLASS_OF_DESTINATIONS = "A class of destinations and ports, as in `block_destinations`."
_OF_STATES = (
    *("verdict", "intent", "reason"),
    *(f"blame_{name}" for name in ("kind", "namespace", "name", "direction", "rule")),
)

BLOCKS = Table(
    name="blocks",
    directory="blocks",
    optional=True,
    text="In a run of the objects alone, in place of `cells`: one row per pair of classes that has "
    "cells, all of which come to the same. None in any other run. A class is what policies, "
    "networks and ports do not tell apart; `block_exceptions` are cells that are otherwise.",
    schema=pa.schema(
        [
            _column("src_class", pa.int32(), _CLASS_OF_SOURCES),
            _column("dst_class", pa.int32(), _CLASS_OF_DESTINATIONS),
            _column("state", pa.int32(), "What its cells come to, as in `block_states`."),
        ]
    ),
)

BLOCK_SOURCES = Table(
    name="block_sources",
    optional=True,
    text="Beside `blocks`: one row per source, with the class it is in.",
    schema=pa.schema(
        [
            _column("source", pa.int32(), "Its number: its row in `endpoints`, from 0."),
            *(CELLS.schema.field(f"src_{name}") for name in ENDPOINT_KEY),
            _optional(
                "src_class", pa.int32(), "Its class; null when all its cells are exceptions."
            ),
        ]
    ),
)

BLOCK_DESTINATIONS = Table(
    name="block_destinations",
    optional=True,
    text="Beside `blocks`: one row per destination, family and port, with the class it is in.",
    schema=pa.schema(
        [
            _column("destination", pa.int32(), "Its number: its row here, from 0."),
            *(CELLS.schema.field(f"dst_{name}") for name in ENDPOINT_KEY),
            *(CELLS.schema.field(name) for name in _ON),
            _column("dst_class", pa.int32(), "Its class."),
        ]
    ),
)

BLOCK_STATES = Table(
    name="block_states",
    optional=True,
    text="Beside `blocks`: one row per state, which is what cells come to, in columns of `cells`.",
    schema=pa.schema(
        [
            _column("state", pa.int32(), "Its number, from 1."),
            *(CELLS.schema.field(name) for name in _OF_STATES),
        ]
    ),
)

BLOCK_EXCEPTIONS = Table(
    name="block_exceptions",
    optional=True,
    text="Beside `blocks`: one row per cell that does not come to what its classes do, such as one "
    "from a pod's own node, or that is none, such as one from a pod to itself.",
    schema=pa.schema(
        [
            _column("source", pa.int32(), "Its source, as in `block_sources`."),
            _column("destination", pa.int32(), "Its destination, as in `block_destinations`."),
            _optional("state", pa.int32(), "What it comes to; null where there is no such cell."),
        ]
    ),
)

BY_CLASS = (BLOCKS, BLOCK_SOURCES, BLOCK_DESTINATIONS, BLOCK_STATES, BLOCK_EXCEPTIONS)
"""What a run of the objects alone has in place of cells."""

TABLES = (CELLS, ENDPOINTS, POLICIES, TRACES, PROBES, *BY_CLASS)
