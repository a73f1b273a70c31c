"""What options of `audit run` take: planes, counts, times, policies."""

from __future__ import annotations

import re
import sys

import click
from click.shell_completion import CompletionItem

from audit.cli import words
from audit.facts import applying
from audit.model.options import PlaneName
from audit.model.verdicts import PolicyRef


class Planes(click.ParamType[frozenset[PlaneName]]):
    """A set of planes, separated by commas."""

    name = "planes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[PlaneName]:
        """Return the planes that `value` names."""
        planes_by_name = {str(plane): plane for plane in PlaneName}
        words = [word.strip() for word in str(value).split(",")]
        unknown = next((word for word in words if word not in planes_by_name), None)
        if unknown is not None:
            self.fail(f"{unknown!r} is no plane; there are {', '.join(planes_by_name)}", param, ctx)
        planes = frozenset(planes_by_name[word] for word in words)
        if PlaneName.DATAPATH in planes and PlaneName.LOGICAL not in planes:
            self.fail("the datapath is compared with the logical plane: name it too", param, ctx)
        return planes

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the planes that go on from what is there, after the last comma."""
        del ctx, param
        before, comma, word = incomplete.rpartition(",")
        there = {*before.split(",")}
        planes = (str(plane) for plane in PlaneName if plane not in there)
        return [CompletionItem(f"{before}{comma}{p}") for p in planes if p.startswith(word)]


class Count(click.ParamType[int]):
    """A number from 0 on, or `all`, which is more than there can be."""

    name = "count"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number that `value` says."""
        text = str(value)
        if text == "all":
            return sys.maxsize
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{text!r} is neither a number from 0 on nor all", param, ctx)
        return int(text)


class Duration(click.ParamType[float]):
    """Hours, minutes and seconds; a number alone is seconds."""

    name = "time"
    _TEXT = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds that `value` says."""
        match = self._TEXT.fullmatch(str(value))
        if match is None or not any(match.groups()):
            self.fail(f"{value!r} is no time; write 90s, 10m or 1h30m", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return 3600 * hours + 60 * minutes + seconds


class Policy(click.ParamType[PolicyRef]):
    """A policy by its kind, namespace and name."""

    name = "policy"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> PolicyRef:
        """Return the policy that `value` names."""
        del param, ctx
        return value if isinstance(value, PolicyRef) else applying.policy_named(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the policies of the newest run that begin so."""
        return words.complete_policy(ctx, param, incomplete)
