"""What is said of a cluster besides its manifests: how it is read, and where it is refused."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from audit.cli import surroundings
from audit.cli.diff import diff
from audit.cli.run import run
from audit.errors import UsageError
from audit.facts.manifests import Surroundings
from audit.model.facts import AddressRanges, Controller
from audit.model.selectors import UNSAID


def parsed(*flags: str) -> Surroundings:
    given: list[Surroundings] = []

    @click.command()
    @surroundings.surroundings_options
    def command(*, around: Surroundings) -> None:
        given.append(around)

    done = CliRunner().invoke(command, flags)
    if done.exception is not None:
        raise done.exception
    return given[0]


def test_flags_are_read() -> None:
    assert parsed() == Surroundings()
    assert parsed(
        *("--pod-cidr", "10.128.0.0/14", "--pod-cidr", "fd01::/48"),
        *("--node-cidr", "172.18.0.0/16", "--service-cidr", "172.30.0.0/16"),
        *("--namespace-labels", "b:team=web,env=", "--namespace-labels", "c:"),
    ) == Surroundings(
        ranges=AddressRanges(
            pods=("10.128.0.0/14", "fd01::/48"),
            nodes=("172.18.0.0/16",),
            services=("172.30.0.0/16",),
        ),
        namespaces={"b": {"team": "web", "env": ""}, "c": {}},
    )


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("edge", ()),
        ("edge:", ()),
        ("edge:tier=x,app=router", (("app", "router"), ("tier", "x"))),
    ],
)
def test_a_controller_may_have_more_labels_than_are_said(
    text: str, labels: tuple[tuple[str, str], ...]
) -> None:
    found = parsed("--ingress-controller", text).controller
    assert found == Controller(namespace="edge", labels=(*labels, (UNSAID, UNSAID)))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ingress-controller", ":app=x"), "':app=x' is not NAMESPACE:KEY=VALUE"),
        (("--ingress-controller", "edge:app"), "'app' is not KEY=VALUE"),
        (("--ingress-controller", "a", "--ingress-controller", "b"), "is given twice"),
        (("--namespace-labels", "b"), "a namespace without labels is b:"),
        (("--namespace-labels", ":x=y"), "a namespace without labels is NAME:"),
        (("--namespace-labels", "b:x"), "'x' is not KEY=VALUE"),
        (("--namespace-labels", "b:x=?"), "label value '?' is not"),
        (("--namespace-labels", "b:?=x"), "label key '?' is not"),
        (("--namespace-labels", "b:x=1", "--namespace-labels", "b:x=2"), "is given twice"),
        (("--pod-cidr", "10.1.2.3/8"), "10.1.2.3/8 has host bits set"),
        (("--node-cidr", "nodes"), "--node-cidr 'nodes'"),
        (("--pod-cidr", "10.0.0.0/8", "--service-cidr", "10.96.0.0/12"), "overlap"),
        (("--node-cidr", "fd00::/8", "--service-cidr", "fd02::/112"), "overlap"),
    ],
)
def test_what_is_refused(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*flags)
    assert said in str(caught.value)


@pytest.mark.parametrize("command", [run, diff])
def test_they_go_with_manifests(command: click.Command, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    where = [str(tmp_path)] * 2 if command is diff else ["--snapshot", str(tmp_path)]
    done = CliRunner().invoke(command, [*where, "--pod-cidr", "10.128.0.0/14"])
    assert isinstance(done.exception, UsageError)
    assert "they go with manifests only" in str(done.exception)
