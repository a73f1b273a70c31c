"""The contexts of kubeconfigs, for a shell that completes them: no Kubernetes client is loaded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def contexts(named: Path | None) -> list[str]:
    """Return the contexts of the `named` kubeconfig, else of the files that kubectl would read.

    A file that is not there, or is no kubeconfig, has none.
    """
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    paths = [named] if named else [Path(file) for file in files.split(os.pathsep) if file]
    return [context for path in paths for context in _contexts(path)]


def _contexts(path: Path) -> Iterator[str]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield from [str(context["name"]) for context in content["contexts"]]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, RecursionError):
        return
