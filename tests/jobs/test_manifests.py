"""The manifests in `jobs/`: built by kubectl, checked against Kubernetes' schemas, and least."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml

from audit.cli.config import RUNS
from audit.cli.main import audit
from audit.errors import ExitCode
from audit.facts.live import resources

REPOSITORY = Path(__file__).resolve().parent.parent.parent
JOBS = REPOSITORY / "jobs"
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
"""The one that `make install` puts into .venv, pinned in pyproject.toml: never the machine's."""

VERSIONS = ("1.31", "1.37")
"""The oldest whose podFailurePolicy is stable (KEP-3329), and the newest there are schemas of."""

RAYJOB = yaml.safe_load((Path(__file__).parent / "rayjob.yaml").read_text())

BUILT = [
    *("nightly", "preupgrade", "kuberay"),
    *(f"overlays/{path.name}" for path in sorted((JOBS / "overlays").iterdir())),
]

CALLS = {
    (
        right.verb,
        right.resource + (f"/{right.subresource}" if right.subresource else ""),
        right.group,
    )
    for right in resources.rights()
    if not right.namespaced
}
EXECS = {
    (right.verb, f"{right.resource}/{right.subresource}", right.group)
    for right in resources.rights()
    if right.namespaced
}
"""What the audit calls, by its own table: in the whole cluster, and in OVN's namespace."""
PROBES = {("get", "pods", ""), *((verb, "pods/exec", "") for verb in resources.EXEC)}
IMAGES = {("patch", "pods/ephemeralcontainers", "")}
"""What `audit probe` calls in the namespaces of workloads, and with `--image` besides."""

Manifest = dict[str, Any]


def build(name: str, jobs: Path = JOBS) -> list[Manifest]:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(jobs / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=BUILT)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return build(request.param)


