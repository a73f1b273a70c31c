"""Audit who can reach whom in an OVN-Kubernetes cluster, and which policy stops the rest."""

__version__ = "0.1.0"
