"""Batch → outcomes: microflows, the supervised `ovn-trace` daemon, the parser."""
