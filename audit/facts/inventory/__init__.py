"""OVN's inventory beside Kubernetes'."""
