"""A matrix → the traces that decide it: what flows tell apart, classes, legs, requests. Pure."""
