"""Selectors, ports and files → rows and columns. Pure."""
