"""What an environment's cluster says about itself: questions asked, answers kept, nothing judged.

Only reading requests are sent, and the reviews in which Kubernetes says what somebody may do. Secrets are asked for as
metadata, so their values never leave the API server.
"""

import http.client
import json
import os
import socket
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import httpx
import urllib3
from kubernetes import client

from components.common.environment import Environment, Kubeflow, Serving
from components.common.errors import HeadraceError
from components.common.store import open_store
from components.release.api import configuration
from pipelines.kubeflow import VARIABLES

KSERVE = "kserve"
"""Namespace that KServe's controller and its configuration live in."""

CONTROLLER = f"/apis/apps/v1/namespaces/{KSERVE}/deployments/kserve-controller-manager"
CONFIGURATION = f"/api/v1/namespaces/{KSERVE}/configmaps/inferenceservice-config"
NODES = "/api/v1/nodes"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
LEDGER_SECRET = "headrace-ledger"
SUBJECTS_SECRET = "headrace-subjects"
ERASURE_SECRET = "headrace-erasure"
NOTIFY_SECRET = "headrace-notify"
MODEL_SECRET = "headrace-model-key"
KEYSET_SECRET = "headrace-keyset"

_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_SECONDS = 10
_REVIEWS = "/apis/authorization.k8s.io/v1"
_AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True)
class Definition:
    """A custom resource that Headrace needs.

    Attributes:
        name: Plural and group.
        version: The API version it must serve.
        fields: Fields that its schema must have, dotted.
        since: The release of its project that brought them.
    """

    name: str
    version: str
    since: str
    fields: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where the definition is read."""
        return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{self.name}"

    @property
    def discovery(self) -> str:
        """Where everybody who is logged in sees that it is served."""
        return f"/apis/{self.name.partition('.')[2]}/{self.version}"


@dataclass(frozen=True, order=True)
class Permission:
    """One thing that somebody may or may not do in a namespace, to all objects of a kind or to the named one."""

    namespace: str
    resource: str
    verb: str
    name: str = ""

    @property
    def object(self) -> str:
        """What it may be done to, as a person would say it."""
        return f"{self.resource}{f' {self.name}' if self.name else ''} in {self.namespace}"


@dataclass(frozen=True)
class Account:
    """A service account and what the steps that run as it need."""

    namespace: str
    name: str
    needs: tuple[Permission, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What an HTTP server answered; status 0 means that it could not be reached, and `body` then says why."""

    status: int
    body: Any = None

    @property
    def ok(self) -> bool:
        """It answered with what was asked for."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """Why not, in the server's words."""
        if isinstance(self.body, Mapping):
            return str(self.body.get("message", self.status))
        return str(self.body or f"HTTP {self.status}")


@dataclass(frozen=True)
class Facts:
    """Everything that was seen.

    Attributes:
        environment: What was to be looked at.
        address: Kubernetes API.
        verified: Its certificate is checked.
        trouble: Why it cannot be used, and what to do; None if it can.
        version: Its version.
        skew: Seconds that this machine's clock is ahead of the server's.
        answers: By path.
        allowed: What the caller ('') and each service account may do; None where nobody could be asked.
        kubeflow: What the KFP API's health check answered.
        services: What further services answered, by field of the environment.
        store: Why the store cannot be read; empty if it can.
        unresolved: Why the gateway's host has no address; empty if it has one.
    """

    environment: Environment
    address: str = ""
    verified: bool = True
    trouble: tuple[str, str] | None = None
    version: dict[str, str] = field(default_factory=dict)
    skew: float = 0.0
    answers: dict[str, Answer] = field(default_factory=dict)
    allowed: dict[tuple[str, Permission], bool | None] = field(default_factory=dict)
    kubeflow: Answer | None = None
    services: dict[str, Answer] = field(default_factory=dict)
    store: str = ""
    unresolved: str = ""


