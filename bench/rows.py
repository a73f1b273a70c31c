"""Rows that every network has: switches and their ports, router ports, routes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import addresses
from bench.ovsdb import Key, Row


def switch(
    name: str,
    config: Mapping[str, str],
    ports: Sequence[Row],
    external_ids: Mapping[str, str] | None = None,
    **references: Sequence[Key],
) -> Iterator[Row]:
    """Yield a switch and its ports."""
    columns: dict[str, Any] = {"name": name}
    columns |= {"other_config": dict(config)} if config else {}
    columns |= {"external_ids": dict(external_ids)} if external_ids else {}
    yield from ports
    yield Row.of("Logical_Switch", name, columns, ports=[port.key for port in ports], **references)


def port_row(name: str, **columns: object) -> Row:
    """Return a switch's port."""
    return Row.of("Logical_Switch_Port", name, {"name": name, **columns})


def to_router(name: str, peer: str, **options: str) -> Row:
    """Return a switch's port to a router's port `peer`."""
    given = {"router-port": peer, **options}
    return port_row(name, addresses=["router"], type="router", options=given, up=True)


def router_port(
    name: str,
    networks: Sequence[str],
    columns: Mapping[str, Any],
    **references: Sequence[Key],
) -> Row:
    """Return a router's port; its MAC is of its first address."""
    mac = addresses.mac_of(networks[0].partition("/")[0])
    given = {"name": name, "mac": mac, "networks": networks, **columns}
    return Row.of("Logical_Router_Port", name, given, **references)


def route(router: str, prefix: str, nexthop: str, **columns: object) -> Row:
    """Return a static route."""
    given = {"ip_prefix": prefix, "nexthop": nexthop, **columns}
    return Row.of("Logical_Router_Static_Route", f"{router} {prefix}", given)
