"""Which of a southbound's datapaths a packet can come to, by the port that it enters by. Pure.

Each network has datapaths of its own, and with hundreds of them most of a zone's flows are for
others than a packet's. It gets from one datapath to another by a port that has a peer only
(ovn-sb(5), Port_Binding, `options:peer`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import msgspec

from audit.model.components import components
from audit.replay import lean
from audit.replay.tables import Row, Tables

_GROUPS = "Logical_DP_Group"
_PORTS = "Port_Binding"
_OF_A_DATAPATH = (_PORTS, "Multicast_Group")
_REFERRED = re.compile(rb'"uuid",\s*"([0-9a-f-]{36})"')
"""A row that another refers to (RFC 7047, 5.1), as OVSDB writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """Names for datapaths that are connected, by port, by datapath, and by group of datapaths.

    Such a name is no port's and no address. Datapaths, and groups of them, are uuids. `of_row` has
    the names for rows, uuids of `_OF_A_DATAPATH`, that nothing but a packet asks for.
    """

    of_port: Mapping[str, str]
    of_datapath: Mapping[str, str]
    of_group: Mapping[str, frozenset[str]]
    of_row: Mapping[str, str]

    @classmethod
    def of(cls, tables: Tables, transactions: Iterable[lean.Transaction]) -> "Connected":
        """Read a southbound database, whose file has these transactions."""
        bindings = tables.rows(_PORTS, ("logical_port", "datapath", "options"))
        datapath_of = {row["logical_port"]: row["datapath"] for row in bindings}
        # Whatever option of a port names another one: that is more than its peer, which is enough.
        joined = [
            (row["datapath"], datapath_of[option])
            for row in bindings
            for option in row["options"].values()
            if option in datapath_of
        ]
        together = components(datapath_of.values(), joined)
        names = {each: f"connected with {min(others)}" for each, others in together.items()}
        return cls(
            of_port={port: names[datapath] for port, datapath in datapath_of.items()},
            of_datapath=names,
            of_group={
                row["_uuid"]: frozenset(names.get(each, each) for each in _several(row))
                for row in tables.rows(_GROUPS, ("_uuid", "datapaths"))
            },
            of_row={}
            if len(set(names.values())) == 1
            else _unreferred(tables, names, transactions),
        )

    def of_flow(self, datapath: Any, group: Any) -> frozenset[str]:  # noqa: ANN401 - JSON
        """Return what a flow is in, by those columns of its row; nothing where that is unknown."""
        if isinstance(datapath, list) and datapath[0] == "uuid":
            return frozenset({self.of_datapath.get(datapath[1], datapath[1])})
        if isinstance(group, list) and group[0] == "uuid":
            return self.of_group.get(group[1], frozenset())
        return frozenset()

    def leave_out(
        self, transactions: Sequence[lean.Transaction], entered: AbstractSet[str]
    ) -> None:
        """Leave out what is of no datapath that is `entered`: `ovn-trace` looks through all ports.

        And take such datapaths out of groups, for each of which it reads a flow. Groups that
        several transactions write stay as they are, and so do those of which nothing would be
        left: whatever has these is not here.
        """
        changing = lean.changing(transactions, _GROUPS)
        for transaction, rows in lean.rows_of(transactions, _GROUPS):
            left = {
                uuid: row if uuid in changing else self._without(row, entered)
                for uuid, row in rows.items()
            }
            lean.put(transaction, _GROUPS, left)
        aside = {uuid for uuid, name in self.of_row.items() if name not in entered}
        for table in _OF_A_DATAPATH:
            for transaction, rows in lean.rows_of(transactions, table):
                lean.put(transaction, table, {u: rows[u] for u in rows if u not in aside})

    def _without(self, row: msgspec.Raw, entered: AbstractSet[str]) -> msgspec.Raw:
        decoded = msgspec.json.decode(row)
        datapaths = (decoded or {}).get("datapaths", [])
        if datapaths[:1] != ["set"]:
            return row
        left = [each for each in datapaths[1] if self.of_datapath.get(each[1]) in entered]
        if not left:
            return row
        decoded["datapaths"] = ["set", left]
        return msgspec.Raw(msgspec.json.encode(decoded))


def _unreferred(
    tables: Tables, names: Mapping[str, str], transactions: Iterable[lean.Transaction]
) -> Mapping[str, str]:
    """Return the names for the rows that no other refers to, but for such of the same datapath."""
    referred = {
        uuid.decode()
        for transaction in transactions
        for table, text in transaction.items()
        if table not in (*_OF_A_DATAPATH, "Logical_Flow")
        for uuid in _REFERRED.findall(text)
    }
    return {
        row["_uuid"]: names[row["datapath"]]
        for table in _OF_A_DATAPATH
        for row in tables.rows(table, ("_uuid", "datapath"))
        if row["_uuid"] not in referred and row["datapath"] in names
    }


def _several(row: Row) -> Iterable[str]:
    """Return a group's datapaths; of one it is that itself."""
    datapaths = row["datapaths"]
    return [datapaths] if isinstance(datapaths, str) else datapaths
