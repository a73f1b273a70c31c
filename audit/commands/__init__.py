"""One module per command: the order of the stages, and nothing else.

Each public function is one command's work. They raise AuditError with a sentence for the user, and
leave nothing half-written.
"""
