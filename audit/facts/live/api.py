"""The API server: Lists page by page, and what it refuses in a sentence.

Objects are JSON as the server sends it: they are kept as `kubectl get -o json` would print them, so
that a live cluster and a snapshot are read by the same code.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from audit.errors import ClusterError, NoClusterError
from audit.facts.live.access import Access
from audit.facts.live.resources import Listed, Right

PAGE = 500
"""Objects per page, as kubectl asks for (--chunk-size)."""
_TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""
_ATTEMPTS = 6
_LONGEST_WAIT_S = 30.0
_SHOWN = 300
_JSON = {"Content-Type": "application/json"}
_MERGED = {"Content-Type": "application/strategic-merge-patch+json"}
_OK, _CREATED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _TOO_MANY = (
    *(200, 201, 401, 403),
    *(404, 410, 429),
)
_TRANSIENT = frozenset({_TOO_MANY, 500, 502, 503, 504})


class ForbiddenError(ClusterError):
    """The credentials are good, and do not allow this."""


class NoSuchKindError(ClusterError):
    """The API server does not serve this kind: its CRD is not installed."""


class _ExpiredError(Exception):
    """The continue token is too old: the list begins again (410 Gone)."""


def connect(access: Access) -> client.ApiClient:
    """Return an API client of its own; ClusterError when there is nothing to connect to.

    As client-go does: a named file, $KUBECONFIG, ~/.kube/config, then the pod's own account.
    """
    file = str(access.kubeconfig) if access.kubeconfig else None
    settings = client.Configuration()
    settings.retries = False  # retried here: 429 says how long to wait
    try:
        if file is None and not access.context and _inside_a_pod():
            config.load_incluster_config(client_configuration=settings)
            return client.ApiClient(configuration=settings)
        api: client.ApiClient = config.new_client_from_config(
            config_file=file,
            context=access.context or None,
            persist_config=False,
            client_configuration=settings,
        )
    except (config.ConfigException, OSError, ValueError, TypeError, AttributeError) as error:
        what = f"{file} cannot be used" if file else "there is no kubeconfig that can be used here"
        why = str(error).rstrip(".")
        raise NoClusterError(
            f"{what} ({why}): name a cluster with --kubeconfig and --context, or audit a file with "
            "--snapshot"
        ) from error
    return api


def _inside_a_pod() -> bool:
    """Say whether a pod's account is all there is."""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    named = any(Path(file).exists() for file in files.split(os.pathsep) if file)
    return not named and "KUBERNETES_SERVICE_HOST" in os.environ


