"""The `audit` command: options → one pipeline call → exit code."""
