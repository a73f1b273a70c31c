"""A snapshot's databases served again: finding an OVN to do it with, and running it."""
