"""Values that cross a stage: frozen, or columnar where there are N² of them.

Standard library and numpy only; nothing here reads a file, starts a process or knows a stage.
"""