def templates(manifest: Manifest) -> Iterator[Manifest]:
    """Yield the pod templates of any object, a RayJob's among them."""
    spec = manifest.get("spec", {})
    if manifest["kind"] in ("Job", "DaemonSet", "Deployment"):
        yield spec["template"]
    if manifest["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    if manifest["kind"] == "RayJob":
        cluster = spec["rayClusterSpec"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            yield group["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_is_as_the_schemas_say(manifests: list[Manifest], version: str) -> None:
    """A RayJob's own fields are checked against `rayjob.yaml`, and its pods as pods."""
    assert manifests
    for manifest in manifests:
        if manifest["kind"] == "RayJob":
            jsonschema.validate(manifest, RAYJOB)
        else:
            kubernetes_validate.validate(manifest, version, strict=True)
        for template in templates(manifest):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
            kubernetes_validate.validate({**pod, "spec": template["spec"]}, version, strict=True)


def test_the_check_against_the_schemas_notices_a_wrong_field() -> None:
    [job] = of_kind(build("preupgrade"), "Job")
    job["spec"]["podFailurePolicy"]["rules"][0]["onPodCondition"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


def test_the_check_of_a_ray_job_notices_a_wrong_field() -> None:
    [job] = of_kind(build("kuberay"), "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    for spoilt in (
        {"authOptions": {"mode": "tokens"}},
        {"authOption": {"mode": "token"}},
        {"workerGroupSpecs": [{**cluster["workerGroupSpecs"][0], "minReplicas": "1"}]},
        {"headGroupSpec": {**cluster["headGroupSpec"], "rayStartParams": {"num-cpus": 0}}},
    ):
        wrong = {**job, "spec": {**job["spec"], "rayClusterSpec": {**cluster, **spoilt}}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, RAYJOB)


def granted(manifests: list[Manifest], kind: str) -> set[tuple[str, str, str]]:
    return {
        (verb, resource, group)
        for role in of_kind(manifests, kind)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }


def test_each_right_is_needed_and_enough(manifests: list[Manifest]) -> None:
    probing = {"ovn-audit-probe": PROBES, "ovn-audit-probe-image": IMAGES}
    roles = of_kind(manifests, "ClusterRole")
    of_probes = {
        role["metadata"]["name"]: granted([role], "ClusterRole")
        for role in roles
        if role["metadata"]["name"] in probing
    }
    assert of_probes in ({}, probing)
    others = [role for role in roles if role["metadata"]["name"] not in probing]
    assert granted(others, "ClusterRole") == CALLS
    assert granted(manifests, "Role") == EXECS
    for role in of_kind(manifests, "Role"):
        assert role["metadata"]["namespace"] in ("ovn-kubernetes", "openshift-ovn-kubernetes")


def test_bindings_lead_from_an_account_that_is_there_to_a_role_that_is_there(
    manifests: list[Manifest],
) -> None:
    accounts = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in of_kind(manifests, "ServiceAccount")
    }
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in of_kind(manifests, "ClusterRole", "Role")
    }
    for binding in of_kind(manifests, "ClusterRoleBinding", "RoleBinding"):
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        place = None if kind == "ClusterRole" else binding["metadata"]["namespace"]
        assert (kind, place, name) in roles or name == SCC
        for subject in binding["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts


def test_only_who_talks_to_the_api_server_has_a_token(manifests: list[Manifest]) -> None:
    """And who talks to it is who reads the live cluster."""
    for template in (t for manifest in manifests for t in templates(manifest)):
        assert template["spec"]["automountServiceAccountToken"] is False
        for container in containers(template):
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            words = container.get("args") or container.get("command") or ["run"]
            reads = words[0] in ("run", "snapshot", "probe") and "--snapshot" not in words
            is_agent = template["metadata"]["labels"]["app.kubernetes.io/component"] == "agent"
            assert ("token" in mounts) == (reads and not is_agent), container["name"]


SCC = "system:openshift:scc:privileged"
"""OpenShift's own role, which is not ours to define."""


@pytest.mark.parametrize("name", sorted(p.name for p in (JOBS / "overlays").iterdir()))
def test_openshift_chooses_users_and_is_asked_for_a_constraint_for_agents_alone(name: str) -> None:
    """`restricted-v2` refuses a user it did not choose; hostPath, root and spc_t need a grant."""
    manifests, openshift = build(f"overlays/{name}"), name.startswith("openshift")
    agents = set()
    for template in (t for manifest in manifests for t in templates(manifest)):
        spec = template["spec"]
        agent = template["metadata"]["labels"]["app.kubernetes.io/component"] == "agent"
        fixed = {"runAsUser", "runAsGroup", "fsGroup"} & spec["securityContext"].keys()
        assert bool(fixed) is (agent or not openshift)
        labels = [c["securityContext"].get("seLinuxOptions") for c in containers(template)]
        assert labels == [{"type": "spc_t"} if agent and openshift else None] * len(labels)
        if agent:
            agents.add(spec["serviceAccountName"])
    allowed = [b for b in of_kind(manifests, "RoleBinding") if b["roleRef"]["name"] == SCC]
    granted_to = {subject["name"] for binding in allowed for subject in binding["subjects"]}
    assert granted_to == (agents if openshift else set())
    for binding in allowed:
        assert binding["metadata"]["namespace"].startswith("ovn-audit-")


def test_an_object_store_takes_the_place_of_the_claim() -> None:
    """Where runs go and the key are a Secret's; the driver may reach it; nothing else changes."""
    for name in ("upstream-store", "openshift-store"):
        manifests = build(f"overlays/{name}")
        assert not of_kind(manifests, "PersistentVolumeClaim")
        [cron] = of_kind(manifests, "CronJob")
        [template] = templates(cron)
        [container] = containers(template)
        assert not {"--out", "--staging"} & set(container["args"]), "the environment says it"
        env = {one["name"]: one for one in container["env"]}
        secrets = {
            name: one["valueFrom"]["secretKeyRef"]
            for name, one in env.items()
            if "secretKeyRef" in one.get("valueFrom", {})
        }
        needed = {name for name, key in secrets.items() if not key.get("optional")}
        assert needed == {"AUDIT_RUN_OUT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert {key["name"] for key in secrets.values()} == {"object-store"}
        staging = env["AUDIT_RUN_STAGING"]["value"]
        [mounted] = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == staging]
        [volume] = [v for v in template["spec"]["volumes"] if v["name"] == mounted]
        assert volume.keys() == {"name", "emptyDir"}
        [policy] = [
            one
            for one in of_kind(manifests, "NetworkPolicy")
            if one["metadata"]["name"] == "object-store"
        ]
        labels = policy["spec"]["podSelector"]["matchLabels"]
        assert labels.items() <= template["metadata"]["labels"].items()
        assert policy["spec"]["policyTypes"] == ["Egress"]


def test_the_viewer_only_reads_and_is_reached_through_the_login_alone() -> None:
    manifests = build("overlays/upstream-viewer")
    [deployment] = of_kind(manifests, "Deployment")
    [template] = templates(deployment)
    pages, login = containers(template)
    listens = pages["args"][pages["args"].index("--listen") + 1]
    assert listens.startswith("127.0.0.1:")
    assert pages.get("ports") is None
    [mounted] = [mount for mount in pages["volumeMounts"] if mount["mountPath"] == pages["args"][1]]
    assert mounted["readOnly"] is True
    env = {one["name"]: one for one in login["env"]}
    assert env["OAUTH2_PROXY_UPSTREAMS"]["value"] == f"http://{listens}/"
    assert env["OAUTH2_PROXY_PASS_HOST_HEADER"]["value"] == "false"
    keys = {one["valueFrom"]["secretKeyRef"]["name"] for one in login["env"] if "valueFrom" in one}
    assert keys == {"viewer"}
    assert "value" not in env["OAUTH2_PROXY_CLIENT_SECRET"], "a secret is no manifest"
    [service] = of_kind(manifests, "Service")
    labels = template["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    [port] = login["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    [policy] = [p for p in of_kind(manifests, "NetworkPolicy") if p["metadata"]["name"] == "viewer"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    [allowed] = policy["spec"]["ingress"]
    assert [one["port"] for one in allowed["ports"]] == [port["containerPort"]]


def test_the_role_of_probes_is_least_bound_nowhere_and_in_nothing_else() -> None:
    built = build("probe")
    roles = {role["metadata"]["name"]: role for role in of_kind(built, "ClusterRole")}
    assert {name: granted([role], "ClusterRole") for name, role in roles.items()} == {
        "ovn-audit-probe": PROBES,
        "ovn-audit-probe-image": IMAGES,
    }
    assert {manifest["kind"] for manifest in built} == {"ClusterRole", "ServiceAccount"}
    asked = {"upstream-probe", "openshift-probe"}
    others = [path.name for path in (JOBS / "overlays").iterdir() if path.name not in asked]
    assert others
    for name in others:
        assert "ovn-audit-probe" not in str(build(f"overlays/{name}")), name


def test_probes_are_tried_as_their_own_account_where_it_is_bound_and_bounded() -> None:
    manifests = build("overlays/upstream-probe")
    bound = {
        (binding["kind"], binding["metadata"]["namespace"], binding["roleRef"]["name"])
        for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
        if subject["name"] == "ovn-audit-probe"
    }
    assert bound == {("RoleBinding", "default", "ovn-audit-probe")}
    jobs = {one["metadata"]["name"]: one for one in of_kind(manifests, "CronJob")}
    [template] = templates(jobs["probe"])
    assert template["spec"]["serviceAccountName"] == "ovn-audit-probe"
    [container] = containers(template)
    words = container["args"]
    assert [words[i + 1] for i, word in enumerate(words) if word == "-n"] == ["default"]
    sample, at_once, timeout = (
        int(words[words.index(flag) + 1]) for flag in ("--sample", "--at-once", "--timeout")
    )
    deadline = jobs["probe"]["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    # A connection, and one to an address that nobody has: each with the 10 s that exec may take.
    assert sample / at_once * 2 * (timeout + 10) < deadline
    [mount] = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "runs"]
    assert words[1] == "latest"
    assert mount == f"{container['workingDir']}{RUNS}"


def test_probes_begin_when_the_nightly_job_has_ended() -> None:
    jobs = {
        one["metadata"]["name"]: one["spec"]
        for one in of_kind(build("overlays/upstream-probe"), "CronJob")
    }
    began = {}
    for name, job in jobs.items():
        minute, hour = (int(word) for word in job["schedule"].split()[:2])
        began[name] = 60 * (60 * hour + minute)
    assert (
        began["probe"] - began["nightly"]
        >= jobs["nightly"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    )
    rules = jobs["probe"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    codes = {code: rule["action"] for rule in rules[1:] for code in rule["onExitCodes"]["values"]}
    assert codes == {
        ExitCode.FINDINGS: "FailJob",
        ExitCode.USAGE: "FailJob",
        ExitCode.INCOMPLETE: "FailJob",
        ExitCode.COULD_NOT_RUN: "Count",
        ExitCode.INTERRUPTED: "Count",
    }


def test_agents_and_an_object_store_go_together(tmp_path: Path) -> None:
    """Two components patch one job: an overlay of both has both."""
    overlay = tmp_path / "jobs" / "overlays" / "both"
    shutil.copytree(JOBS, tmp_path / "jobs")
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "resources: [../../nightly]\ncomponents: [../../agents, ../../object-store]\n"
    )
    [cron] = of_kind(build("overlays/both", tmp_path / "jobs"), "CronJob")
    [container] = containers(next(templates(cron)))
    assert "agents" in container["args"]
    names = {one["name"] for one in container["env"]}
    assert {"AUDIT_RUN_OUT", "AWS_ACCESS_KEY_ID", "RAY_AUTH_MODE"} <= names


def test_pods_are_restricted_but_for_what_an_agent_needs(manifests: list[Manifest]) -> None:
    """The restricted Pod Security Standard, field by field; agents: root, and one hostPath, or two
    where they ask the node's switch."""
    asked = any(
        "agents" in words and any("datapath" in word.split(",") for word in words)
        for words in commands(manifests)
    )
    for template in (t for manifest in manifests for t in templates(manifest)):
        spec = template["spec"]
        agent = template["metadata"]["labels"]["app.kubernetes.io/component"] == "agent"
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"].get("runAsNonRoot", False) is not agent
        assert (spec["securityContext"].get("runAsUser") == 0) is agent
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        paths = [v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v]
        sockets = [["/var/run/openvswitch"], ["/var/run/ovn-ic"]] if agent else [[]]
        switch = ["/var/run/openvswitch"] if agent and asked else []
        assert paths in [[*place, *switch] for place in sockets]
        for container in containers(template):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert not context.get("privileged")
            for mount in container["volumeMounts"]:
                if mount["name"] in ("ovn", "ovs", "token", "ray-token"):
                    assert mount["readOnly"] is True


def test_no_pod_is_in_a_namespace_that_does_not_deny_by_default(
    manifests: list[Manifest],
) -> None:
    denied = {
        policy["metadata"]["namespace"]
        for policy in of_kind(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"] == {} and len(policy["spec"]["policyTypes"]) == 2
    }
    for manifest in manifests:
        if list(templates(manifest)):
            assert manifest["metadata"]["namespace"] in denied


def test_a_token_is_asked_for_wherever_ray_is(manifests: list[Manifest]) -> None:
    for template in (
        t for manifest in of_kind(manifests, "DaemonSet", "CronJob") for t in templates(manifest)
    ):
        for container in containers(template):
            if {"agent", "agents"} & set(container["args"]):
                env = {one["name"]: one.get("value") for one in container["env"]}
                assert env["RAY_AUTH_MODE"] == "token"
                assert env["RAY_AUTH_TOKEN_PATH"].startswith("/var/run/ovn-audit/")
    for job in of_kind(manifests, "RayJob"):
        assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert not of_kind(manifests, "Secret"), "a token is no manifest"


def test_each_exit_code_has_one_rule_at_most_and_is_ours() -> None:
    """An evicted pod is no try; findings and usage errors are not tried again."""
    [cron] = of_kind(build("nightly"), "CronJob")
    rules = cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    codes = {code: rule["action"] for rule in rules[1:] for code in rule["onExitCodes"]["values"]}
    assert codes == {
        ExitCode.FINDINGS: "FailJob",
        ExitCode.USAGE: "FailJob",
        ExitCode.INCOMPLETE: "Count",
        ExitCode.COULD_NOT_RUN: "Count",
        ExitCode.INTERRUPTED: "Count",
    }
    assert set(codes) | {ExitCode.CLEAN} == set(ExitCode)


def commands(manifests: list[Manifest]) -> Iterator[list[str]]:
    for manifest in manifests:
        if manifest["kind"] == "RayJob":
            yield manifest["spec"]["entrypoint"].split()[1:]
        for template in templates(manifest):
            yield from (one["args"] for one in containers(template) if "args" in one)


def test_what_is_called_is_there(manifests: list[Manifest]) -> None:
    """Every command and flag in a manifest is one of this audit's."""
    for words in commands(manifests):
        command = audit.get_command(click.Context(audit), words[0])
        assert command is not None, words
        flags = {flag for parameter in command.params for flag in parameter.opts}
        for word in words[1:]:
            assert not word.startswith("--") or word in flags, word
