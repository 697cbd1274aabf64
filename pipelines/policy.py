"""What a release must be, whatever it does: pinned, free of secrets, bounded, unprivileged, complete.

`examine` is a pure function from a release to findings. It reads the release's files as they are and trusts nothing
about how they came to be.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from detect_secrets.plugins import (
    artifactory,
    aws,
    azure_storage_key,
    basic_auth,
    discord,
    github_token,
    gitlab_token,
    jwt,
    mailchimp,
    npm,
    openai,
    private_key,
    pypi_token,
    sendgrid,
    slack,
    square_oauth,
    stripe,
    telegram_token,
    twilio,
)

from pipelines.compile import dangling_references
from pipelines.release import LOCK, MANIFESTS, NOTE, Release, is_pinned

ENTROPY = 4.0
"""Bits per character from which 24 or more mixed characters are taken for a secret. Random base64 of that length has
4.2 on average, identifiers and paths of this project stay below 3.9."""


@dataclass(frozen=True)
class Finding:
    """Something a release must not be.

    Attributes:
        file: File of the release.
        path: Where in the file, dotted.
        problem: What is wrong.
        fix: What to do about it.
    """

    file: str
    path: str
    problem: str
    fix: str

    def __str__(self) -> str:  # noqa: D105
        return f"{self.file}: {self.path}: {self.problem}; {self.fix}"


def examine(release: Release, registries: Sequence[str]) -> list[Finding]:
    """Hold a release against the policy.

    Args:
        release: The release.
        registries: Where images may come from, as reference prefixes that end at a `/`.
    """
    findings = [*_lock(release, registries)]
    for name, documents in release.specifications.items():
        file = f"{name}.yaml"
        specification, platform = documents[0], documents[1] if len(documents) > 1 else {}
        findings += _executors(file, specification, platform, release.images)
        findings += _references(file, specification)
        findings += _conditions(file, specification)
        findings += [*_secrets(file, specification), *_secrets(file, platform)]
        findings += _manifest(release, name, specification, platform)
    note = release.folder / NOTE
    findings += _secrets(NOTE, note.read_text("utf-8") if note.is_file() else "")
    return findings


def find_secret(text: str) -> str:
    """Say which sort of secret a text seems to hold; '' if it holds none."""
    for detector in _DETECTORS:
        if any(detector.analyze_string(text)):
            return detector.secret_type
    if _TOKENS.search(text):
        return "Access token"
    if _ASSIGNED.search(text):
        return "Password"
    for run in _RUNS.findall(_DIGEST.sub("", text)):
        if _is_random(run):
            return "High-entropy string"
    return ""


_DETECTORS = (
    artifactory.ArtifactoryDetector(),
    aws.AWSKeyDetector(),
    azure_storage_key.AzureStorageKeyDetector(),
    basic_auth.BasicAuthDetector(),
    discord.DiscordBotTokenDetector(),
    github_token.GitHubTokenDetector(),
    gitlab_token.GitLabTokenDetector(),
    jwt.JwtTokenDetector(),
    mailchimp.MailchimpDetector(),
    npm.NpmDetector(),
    openai.OpenAIDetector(),
    private_key.PrivateKeyDetector(),
    pypi_token.PypiTokenDetector(),
    sendgrid.SendGridDetector(),
    slack.SlackDetector(),
    square_oauth.SquareOAuthDetector(),
    stripe.StripeDetector(),
    telegram_token.TelegramBotTokenDetector(),
    twilio.TwilioKeyDetector(),
)
# Google API keys and OAuth tokens, Hugging Face tokens: the detectors above have none for them.
_TOKENS = re.compile(r"\bAIza[\w-]{35}\b|\bya29\.[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}\b")
_ASSIGNED = re.compile(r"(?:password|passwd|secret|token|api_?key)\s*[:=]\s*(?=\S*\d)[^\s'\"(\[{$]{8,}", re.IGNORECASE)
_RUNS = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\b")
_HEX = re.compile(r"[0-9a-fA-F]{32,}")
_SECRET_NAME = re.compile(r"(?:password|passwd|secret|token|credentials?|(?:api|access|private)_?key)$", re.IGNORECASE)


def _is_random(run: str) -> bool:
    if _HEX.fullmatch(run):
        return len(set(run.lower())) > 8
    mixed = all(re.search(kind, run) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    counts = Counter(run)
    return mixed and -sum(n / len(run) * math.log2(n / len(run)) for n in counts.values()) >= ENTROPY


def _lock(release: Release, registries: Sequence[str]) -> Iterator[Finding]:
    for image, reference in release.images.items():
        if not is_pinned(reference):
            yield Finding(LOCK, image, f"{reference!r} floats", "pin it as NAME@sha256:DIGEST and cut a new release")
        if not any(reference.startswith(f"{registry.rstrip('/')}/") for registry in registries):
            allowed = ", ".join(registries) or "none"
            yield Finding(
                LOCK,
                image,
                f"{reference} is from a registry that is not allowed (allowed: {allowed})",
                "push it to one that is and cut a new release, or list the registry in the environment's policy",
            )


def _executors(
    file: str, specification: Mapping[str, Any], platform: Mapping[str, Any], images: Mapping[str, str]
) -> Iterator[Finding]:
    executors = specification.get("deploymentSpec", {}).get("executors", {})
    pods = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for name, executor in executors.items():
        container = executor.get("container")
        if container is None:  # an importer runs in no pod of ours
            continue
        path = f"deploymentSpec.executors.{name}"
        image = container.get("image", "")
        if not is_pinned(image):
            yield Finding(file, f"{path}.container.image", f"{image!r} floats", "cut a new release from an image lock")
        elif image not in images.values():
            yield Finding(
                file, f"{path}.container.image", f"{image} is not in {LOCK}", "cut a new release from an image lock"
            )
        resources = container.get("resources", {})
        for what, fields in (
            ("CPU", ("resourceCpuLimit", "cpuLimit")),
            ("memory", ("resourceMemoryLimit", "memoryLimit")),
        ):
            if not any(resources.get(field) for field in fields):
                yield Finding(
                    file,
                    f"{path}.container.resources.{fields[0]}",
                    f"the step has no {what} limit",
                    "set one on the task in the pipeline's source",
                )
        context = pods.get(name, {}).get("securityContext", {})
        if context.get("runAsUser", 1) == 0 or not (context.get("runAsNonRoot") or context.get("runAsUser")):
            yield Finding(
                file,
                f"platforms.kubernetes.{path}.securityContext",
                "the step may run as root",
                "set run_as_non_root on the task in the pipeline's source",
            )


def _references(file: str, specification: Mapping[str, Any]) -> Iterator[Finding]:
    for problem in dangling_references(specification):
        path, _, what = problem.partition(": ")
        yield Finding(file, path, what, "compile the pipeline again; this YAML was edited by hand")


def _conditions(file: str, specification: Mapping[str, Any]) -> Iterator[Finding]:
    """Find conditions on an output that has a name: KFP's local runner passes over the branch and succeeds."""
    components = {"root": specification.get("root", {}), **specification.get("components", {})}
    for owner, component in components.items():
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            condition = task.get("triggerPolicy", {}).get("condition", "")
            inputs = task.get("inputs", {}).get("parameters", {})
            for channel in re.findall(r"inputs\.parameter_values\['([^']+)'\]", condition):
                source = inputs.get(channel, {})
                output = source.get("taskOutputParameter", {}).get("outputParameterKey")
                passed_on = source.get("componentInputParameter", "")
                if output is None and passed_on.startswith("pipelinechannel--"):
                    output = passed_on.rpartition("-")[2]
                if source and output in (None, "Output"):
                    continue
                yield Finding(
                    file,
                    f"{owner}.dag.tasks.{name}.triggerPolicy.condition",
                    f"the condition is on {channel.removeprefix('pipelinechannel--')}, "
                    + (
                        f"the named output {output}, which the local runner cannot read"
                        if source
                        else "which no input gives"
                    ),
                    "let the step return one unnamed value and test that",
                )


