"""Batches → outcomes as they finish: in this process, or on Ray."""
