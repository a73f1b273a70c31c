"""What of a southbound database traces depend on, as one digest that says whether it changed.

It is all of it, uuids too, but for what says how far processes have come and when: `ovn-trace`
reads logical flows, bindings and what these name (ovn-trace.c, OVN 25.03), and none of that.
"""

import hashlib

from audit.model.engine import Tables

_WITHOUT = {
    "SB_Global": (),  # its options are looked at below
    "Chassis_Private": (),
    "Connection": (),
    "SSL": (),
    "RBAC_Role": (),
    "RBAC_Permission": (),
    "Chassis": ("nb_cfg",),
    "MAC_Binding": ("timestamp",),
    "FDB": ("timestamp",),
}
"""Columns that change while nothing does, by table; the whole table where there are none."""
_HEARTBEATS = frozenset({"e2e_timestamp"})
"""Options in which OVN-Kubernetes writes the time, to measure how long a change takes."""


def southbound(tables: Tables) -> str:
    """Return the digest of a southbound database."""
    total = hashlib.blake2b(tables.digest(_WITHOUT).encode(), digest_size=16)
    for row in tables.rows("SB_Global", ("options",)):
        for name, value in sorted(row.get("options", {}).items()):
            if name not in _HEARTBEATS:
                total.update(f"{name}={value}\n".encode())
    return total.hexdigest()
