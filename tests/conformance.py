"""The intent plane against the conformance tests of network-policy-api, without pods' addresses.

`python -m tests.conformance DIRECTORY`, where DIRECTORY is the `conformance` of a checkout of
https://github.com/kubernetes-sigs/network-policy-api: it is not part of this repository. What a
test does to its objects (swapped rules, other actions, labels) is done here to the same objects,
read as manifests; what it expects of each connection is compared with the cell's verdict. Nothing
of manifests has an address, so what depends on one is to be inconclusive. Exits with 1 when a
verdict is the other one, or a line of a test is not understood.
"""

import argparse
import copy
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from audit.model.verdicts import PASSES, STOPPED
from tests.asked import Asked

Object = dict[str, Any]
HOST_PORTS = [34345 + number for number in range(8)]
"""What a conformance run would be given for its pods in the host network."""
_POKED = re.compile(
    r'PokeServer\(.*?"(?P<space>[^"]+)", "(?P<pod>[^"]+)", "(?P<protocol>\w+)",\s*'
    r"(?P<server>\w+)\.Status\.PodIP, int32\((?P<port>[^)]+)\), s\.TimeoutConfig, (?P<ok>\w+)\)",
    re.DOTALL,
)
_IGNORED = re.compile(
    r"^(t\.Run|\}|\{|//|/\*|$|\)|Test:|if net\.|var mask|mask = |ctx, cancel|defer|np := |"
    r"err :?= s\.Client\.|require\.|kubernetes\.Patch|mutate\w* :?= \w+\.DeepCopy|"
    r"newRule := |To: |Networks: |Name: |Namespace: |Action: |api\.CIDR)"
)


@dataclass(slots=True, kw_only=True)
class Suite:
    """The objects of a test as they are by now, and the variables of the Go function."""

    objects: list[Object]
    variables: dict[str, Any] = field(default_factory=dict)

    def named(self, kind: str, name: str) -> Object:
        return next(
            one for one in self.objects if (one["kind"], one["metadata"]["name"]) == (kind, name)
        )

    def rules(self, way: str) -> list[Object]:
        """Return the rules of the policy that is changed, `Ingress` or `Egress`."""
        listed: list[Object] = self.variables["mutate"][way.lower()]
        return listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a test tries, and expects."""

    src: str
    dst: str
    port: str
    passes: bool


def objects_of(file: Path) -> list[Object]:
    """Read manifests, with the ports that a conformance run would put in."""
    text = re.sub(
        r"\{\{ index \.HostNetworkPorts (\d+) \}\}",
        lambda match: str(HOST_PORTS[int(match[1])]),
        file.read_text(encoding="utf-8"),
    )
    return [one for one in yaml.safe_load_all(text) if one]


def functions(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield each test of a Go file: its name, its manifests, its body."""
    for part in text.split("= suite.ConformanceTest{")[1:]:
        name = re.search(r'ShortName:\s*"([^"]+)"', part)
        manifests = re.search(r'Manifests: \[\]string\{"([^"]+)"\}', part)
        assert name is not None
        assert manifests is not None
        yield name[1], manifests[1], part[part.index("Test: func") :].partition("\nvar ")[0]


def statements(body: str) -> Iterator[str]:
    """Yield the statements of a function, a connection that is tried as one line."""
    joined = re.sub(r"(PokeServer\([^\n]*,)\n\s*", r"\1 ", body)
    yield from (line.strip() for line in joined.splitlines())


def carry_out(suite: Suite, line: str) -> Connection | None:
    """Do what a statement does to the objects; return what it tries.

    ValueError where it is not understood.
    """
    if poked := _POKED.search(line):
        port = poked["port"]
        index = re.fullmatch(r"s\.HostNetworkPorts\[(\d+)\]", port)
        number = str(HOST_PORTS[int(index[1])]) if index else port
        return Connection(
            src=f"{poked['space']}/{poked['pod']}",
            dst=suite.variables[poked["server"]],
            port=f"{poked['protocol']}/{number}",
            passes=poked["ok"] == "true",
        )
    for pattern, effect in _STATEMENTS.items():
        if match := re.match(pattern, line):
            effect(suite, *match.groups())
            return None
    if not _IGNORED.match(line):
        raise ValueError("is not understood")
    return None


def get_pod(suite: Suite, variable: str, namespace: str, name: str) -> None:
    suite.variables[variable] = f"{namespace}/{name}"


def get_policy(suite: Suite, name: str) -> None:
    suite.variables["mutate"] = suite.named("ClusterNetworkPolicy", name)["spec"]


def get_namespace(suite: Suite, name: str) -> None:
    suite.variables["namespace"] = suite.named("Namespace", name)


def set_labels(suite: Suite, key: str, value: str) -> None:
    suite.variables["namespace"]["metadata"]["labels"] = {key: value}