class Server:
    """An API server, asked one thing after another. Use as a context."""

    def __init__(self, access: Access) -> None:
        self._client = connect(access)
        self.host: str = self._client.configuration.host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def items(self, listed: Listed) -> tuple[str, list[Mapping[str, Any]]]:
        """Return a List's resourceVersion and items, of the first version that is served.

        ForbiddenError, NoSuchKindError, or ClusterError when the server cannot be asked.
        """
        for version in listed.versions:
            path = listed.path(version)
            try:
                return self._whole(path)
            except NoSuchKindError:
                continue
            except ForbiddenError:
                # Rights are asked for before the kind: it may not exist at all.
                if self.serves(listed):
                    raise
        raise NoSuchKindError(f"{self.host} does not serve {listed.resource}.{listed.group}")

    def serves(self, listed: Listed) -> bool:
        """Say whether a kind exists, by discovery, which every authenticated user may ask."""
        if not listed.group:
            return True
        for version in listed.versions:
            try:
                discovered = self.ask("GET", f"/apis/{listed.group}/{version}", [])
            except NoSuchKindError:
                continue
            except ForbiddenError:
                return True
            if any(
                kind.get("name") == listed.resource for kind in discovered.get("resources") or ()
            ):
                return True
        return False

    def _whole(self, path: str) -> tuple[str, list[Mapping[str, Any]]]:
        """Return all pages of one List, begun again when it changed too long ago to go on."""
        for limit in (PAGE, PAGE, 0):  # 0: all at once, which cannot expire
            try:
                items: list[Mapping[str, Any]] = []
                version = ""
                for page in self._pages(path, limit):
                    version = str(page.get("metadata", {}).get("resourceVersion", ""))
                    items += page.get("items") or ()
            except _ExpiredError:
                continue
            return version, items
        raise ClusterError(f"{self.host}{path} expires before it is read; try again")

    def _pages(self, path: str, limit: int) -> Iterator[Mapping[str, Any]]:
        following = ""
        while True:
            query = [("limit", str(limit))] if limit else []
            page = self.ask("GET", path, [*query, *([("continue", following)] * bool(following))])
            yield page
            following = str(page.get("metadata", {}).get("continue") or "")
            if not following:
                return

    def version(self) -> str:
        """Return the server's version, such as `v1.34.1`."""
        return str(self.ask("GET", "/version", []).get("gitVersion", "unknown"))

    def allows(self, right: Right, namespace: str) -> bool:
        """Ask whether these credentials have a right (SelfSubjectAccessReview)."""
        attributes = {
            "verb": right.verb,
            "group": right.group,
            "resource": right.resource,
            "subresource": right.subresource,
            "namespace": namespace if right.namespaced else "",
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self.ask("POST", path, [], body).get("status", {}).get("allowed"))

    def ask(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: object = None
    ) -> Mapping[str, Any]:
        """Ask once, and again while the server says to wait; return what it answers."""
        message = ""
        for attempt in range(_ATTEMPTS):
            try:
                status, headers, text = self._send(method, path, query, body)
            except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                status, headers, text = 0, {}, str(error)
            if status in (_OK, _CREATED):
                return self._object(path, text)
            message = _message(text)
            self._refuse(status, path, message)
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_wait(headers, attempt))
        raise ClusterError(f"{self.host}{path} does not answer: {message[:_SHOWN]}; try again")

    def _send(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: object
    ) -> tuple[int, Mapping[str, str], str]:
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": "application/json", **_content(method, body)},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*request, _request_timeout=_TIMEOUT_S)
        content: bytes = answer.read() or b""
        headers = {name.lower(): value for name, value in dict(answer.getheaders()).items()}
        return answer.status, headers, content.decode("utf-8", errors="replace")

    def _object(self, path: str, text: str) -> Mapping[str, Any]:
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise ClusterError(f"{self.host}{path} does not answer with JSON: {error}") from error
        if not isinstance(answer, dict):
            raise ClusterError(f"{self.host}{path} does not answer with an object")
        return answer

    def _refuse(self, status: int, path: str, message: str) -> None:
        """Raise what a status means, unless asking again may help."""
        url = f"{self.host}{path}"
        if status == _UNAUTHORIZED:
            raise ClusterError(
                f"{self.host} does not accept these credentials (401); log in again, or name "
                "others with --kubeconfig and --context"
            )
        if status == _FORBIDDEN:
            raise ForbiddenError(f"{url} is forbidden (403): {message[:_SHOWN]}")
        if status == _NOT_FOUND:
            raise NoSuchKindError(f"{url} does not exist (404)")
        if status == _GONE:
            raise _ExpiredError
        if status and status not in _TRANSIENT:
            raise ClusterError(f"{url} answers {status}: {message[:_SHOWN]}")


def _content(method: str, body: object) -> Mapping[str, str]:
    """Return what kind of body a request has, as a header; none where it has no body."""
    if not body:
        return {}
    return _MERGED if method == "PATCH" else _JSON


def _wait(headers: Mapping[str, str], attempt: int) -> float:
    """Return how many seconds to wait: what the server asks for, else longer each time."""
    retry_after = headers.get("retry-after", "")
    wanted = float(retry_after) if retry_after.isdigit() else 0.2 * 2**attempt
    return min(wanted, _LONGEST_WAIT_S)


def _message(text: str) -> str:
    """Return the message of a Status, or the text itself."""
    try:
        status = json.loads(text)
    except ValueError:
        return " ".join(text.split())
    return str(status.get("message", text)) if isinstance(status, dict) else text