def gather(
    environment: Environment, paths: Mapping[str, bool], own: list[Permission], accounts: list[Account]
) -> Facts:
    """Ask everything.

    Args:
        environment: Whose cluster it is.
        paths: What to read from the Kubernetes API; True: its metadata only.
        own: What the caller needs to be allowed.
        accounts: Service accounts, with what they need to be allowed.
    """
    seen: dict[str, Any] = {
        "kubeflow": _kubeflow(environment.kubeflow) if environment.kubeflow.host else None,
        "store": _unreadable(environment.store),
        "unresolved": _unresolved(environment.serving.gateway),
    }
    # MLflow answers where it is an HTTP server; a laptop's is a file.
    urls = {"prometheus": (environment.prometheus, "/-/ready"), "tracking": (environment.tracking, "/health")}
    try:
        api = Api(environment.serving)
    except HeadraceError as error:
        return Facts(environment, trouble=(str(error), "ask for a kubeconfig of the cluster"), **seen)
    began = time.time()
    version, date = api.ask("/version")
    # The header has whole seconds, and was written somewhere between the question and the answer.
    skew = (began + time.time()) / 2 - date.timestamp() - 0.5 if date else 0.0
    seen |= {"address": api.address, "verified": api.verified, "skew": skew, "services": _outside(urls)}
    if trouble := api.trouble(version):
        return Facts(environment, trouble=trouble, **seen)
    answers = {path: api.ask(path, metadata=metadata)[0] for path, metadata in paths.items()}
    allowed = {("", need): api.may(need) for need in own}
    for account in accounts:
        allowed |= {(account.name, need): api.may(need, account) for need in account.needs}
    seen["services"] |= _inside(api, urls)
    return Facts(environment, version=version.body, answers=answers, allowed=allowed, **seen)


class Api:
    """A Kubernetes API, asked by path."""

    def __init__(self, serving: Serving) -> None:
        """Find out how to reach it; nothing is sent yet.

        Raises:
            HeadraceError: No API is configured.
        """
        found = configuration(serving)
        self.address = found.host
        self.verified = found.verify_ssl
        self._client = client.ApiClient(found)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        metadata: bool = False,
        impersonated: Account | None = None,
    ) -> tuple[Answer, datetime | None]:
        """Send one request, a POST if it has a body.

        Returns:
            The answer, and when the server says it gave it.
        """
        headers = {"Accept": _METADATA if metadata else "application/json", "Content-Type": "application/json"}
        if impersonated:
            headers["Impersonate-User"] = _user(impersonated)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # a finding of its own
                answered, status, head = self._client.call_api(
                    path,
                    "POST" if body else "GET",
                    header_params=headers,
                    body=body,
                    response_type="object",
                    auth_settings=["BearerToken"],
                    _request_timeout=_SECONDS,
                )
        except client.ApiException as error:
            return Answer(error.status or 0, _message(error)), _date(error.headers)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Answer(0, error), None
        return Answer(status, answered), _date(head)

    def may(self, need: Permission, account: Account | None = None) -> bool | None:
        """Ask Kubernetes whether the caller, or a service account, may do something; None if it does not say."""
        name, _, group = need.resource.partition(".")
        resource, _, subresource = name.partition("/")
        attributes = {"namespace": need.namespace, "verb": need.verb, "group": group, "resource": resource}
        further = {"subresource": subresource, "name": need.name}
        spec: dict[str, Any] = {"resourceAttributes": attributes | {key: text for key, text in further.items() if text}}
        if account is None:
            return _verdict(self._review("SelfSubjectAccessReview", spec))
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account.namespace}", _AUTHENTICATED]
        verdict = _verdict(self._review("SubjectAccessReview", {**spec, "user": _user(account), "groups": groups}))
        if verdict is None:
            verdict = _verdict(self._review("SelfSubjectAccessReview", spec, account))
        return verdict

    def trouble(self, version: Answer) -> tuple[str, str] | None:
        """Say why the API cannot be used and what to do; None if it can."""
        if not version.status:
            return _unreachable(self.address, version.body)
        # /version is open to everybody; a review is not open to somebody who is not logged in.
        login = self._review("SelfSubjectAccessReview", {"nonResourceAttributes": {"path": "/version", "verb": "get"}})
        if 401 in (version.status, login.status):
            return (
                f"the Kubernetes API at {self.address} does not know you: the token is wrong or has expired",
                "log in to the cluster again (gcloud container clusters get-credentials, or your provider's command)",
            )
        if login.status == 403 and "system:anonymous" in login.reason:
            return (
                f"the kubeconfig has no credentials for {self.address}: you are anonymous there",
                "log in to the cluster, or choose another serving.context",
            )
        if not version.ok:
            return f"{self.address} answers with {version.reason}", "see that serving.api is a Kubernetes API"
        return None

    def _review(self, kind: str, spec: Mapping[str, Any], impersonated: Account | None = None) -> Answer:
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        return self.ask(f"{_REVIEWS}/{kind.lower()}s", body, impersonated=impersonated)[0]


