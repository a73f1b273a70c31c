"""ClusterState and scope → matrix → traces → batches. Pure."""
