"""What a command line chooses among: said in its help, so nothing is loaded to say it."""

from enum import Enum, StrEnum
from pathlib import Path


class Workers(StrEnum):
    """Where traces run."""

    RAY = "ray"
    INLINE = "inline"
    AGENTS = "agents"


class Covering(StrEnum):
    """Which cells are traced, and how the others follow (docs/cover.md)."""

    LEGS = "legs"
    PAIRS = "pairs"
    EXHAUSTIVE = "exhaustive"
    PREDICT = "predict"


class PlaneName(StrEnum):
    """What is asked about every cell (`audit run --planes`)."""

    INTENT = "intent"
    LOGICAL = "logical"
    DATAPATH = "datapath"


INTENT_ALONE = frozenset({PlaneName.INTENT})
"""What is asked of manifests, and of a cluster whose OVN is not: what was meant."""
DEFAULT_PLANES = frozenset({PlaneName.INTENT, PlaneName.LOGICAL})
"""What is asked unless something else is: what was meant, and what OVN makes of it."""


class Format(StrEnum):
    """How a run may be written."""

    HTML = "html"
    JSON = "json"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    SARIF = "sarif"
    PROMETHEUS = "prometheus"


class Part(Enum):
    """What of a run is fetched from an object store."""

    CELLS = 1
    """Without its traces, which are most of its bytes, and its report."""
    TABLES = 2
    """Without its report."""
    EVERYTHING = 3
    """All that is there, compared with nothing: for who compares it."""
    PAGE = 4
    """Its report alone."""


PACKS = (
    *("default-deny", "namespace-isolation", "only-dns-egress", "no-metadata"),
    *("cis-kubernetes", "nsa-cisa", "pci-dss"),
)
"""Ready-made expectations, `audit check --pack`."""

LOOPBACK = "localhost"
"""Where `audit serve` listens unless told otherwise."""
MOST_PROBES = 1_000
"""Connections of one call of `audit probe`."""
OVS_RUNDIR = Path("/var/run/openvswitch")
"""Where a node's Open vSwitch has its sockets."""

NAMED_IN_PLANS = {
    "ovn_prefix": "ovn-prefix",
    "sign_key": "sign-key",
    "timestamp_url": "timestamp-url",
    "destination": "out",
    "kustomization": "kustomize",  # a program builds it
}
"""Fields of a run's options that its plan may name, but that are never taken from it; as flags."""
NEEDED = frozenset({"kustomize"})
"""Those without which there is nothing to go on with."""
REPEATED = (*(name for name in NAMED_IN_PLANS.values() if name not in NEEDED), "traces", "workers")
"""The options that a run's plan may name, that are never taken from it, and may be left out."""
