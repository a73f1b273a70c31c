"""Headless Services: which endpoints and ports their names stand for. Pure.

A headless Service has no address and no load balancer. Its name resolves to the addresses of its
endpoints and the packet goes straight to one of them, so what is asked about the Service is asked
about each of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import NO_OWNERS, ClusterState, Owners, Service
from audit.model.packets import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where a packet to a headless Service goes: an endpoint behind it, at one port."""

    endpoint: Endpoint
    address: str
    port: Port


@dataclass(frozen=True, slots=True, kw_only=True)
class Headless:
    """The headless Services of a cluster, by the keys they have as endpoints.

    `owners` says whose addresses those behind them are; an address of nobody's is outside.
    """

    services: Mapping[str, Service]
    owners: Owners

    def receivers(self, key: str, family: Family, port: Port) -> tuple[Receiver, ...]:
        """Return where a packet to `port` of a headless Service may go; empty when nowhere.

        A port the Service declares is the target port of its endpoints. No one translates any
        other number: it is that of the endpoints themselves.
        """
        service = self.services[key]
        targets = {
            (behind.address, behind.target) for behind in service.endpoints if behind.port == port
        }
        if port not in {declared.port for declared in service.ports}:
            targets = {(behind.address, port.sample) for behind in service.endpoints}
        return tuple(
            Receiver(
                endpoint=self.owners.get(address) or _outside(address),
                address=address,
                port=Port(protocol=port.protocol, number=number),
            )
            for address, number in sorted(targets)
            if Family.of(address) is family
        )


NO_HEADLESS = Headless(services={}, owners=NO_OWNERS)


def headless(state: ClusterState, owners: Owners) -> Headless:
    """Return the headless Services of a cluster."""
    return Headless(
        services={
            f"{EndpointKind.SERVICE} {service.namespace}/{service.name}": service
            for service in state.services
            if service.headless
        },
        owners=owners,
    )


def _outside(address: str) -> Endpoint:
    return Endpoint(kind=EndpointKind.EXTERNAL, name=address, addresses=(address,))
