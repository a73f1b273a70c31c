"""Which cluster is meant. Nothing of the Kubernetes client is imported to say so."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Which cluster is meant, and where OVN-Kubernetes runs in it. What is empty is found out."""

    kubeconfig: Path | None = None
    context: str = ""
    namespace: str = ""
    exec_timeout_s: float = 120.0
    """How long a command in a pod may take, the transfer of its output included."""
