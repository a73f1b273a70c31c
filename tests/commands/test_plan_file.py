"""What a plan names is told again before a run goes on: its files are not trusted with that."""

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from audit.cli import resuming
from audit.cli.run import run
from audit.commands import plan_file
from audit.errors import UsageError
from audit.model.facts import ClusterState
from audit.model.options import REPEATED
from audit.scope.scope import Scope
from audit.tracing.options import Options

STATE = ClusterState(
    source="k",
    pods=(),
    nodes=(),
    services=(),
    namespaces=MappingProxyType({}),
    policies=(),
    zones=MappingProxyType({}),
)
RUN = Path("runs/one")


def planned(options: Options) -> dict[str, object]:
    """Return what plan.json says, as it is read back."""
    plan: dict[str, object] = json.loads(json.dumps(plan_file.planned(options, STATE, {})))
    return plan


def test_a_kustomization_is_named_again_and_never_taken_from_the_plan() -> None:
    begun = Options(snapshot=None, scope=Scope(), kustomization="over lays/prod")
    plan = planned(begun)
    assert plan_file.going_on(RUN, begun).endswith("--resume runs/one --kustomize 'over lays/prod'")
    for without in ((), ("kustomize",)):
        with pytest.raises(UsageError, match=r"--kustomize 'over lays/prod'`.*: repeat it$"):
            plan_file.options_of(plan, {}, RUN, without=without)
    told = plan_file.options_of(plan, {"kustomization": "elsewhere"}, RUN)
    assert (told.kustomization, told.snapshot) == ("elsewhere", None)
    assert "kustomize" not in REPEATED


def test_a_resumed_run_takes_its_kustomization_and_nothing_that_it_was_asked() -> None:
    given = ["--resume", str(RUN), "-k", "overlays/prod"]
    resuming.refuse_anew(run.make_context("run", [*given]))
    with pytest.raises(UsageError, match="--port cannot be given anew"):
        resuming.refuse_anew(run.make_context("run", [*given, "--port", "tcp/80"]))


def test_what_a_run_can_do_without_may_be_left_out() -> None:
    plan = planned(Options(snapshot=Path("s"), scope=Scope(), sign_key=Path("/k")))
    with pytest.raises(UsageError, match=r"repeat it, or go on without by `--without sign-key`"):
        plan_file.options_of(plan, {}, RUN)
    assert plan_file.options_of(plan, {}, RUN, without=("sign-key",)).sign_key is None
