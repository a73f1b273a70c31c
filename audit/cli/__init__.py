"""The `audit` command: options → one command → exit code."""