def _user(account: Account) -> str:
    return f"system:serviceaccount:{account.namespace}:{account.name}"


def _verdict(review: Answer) -> bool | None:
    return bool(review.body["status"].get("allowed")) if review.ok else None


def _message(error: client.ApiException) -> Any:
    try:
        return json.loads(error.body)
    except (TypeError, ValueError):
        return error.reason


def _date(headers: Mapping[str, str] | None) -> datetime | None:
    try:
        return parsedate_to_datetime((headers or {})["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def _unreachable(address: str, error: Exception) -> tuple[str, str]:
    text = " ".join(str(error).split())
    if "CERTIFICATE" in text.upper():
        return (
            f"{address}: its certificate is not one that the kubeconfig trusts",
            "fetch the kubeconfig anew; a proxy on the way may have put its own certificate in the place",
        )
    if isinstance(error, urllib3.exceptions.NameResolutionError) or "Name or service not known" in text:
        return f"{address}: its name has no address", "see that the cluster still exists, and the VPN or DNS"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return f"{address} refuses the connection or there is no route to it", "see the VPN, and serving.context"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError | urllib3.exceptions.ReadTimeoutError):
        return (
            f"{address} does not answer within {_SECONDS} s",
            "a private cluster is reached through its VPN, bastion or authorised networks only",
        )
    return f"{address}: {text}", "see the kubeconfig and the network"


def kubeflow_headers(kubeflow: Kubeflow) -> dict[str, str]:
    """Return what logs the caller in to the KFP API.

    Raises:
        HeadraceError: The environment variable that should hold it is empty.
    """
    variable = VARIABLES.get(kubeflow.auth)
    if variable is None:
        return {}
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise HeadraceError(f"{variable} is not set; kubeflow.auth is {kubeflow.auth}")
    return {"Authorization": f"Bearer {secret}"} if kubeflow.auth == "token" else {"Cookie": secret}


def _kubeflow(kubeflow: Kubeflow) -> Answer:
    try:
        headers = kubeflow_headers(kubeflow)
    except HeadraceError as error:
        return Answer(0, error)
    return _get(f"{kubeflow.host.rstrip('/')}/apis/v2beta1/healthz", headers)


def _get(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    try:
        answer = httpx.get(url, headers=headers, timeout=_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Answer(0, f"{url}: {error}")
    if answer.is_redirect:
        return Answer(401, f"it sends you to {urlsplit(answer.headers.get('location', '')).netloc or 'a login page'}")
    return Answer(answer.status_code, f"HTTP {answer.status_code} {http.client.responses.get(answer.status_code, '')}")


def _outside(urls: Mapping[str, tuple[str, str]]) -> dict[str, Answer]:
    """Ask the services that can be reached from here."""
    return {
        name: _get(url.rstrip("/") + path)
        for name, (url, path) in urls.items()
        if url.startswith("http") and not _in_cluster(url)
    }


def _inside(api: Api, urls: Mapping[str, tuple[str, str]]) -> dict[str, Answer]:
    """Ask the services that only pods reach, through the Kubernetes API's proxy."""
    answers = {}
    for name, (url, path) in urls.items():
        if _in_cluster(url):
            parts = urlsplit(url)
            service, namespace = (parts.hostname or "").split(".")[:2]
            port = parts.port or (443 if parts.scheme == "https" else 80)
            proxied = f"/api/v1/namespaces/{namespace}/services/{parts.scheme}:{service}:{port}/proxy"
            answers[name] = api.ask(f"{proxied}{parts.path.rstrip('/')}{path}")[0]
    return answers


def _in_cluster(url: str) -> bool:
    return ".svc" in (urlsplit(url).hostname or "")


def _unreadable(store: str) -> str:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    try:
        list(islice(open_store(store).list("ledger/heads/"), 1))
    except GoogleAPICallError as error:
        return f"{error.code} {error.message}"  # never its own text, which quotes the whole request
    except (HeadraceError, GoogleAuthError, OSError) as error:
        return str(error)
    return ""


def _unresolved(gateway: str) -> str:
    host = urlsplit(gateway).hostname
    if not host:
        return "serving.gateway names no host"
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return error.strerror or str(error)
    return ""