def _secrets(file: str, value: Any, path: str = "", name: str = "") -> Iterator[Finding]:
    """Find secrets in a file's values; an environment variable or a default that is named like one counts as one."""
    if isinstance(value, Mapping):
        named = str(value.get("name", name)) if "value" in value else name
        for key, item in value.items():
            inner = named if key in ("value", "defaultValue", "constant", "runtimeValue") else str(key)
            yield from _secrets(file, item, f"{path}.{key}".lstrip("."), inner)
            yield from _secrets(file, str(key), f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(file, item, f"{path}.{index}", name)
    elif isinstance(value, str) and value:
        literal = re.search(r"(?:^|\.)(?:value|defaultValue|constant)$", path) is not None
        kind = find_secret(value) or (
            "Value of something named like a secret" if literal and _SECRET_NAME.search(name) else ""
        )
        if kind:
            yield Finding(
                file,
                path or "text",
                f"this looks like a secret ({kind})",
                "revoke it if it is one, keep it in a Kubernetes Secret that the step names, and cut a new release",
            )


def _manifest(
    release: Release, name: str, specification: Mapping[str, Any], platform: Mapping[str, Any]
) -> Iterator[Finding]:
    file = f"{MANIFESTS}/{name}.yaml"
    path = release.folder / file
    documents = list(yaml.safe_load_all(path.read_text("utf-8"))) if path.is_file() else []
    versions = [one["spec"] for one in documents if one.get("kind") == "PipelineVersion"]
    carried = [(one.get("pipelineSpec"), one.get("platformSpec", {})) for one in versions]
    if carried != [(specification, platform)]:
        yield Finding(file, "spec", f"it does not carry the pipeline of {name}.yaml", "cut a new release")
