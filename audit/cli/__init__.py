"""The command line: click commands, one module each. What they do is loaded when they do it.

Options are said in help and completed by a shell without numpy, pyarrow or a Kubernetes client: a
module of ours that a command names is loaded when something of it is used, and all of them before
the command begins (`audit.cli.later`).
"""
