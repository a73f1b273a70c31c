"""A zone read from real databases: recorded ones, one of an older schema, one with two networks."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audit.facts.ovn import read_zone
from audit.model.packets import Protocol
from audit.model.verdicts import PolicyRef
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain

NEWER = {
    "ACL": ("tier",),
    "Load_Balancer": ("options",),
    "SB_Global": ("options",),
}
"""Columns that OVN-Kubernetes' first releases ran without."""


def make(
    toolchain: Toolchain, path: Path, *operations: dict[str, Any], older: bool = False
) -> Path:
    """Make a database with this release's schema, or one without the newer columns."""
    name = "ovn-nb.ovsschema" if path.name == "nb.db" else "ovn-sb.ovsschema"
    schema = json.loads(toolchain.schema(name).read_text())
    for table, columns in NEWER.items() if older else ():
        for column in columns if table in schema["tables"] else ():
            del schema["tables"][table]["columns"][column]
    if older:
        schema["tables"].pop("Port_Group", None)
    schema.pop("cksum")
    written = path.with_suffix(".ovsschema")
    written.write_text(json.dumps(schema))
    query = json.dumps([schema["name"], *operations])
    for argv in (("create", str(path), str(written)), ("transact", str(path), query)):
        done = subprocess.run(
            toolchain.argv("ovsdb-tool", *argv), capture_output=True, check=True, text=True
        )
        assert "error" not in done.stdout, done.stdout
    return path


def insert(table: str, **row: Any) -> dict[str, Any]:
    maps = {
        key: ["map", list(value.items())] for key, value in row.items() if isinstance(value, dict)
    }
    return {"op": "insert", "table": table, "row": {**row, **maps}}


def test_a_recorded_zone(recorded: Path, reader: OvsdbTool) -> None:
    for place in recorded.glob("ovn/*"):
        zone = read_zone(reader, place.name, place / "nb.db", place / "sb.db")
        assert zone.name == place.name
        assert zone.northd_version.startswith("23.03" if place.name == "global" else "25.03")
        assert zone.sequence.count("/") == 1
        uuids = [acl.uuid for acls in zone.acls.values() for acl in acls]
        assert len(uuids) == len(set(uuids)) > 30
        assert all(
            uuid.startswith(prefix) for prefix, acls in zone.acls.items() for uuid in [acls[0].uuid]
        )
        # Every logical flow of an ACL names an ACL of this zone, but for northd's own few.
        hints = {hint.hint for hints in zone.flow_hints.values() for hint in hints}
        assert len(hints & zone.acls.keys()) / len(hints) > 0.9
        assert all("acl" in hint.stage for hints in zone.flow_hints.values() for hint in hints)
        for key, found in zone.by_tunnel_key.items():
            assert (found.datapath, found.tunnel_key) == key
        assert not zone.torn


def test_recorded_load_balancers_have_the_clusters_services(
    recorded: Path, reader: OvsdbTool
) -> None:
    services = json.loads((recorded / "kube/services.json").read_text())["items"]
    vips = {
        (ip, port["port"])
        for service in services
        for ip in service["spec"].get("clusterIPs", ())
        for port in service["spec"]["ports"]
        if ip != "None"
    }
    for place in recorded.glob("ovn/*"):
        zone = read_zone(reader, place.name, place / "nb.db", place / "sb.db")
        found = {(ip, port) for balancer in zone.load_balancers for ip, port, _ in balancer.vips}
        assert vips <= found
        owners = {balancer.owner for balancer in zone.load_balancers}
        assert "default/kubernetes" in owners


def test_an_older_schema(tmp_path: Path, toolchain: Toolchain, reader: OvsdbTool) -> None:
    north = make(
        toolchain,
        tmp_path / "nb.db",
        insert("NB_Global", nb_cfg=3),
        insert(
            "Logical_Switch",
            name="worker",
            other_config={"subnet": "10.1.0.0/24", "ipv6_prefix": "fd01::"},
        ),
        insert(
            "Load_Balancer",
            name="lb",
            vips={"10.2.0.1:80": "10.1.0.3:8080,10.1.0.4:8080", "10.2.0.2": "10.1.0.3"},
        ),
        insert(
            "Load_Balancer",
            name="lb6",
            protocol="udp",
            vips={"[fd02::1]:53": "[fd01::3]:5353", "fd02::2": "fd01::3", "[fd02::3]:80": ""},
        ),
        older=True,
    )
    south = make(toolchain, tmp_path / "sb.db", insert("SB_Global", nb_cfg=2), older=True)
    zone = read_zone(reader, "global", north, south)
    assert (zone.northd_version, zone.sequence) == ("", "3/2")
    assert zone.switches == {"worker": ("10.1.0.0/24", "fd01::/64")}
    assert zone.port_groups == ()
    balancers = {balancer.owner: balancer for balancer in zone.load_balancers}
    assert balancers["lb"].protocol is Protocol.TCP
    assert balancers["lb"].vips == (("10.2.0.1", 80, ("10.1.0.3:8080", "10.1.0.4:8080")),)
    assert balancers["lb6"].protocol is Protocol.UDP
    assert set(balancers["lb6"].vips) == {
        ("fd02::1", 53, ("[fd01::3]:5353",)),
        ("fd02::3", 80, ()),
    }


