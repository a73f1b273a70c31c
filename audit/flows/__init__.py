"""Logical flows, read and evaluated as OVN evaluates them; the language they are written in."""
