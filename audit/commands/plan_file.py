"""`plan.json`: what a run was asked, for who goes on with it, and what of that is believed.

A run may come from elsewhere. What it is about is read from its plan (`ASKED`). What names a
program, a key, a cluster, a place to send to or to listen at is shown, and given again (`OWN`).
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
from audit.model.options import NAMED_IN_PLANS, NEEDED, Workers
from audit.scope import scope
from audit.store import manifest
from audit.tracing.options import Options

ASKED = frozenset(
    {"snapshot", "manifests", "surroundings", "planes", "cover", "verify", "verify_packets"}
)
"""What a run is about, beside its scope: the fields of `Options` that are read from a plan."""
OWN = frozenset(field.name for field in fields(Options)) - ASKED - {"scope"}
"""The rest, which whoever starts a sitting gives again."""


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
    values = {f.name: getattr(options, f.name) for f in fields(Options) if f.name != "scope"}
    absolute = {k: v.absolute() if isinstance(v, Path) else v for k, v in values.items()}
    plain: dict[str, Any] = msgspec.to_builtins(absolute, enc_hook=str)
    return plain


def options_of(
    plan: Mapping[str, Any],
    given: Mapping[str, Any],
    where: Path,
    *,
    without: Collection[str] = (),
) -> Options:
    """Return what the run of a plan was asked for, with what is `given` for this sitting.

    UsageError where the plan names what is to be given again: it is, or is left out by `without`.
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
        asked_scope = scope.parse_scope_file(
            msgspec.json.encode(plan["scope"]).decode(), "plan.json"
        )
        options = replace(Options(scope=asked_scope, **values), **given)
    except (ScopeError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RunReadError(f"{where}: plan.json does not say what was asked; run again") from error
    if _has_change(plan["options"]):
        raise UsageError(f"{where} was begun with --apply or --apply-delete; ask that again")
    again = _named(_plain(options))
    left_out = {*without} - NEEDED
    omitted = {name: words for name, words in named.items() if name not in {*again, *left_out}}
    if omitted:
        optional = " ".join(f"--without {name}" for name in omitted if name not in NEEDED)
        raise UsageError(
            f"{where} was begun with `{_joined(omitted)}`, and a run's files are not trusted with "
            f"that: repeat it{f', or go on without by `{optional}`' if optional else ''}"
        )
    return options


def _has_change(options: Mapping[str, Any]) -> bool:
    """Say whether a plan names objects to apply: what is done in seconds, nobody goes on with."""
    change = options.get("change")
    return any(change.values()) if isinstance(change, dict) else change is not None


def _named(options: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the words that repeat what options name, by the option they begin with."""
    words = {
        option: [f"--{option}", str(options[field])]
        for field, option in NAMED_IN_PLANS.items()
        if options.get(field)
    }
    if cluster := options.get("cluster"):
        parts = {
            "--kubeconfig": cluster.get("kubeconfig"),
            "--context": cluster.get("context"),
            "--ovn-config-namespace": cluster.get("namespace"),
        }
        flags = [word for flag, value in parts.items() if value for word in (flag, str(value))]
        words["traces"] = ["--traces", "exec", *flags]
    if options.get("workers") == Workers.AGENTS:
        listen = ["--agents-listen", str(options.get("agents_listen"))]
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
    yield from _changed_inputs(before["inputs"], after["inputs"])


def _changed_inputs(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    old, new = ({entry["path"]: entry["sha256"] for entry in inputs} for inputs in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"its input {name} is not there now"
        elif name not in old:
            yield f"its input {name} was not there then"
        elif old[name] != new[name]:
            yield f"its input {name} has changed"
