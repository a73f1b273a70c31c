"""Where OpenFlow flows come from: cookie → southbound row → northbound row → Kubernetes object.

ovn-controller writes the first 32 bits of a southbound row's uuid into the cookie of every flow it
makes of it, and ovn-northd writes the first 32 bits of a northbound row's uuid into the logical
flows it makes of that (`stage-hint`). 32 bits are not unique: each step is one to many, and every
candidate is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audit.model.verdicts import PolicyRef

PREFIX = 8
"""Hexadecimal digits of a uuid that a cookie and a stage hint hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A northbound row that a logical flow was made from.

    `text` is in ovn-detrace's words; `owner` is the Kubernetes object behind the row in ours
    (`networkpolicy shop/web ingress[0]`, `service shop/web`, `pod shop/web-0`), OVN-Kubernetes'
    own id where the object is not known, and empty where the row names none. `policy` is set when
    that object is a policy.
    """

    table: str
    uuid: str
    text: str
    owner: str = ""
    policy: PolicyRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A southbound row that a flow was made from.

    `stage` and `sources` are those of a logical flow. `datapaths` are the logical datapaths it is
    in, by name.
    """

    table: str
    uuid: str
    text: str
    datapaths: tuple[str, ...] = ()
    stage: str = ""
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """What cookies of one zone stand for; keyed by eight hexadecimal digits."""

    rows: Mapping[str, tuple[Origin, ...]]

    def of(self, cookie: int) -> tuple[Origin, ...]:
        """Return every row a cookie may stand for; none when no row of the database has it.

        A cookie of 0 belongs to ovn-controller's own flows, which no row stands behind.
        """
        return self.rows.get(prefix_of(cookie), ())


def prefix_of(cookie: int) -> str:
    """Return a cookie as the first eight digits of the uuid it was made of."""
    return f"{cookie:0{PREFIX}x}"


def sources(origins: Iterable[Origin]) -> tuple[Source, ...]:
    """Return the northbound rows behind `origins`, each once, in order."""
    by_uuid = {source.uuid: source for origin in origins for source in origin.sources}
    return tuple(by_uuid.values())
