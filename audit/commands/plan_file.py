"""`plan.json`: what a run was asked, for who goes on with it, and what of that is believed.

A run may come from elsewhere. What it is about is read from its plan (`ASKED`). What names a
program, a key, a cluster, a place to send to or to listen at is shown, and told again (`OWN`).
"""

import shlex
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from audit import __version__
from audit.errors import RunReadError, ScopeError, UsageError
from audit.model.facts import ClusterState
from audit.scope import scope
from audit.store import manifest
from audit.tracing.options import Options, Workers

ASKED = frozenset(
    {"snapshot", "manifests", "surroundings", "planes", "cover", "verify", "verify_packets"}
)
"""What a run is about, beside its scope: the fields of `Options` that are read from a plan."""
OWN = frozenset(field.name for field in fields(Options)) - ASKED - {"scope"}
"""The rest, which every sitting is told by who starts it."""
_NAMED = {
    "ovn_prefix": "ovn-prefix",
    "sign_key": "sign-key",
    "destination": "out",
    "kustomization": "kustomize",  # a program builds it
}
REPEATED = (*_NAMED.values(), "traces", "workers")
"""The options that a run's plan may name, and that are never taken from it."""


def planned(options: Options, state: ClusterState, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what plan.json says, but for when it began."""
    return {
        "audit": __version__,
        "command": options.command,
        "host": manifest.host(),
        "engine": engine,
        "scope": options.scope.describe(),
        "options": _plain(options),
        "inputs": manifest.inputs(state),
    }


def _plain(options: Options) -> dict[str, Any]:
    """Return options as JSON says them; files are named so that any directory finds them."""
    asked = {f.name: getattr(options, f.name) for f in fields(Options) if f.name != "scope"}
    absolute = {k: v.absolute() if isinstance(v, Path) else v for k, v in asked.items()}
    plain: dict[str, Any] = msgspec.to_builtins(absolute, enc_hook=str)
    return plain


def options_of(
    plan: Mapping[str, Any],
    told: Mapping[str, Any],
    where: Path,
    *,
    without: Collection[str] = (),
) -> Options:
    """Return what the run of a plan was asked for, with what is `told` of this sitting.

    UsageError where the plan names what is to be told again: it is, or is left out by `without`.
    RunReadError when the plan does not say what was asked.
    """
    kinds = typing.get_type_hints(Options, include_extras=True)
    try:
        named = _named(plan["options"])
        values = {
            name: msgspec.convert(value, kinds[name], dec_hook=_path)
            for name, value in plan["options"].items()
            if name in ASKED
        }
        asked = scope.parse_scope_file(msgspec.json.encode(plan["scope"]).decode(), "plan.json")
        options = replace(Options(scope=asked, **values), **told)
    except (ScopeError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RunReadError(f"{where}: plan.json does not say what was asked; run again") from error
    again = _named(_plain(options))
    untold = {name: words for name, words in named.items() if name not in {*again, *without}}
    if untold:
        raise UsageError(
            f"{where} was begun with `{_joined(untold)}`, and a run's files are not trusted with "
            "that: repeat it, or go on without by "
            f"`{' '.join(f'--without {name}' for name in untold)}`"
        )
    return options


def _named(asked: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the words that repeat what options name, by the option they begin with."""
    words = {
        option: [f"--{option}", str(asked[field])]
        for field, option in _NAMED.items()
        if asked.get(field)
    }
    if cluster := asked.get("cluster"):
        parts = {
            "--kubeconfig": cluster.get("kubeconfig"),
            "--context": cluster.get("context"),
            "--ovn-config-namespace": cluster.get("namespace"),
        }
        told = [word for flag, value in parts.items() if value for word in (flag, str(value))]
        words["traces"] = ["--traces", "exec", *told]
    if asked.get("workers") == Workers.AGENTS:
        listen = ["--agents-listen", str(asked.get("agents_listen"))]
        words["workers"] = ["--workers", "agents", *listen]
    return words


def going_on(path: Path, options: Options) -> str:
    """Return the command that goes on with a run: with what its files are not believed."""
    command = shlex.join(["audit", "run", "--resume", str(path)])
    return f"{command} {_joined(_named(_plain(options)))}".rstrip()


def _joined(named: Mapping[str, Sequence[str]]) -> str:
    """Return the words of options as a shell reads them."""
    return shlex.join(word for words in named.values() for word in words)


def _path(kind: type, value: Any) -> Path:  # noqa: ANN401 - of msgspec's choosing
    if kind is not Path:
        raise ValueError(f"{kind} cannot be read")
    return Path(value)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not as it was, in sentences."""
    if before.get("audit") != after["audit"]:
        yield f"audit {before.get('audit')} began it, and this is {after['audit']}"
    engines = [plan.get("engine") or {} for plan in (before, after)]
    if engines[0].get("version") != engines[1].get("version"):
        yield (
            f"OVN {engines[0].get('version')} traced it, and the one at hand is "
            f"{engines[1].get('version')}; name the other with --ovn-prefix"
        )
    old, new = ({one["path"]: one["sha256"] for one in p["inputs"]} for p in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            change = "has changed" if name in old and name in new else "was not there then"
            yield f"its input {name} {change if name in new else 'is not there now'}"
