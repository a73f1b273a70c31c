"""Cluster → ClusterState: Kubernetes objects and OVN databases, read and joined."""