def copy_rule(suite: Suite, way: str, index: str, of: str, other: str) -> None:
    suite.rules(way)[int(index)] = copy.deepcopy(suite.rules(of)[int(other)])


def put_rule(suite: Suite, way: str, index: str, variable: str) -> None:
    suite.rules(way)[int(index)] = suite.variables[variable]


def take_rule(suite: Suite, variable: str, way: str, index: str) -> None:
    suite.variables[variable] = copy.deepcopy(suite.rules(way)[int(index)])


def set_action(suite: Suite, way: str, index: str, action: str) -> None:
    suite.rules(way)[int(index)]["action"] = action


def set_priority(suite: Suite, priority: str) -> None:
    suite.variables["mutate"]["priority"] = int(priority)


def assign(suite: Suite, variable: str, text: str) -> None:
    suite.variables[variable] = text


def set_protocols(suite: Suite, variable: str) -> None:
    suite.variables["changed"] = suite.variables[variable]


def set_named_port(suite: Suite, variable: str) -> None:
    suite.variables["changed"]["protocols"] = [{"destinationNamedPort": suite.variables[variable]}]


def add_rule_to_pods(suite: Suite) -> None:
    """To the addresses of pods, which manifests do not have: here, to addresses of nobody."""
    networks = ["192.0.2.1/32", "192.0.2.2/32"]
    rule = {"name": "new", "action": "Accept", "to": [{"networks": networks}]}
    suite.rules("Egress").insert(0, rule)


def delete_policy(suite: Suite, name: str) -> None:
    suite.objects.remove(suite.named("NetworkPolicy", name))


_FIELD = r"mutate(?:\.DeepCopy\(\))?\.Spec\.(Ingress|Egress)\[(\d+)\]"
_STATEMENTS: Mapping[str, Callable[..., None]] = {
    r'(\w+) :?= kubernetes\.GetPod\(.*"([^"]+)", "([^"]+)"': get_pod,
    r'cnp :?= kubernetes\.GetClusterNetworkPolicy\(.*?"([^"]+)"': get_policy,
    r'namespace :?= kubernetes\.GetNamespace\(.*?"([^"]+)"': get_namespace,
    r'mutateNamespace\.SetLabels\(.*\{"([^"]+)": "([^"]+)"\}': set_labels,
    rf"{_FIELD} = {_FIELD}$": copy_rule,
    rf"{_FIELD} = (\w+)$": put_rule,
    rf"(\w+) := {_FIELD}$": take_rule,
    rf"{_FIELD}\.Action = api\.\w+Action(\w+)$": set_action,
    r"mutate\.Spec\.Priority = (\d+)$": set_priority,
    r'(\w+) := "([^"]+)"$': assign,
    r"(\w+)\.Protocols = ": set_protocols,
    r"DestinationNamedPort: (\w+),": set_named_port,
    r"mutate\.Spec\.Egress = append\(newRule, mutate\.Spec\.Egress\.\.\.\)": add_rule_to_pods,
    r'Name: +"(allow-gress-[^"]+)",$': delete_policy,
}
"""What a statement of these tests does, by what it looks like."""


def verdict(objects: list[Object], connection: Connection) -> str:
    """Return what the intent plane says of a connection."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "objects.yaml"
        file.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
        asked = Asked(file, connection.port)
    return asked.between(f"pod {connection.src}", f"pod {connection.dst}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run every test; print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    given = parser.parse_args(argv)
    base = objects_of(given.directory / "base" / "manifests.yaml")
    counts: Counter[str] = Counter()
    for file in sorted(given.directory.glob("tests/*.go")):
        for name, manifests, body in functions(file.read_text(encoding="utf-8")):
            objects = copy.deepcopy(base) + objects_of(given.directory / manifests)
            suite = Suite(objects=objects)
            for line in statements(body):
                try:
                    asked = carry_out(suite, line)
                except (ValueError, LookupError, TypeError) as error:
                    counts["not understood"] += 1
                    print(f"{file.name}: {name}: {line!r}: {error!r}")  # noqa: T201 - its output
                    continue
                if asked is None:
                    continue
                decided = verdict(suite.objects, asked)
                proven = decided in PASSES or decided in STOPPED
                right = (decided in PASSES) is asked.passes
                what = "inconclusive" if not proven else "right" if right else "wrong"
                counts[what] += 1
                if what == "wrong":
                    print(f"{file.name}: {name}: {asked}: {decided}")  # noqa: T201 - as above
    tried = counts["right"] + counts["inconclusive"] + counts["wrong"]
    told = ", ".join(f"{counts[what]} {what}" for what in ("right", "inconclusive", "wrong"))
    print(f"{tried} connections: {told}; {counts['not understood']} lines not understood")  # noqa: T201 - as above
    return int(bool(counts["wrong"] or counts["not understood"] or not tried))


if __name__ == "__main__":
    sys.exit(main())
