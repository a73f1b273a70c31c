"""What of a cluster is not as it was when a snapshot of it was taken: objects, and databases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import ClusterError
from audit.facts import ovn
from audit.facts.live import capture, ovn_pods, streams
from audit.facts.live.access import Access
from audit.facts.live.api import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """A cluster at another time: `changed` pods, or pods whose policies or namespaces did.

    `markers` are those of the zones that could be asked.
    """

    resource_versions: Mapping[str, str]
    changed: frozenset[str]
    markers: Mapping[str, Mapping[str, int]]


def _select(schema: str, **tables: tuple[str, ...]) -> str:
    operations = [
        {"op": "select", "table": table, "where": [], "columns": list(columns)}
        for table, columns in tables.items()
    ]
    return json.dumps([schema, *operations])


_ASKED = {
    "OVN_Northbound": _select("OVN_Northbound", NB_Global=ovn.NB_MARKERS),
    "OVN_Southbound": _select(
        "OVN_Southbound", SB_Global=ovn.SB_MARKERS, Chassis_Private=ovn.CHASSIS_MARKERS
    ),
}
"""Constant transactions (RFC 7047, 4.1.3) that only read."""


def look(access: Access, snapshot: Path) -> Afterwards:
    """Compare a cluster with a snapshot of it; ClusterError when it cannot be listed."""
    before = {
        file.stem: json.loads(file.read_text(encoding="utf-8"))["items"]
        for file in (snapshot / "kube").glob("*.json")
    }
    with Server(access) as server:
        versions, after = capture.watched(server, before)
        changed = capture.concerned(before, after)
        located = ovn_pods.find(after["pods"], access.namespace)
    members = ovn_pods.by_zone(located, snapshot)
    answers = [
        streams.Opener(
            access=access,
            containers={zone: tuple(m[side] for m in of) for zone, of in members.items()},
        ).outputs(
            ("ovsdb-client", "--no-leader-only", "transact", ovn_pods.SOCKETS[schema], transaction)
        )
        for side, (schema, transaction) in enumerate(_ASKED.items())
    ]
    markers = {zone: _markers(*(answer[zone] for answer in answers)) for zone in members}
    return Afterwards(
        resource_versions=versions,
        changed=frozenset(changed),
        markers={zone: counters for zone, counters in markers.items() if counters},
    )


def _markers(north: str | ClusterError, south: str | ClusterError) -> Mapping[str, int]:
    """Return a zone's markers; none where it could not be asked."""
    if isinstance(north, ClusterError) or isinstance(south, ClusterError):
        return {}
    try:
        rows: list[list[dict[str, Any]]] = [
            result["rows"] for answer in (north, south) for result in json.loads(answer)
        ]
        return ovn.markers(*rows)
    except (ValueError, LookupError, TypeError):
        return {}
