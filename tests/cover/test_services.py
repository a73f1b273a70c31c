"""What is behind Services, by what load balancers say."""

from audit.cover import services
from audit.model.facts import LoadBalancer
from audit.model.packets import Protocol
from tests.verdict import made

VIP = ("10.96.0.10", Protocol.TCP, 80)


def balancer(
    *backends: str,
    address: str = "10.96.0.10",
    template: bool = False,
    protocol: Protocol = Protocol.TCP,
) -> LoadBalancer:
    """Return a load balancer of one address."""
    vips = ((address, 80, backends),)
    return LoadBalancer(owner="svc", protocol=protocol, vips=vips, template=template)


def behind(*balancers: LoadBalancer) -> services.Behind:
    """Return what is behind the address that is asked, by two zones with one balancer each."""
    zones = [made.zone(f"z{n}", balancers=[each]) for n, each in enumerate(balancers)]
    return services.behind(zones, ["10.96.0.10"])


def test_what_any_zone_has_behind_an_address_is_behind_it() -> None:
    known = behind(balancer("10.128.0.5:8080"), balancer("10.128.2.6:8080", "10.128.0.5:8080"))
    assert known == {VIP: (("10.128.0.5", 8080), ("10.128.2.6", 8080))}


def test_an_address_of_the_other_family_is_read_without_its_brackets() -> None:
    assert behind(balancer("[fd00:10:128::5]:8080")) == {VIP: (("fd00:10:128::5", 8080),)}


def test_a_backend_without_a_port_is_passed_over() -> None:
    assert behind(balancer("10.128.0.5", "nonsense", "10.128.0.6:http", "10.128.0.7:80")) == {
        VIP: (("10.128.0.7", 80),)
    }


def test_a_port_of_two_protocols_is_two_even_where_the_same_is_behind_both() -> None:
    ends = (("10.128.0.5", 53),)
    udp = balancer("10.128.0.5:53", protocol=Protocol.UDP)
    assert behind(balancer("10.128.0.5:53"), udp) == {
        VIP: ends,
        ("10.96.0.10", Protocol.UDP, 80): ends,
    }


def test_templates_and_addresses_that_nobody_asks_about_are_not_looked_at() -> None:
    assert behind(balancer("10.128.0.5:80", template=True)) == {}
    assert behind(balancer("10.128.0.5:80", address="10.96.0.20")) == {}