@pytest.mark.parametrize(
    ("role", "kind"), [("primary", "NetworkPolicy"), ("secondary", "MultiNetworkPolicy")]
)
def test_the_role_of_a_network_is_read_from_its_switches(
    tmp_path: Path, toolchain: Toolchain, reader: OvsdbTool, role: str, kind: str
) -> None:
    ids = {
        "k8s.ovn.org/owner-controller": "blue-network-controller",
        "k8s.ovn.org/owner-type": "NetworkPolicy",
        "k8s.ovn.org/name": "tenant:web",
    }
    north = make(
        toolchain,
        tmp_path / "nb.db",
        insert(
            "Logical_Switch",
            name="blue_worker",
            other_config={"subnet": "10.1.0.0/24"},
            external_ids={"k8s.ovn.org/network": "blue", "k8s.ovn.org/role": role},
            ports=["named-uuid", "port"],
        ),
        {**insert("Logical_Switch_Port", name="tenant_web-0"), "uuid-name": "port"},
        insert("Port_Group", name="a1", external_ids=ids, ports=["named-uuid", "port"]),
        insert("Port_Group", name="a2", external_ids=ids),  # in force nowhere in this zone
    )
    zone = read_zone(reader, "z", north, make(toolchain, tmp_path / "sb.db"))
    assert [group.policy for group in zone.port_groups] == [
        PolicyRef(kind=kind, namespace="tenant", name="web")
    ]
    assert zone.switches == {"blue_worker": ()}


def test_ports_of_pods_are_told_from_others(
    tmp_path: Path, toolchain: Toolchain, reader: OvsdbTool
) -> None:
    rows: list[tuple[str, list[Any] | str, dict[str, str]]] = [
        ("shop_a", "0a:58:0a:01:00:05 10.1.0.5 fd01::5", {"namespace": "shop", "pod": "true"}),
        (
            "blue_shop_a",
            "0a:58:0a:09:00:05 10.9.0.5",
            {"namespace": "shop", "pod": "true", "k8s.ovn.org/nad": "shop/blue"},
        ),
        ("stor", "router", {}),
        ("wild", ["set", ["unknown"]], {}),
        ("none", ["set", []], {}),
        ("k8s", ["set", ["0a:58:0a:01:00:02", "10.1.0.2"]], {}),
    ]
    datapath = insert("Datapath_Binding", tunnel_key=1, external_ids={"name": "worker"})
    bindings = [
        insert(
            "Port_Binding",
            logical_port=name,
            mac=mac,
            external_ids=ids,
            datapath=["named-uuid", "dp"],
            tunnel_key=key,
        )
        for key, (name, mac, ids) in enumerate(rows, start=1)
    ]
    south = make(toolchain, tmp_path / "sb.db", {**datapath, "uuid-name": "dp"}, *bindings)
    zone = read_zone(reader, "z", make(toolchain, tmp_path / "nb.db"), south)
    found = {port.name: (port.mac, port.addresses, port.is_pod) for port in zone.ports.values()}
    assert found == {
        "shop_a": ("0a:58:0a:01:00:05", ("10.1.0.5", "fd01::5"), True),
        "blue_shop_a": ("0a:58:0a:09:00:05", ("10.9.0.5",), True),
        "stor": ("", (), False),
        "wild": ("", (), False),
        "none": ("", (), False),
        "k8s": ("0a:58:0a:01:00:02", ("10.1.0.2",), False),
    }
    assert {port.name: port.nad for port in zone.ports.values() if port.nad} == {
        "blue_shop_a": "shop/blue"
    }
    assert {port.datapath for port in zone.ports.values()} == {"worker"}
    assert zone.by_tunnel_key["worker", 2].name == "blue_shop_a"
