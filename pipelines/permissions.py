"""Who may do what in an environment, as tables, from the manifests that grant it."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[1] / "manifests"
README = MANIFESTS / "README.md"

_BUCKET_ROLES = {"objectViewer": "read", "objectCreator": "add", "objectUser": "read, add, replace, delete"}
_WORDS = {"get": "read", "list": "read", "watch": "read", "patch": "change", "update": "change"}
_ORDER = (
    *("get", "list", "watch", "readArtifact", "create", "patch", "update", "delete"),
    *("archive", "unarchive", "enable", "disable", "retry", "terminate"),
)
_PREFIX = re.compile(r'/objects/([^"]+)"')


def cluster_table(manifests: Path = MANIFESTS) -> str:
    """Tabulate what each account and group may do to which objects, in the namespaces of pipelines and of serving."""
    documents = list(_documents(manifests, "base/*/access.yaml"))
    roles = {_place(item): item["rules"] for item in documents if item["kind"] == "Role"}
    accounts = [_place(item)[1] for item in _documents(manifests, "base/*/accounts.yaml")]
    granted: dict[tuple[str, str], dict[str, list[str]]] = {}
    who = {f"`{name}`" for name in accounts if name != "default"}
    for binding in documents:
        if binding["kind"] == "RoleBinding":
            namespace = binding["metadata"]["namespace"]
            subjects = [_who(subject) for subject in binding["subjects"]]
            who.update(subjects)
            for rule in roles[namespace, binding["roleRef"]["name"]]:
                for objects, subject in itertools.product(_objects(rule), subjects):
                    granted.setdefault((namespace, objects), {}).setdefault(subject, []).extend(rule["verbs"])
    columns = sorted(who, key=_people_last)
    rows = [
        [namespace, objects, *(_verbs(cells.get(column, [])) for column in columns)]
        for (namespace, objects), cells in sorted(granted.items())
    ]
    return _table(["namespace", "objects", *columns], rows)


def bucket_table(manifests: Path = MANIFESTS) -> str:
    """Tabulate what each account may do below each prefix of the bucket."""
    policy = yaml.safe_load((manifests / "base/cloud/permissions.yaml").read_text("utf-8"))
    granted: dict[str, dict[str, list[str]]] = {}
    for binding in policy["spec"]["bindings"]:
        role = _BUCKET_ROLES.get(binding["role"].removeprefix("roles/storage."))
        found = _PREFIX.search(binding.get("condition", {}).get("expression", ""))
        if role and found:
            for member in binding["members"]:
                granted.setdefault(found[1], {}).setdefault(_member(member), []).append(role)
    accounts = sorted({account for grants in granted.values() for account in grants}, key=_people_last)
    rows = [
        [f"`{prefix}`", *("; ".join(grants.get(account, ["–"])) for account in accounts)]
        for prefix, grants in sorted(granted.items())
    ]
    return _table(["objects below", *accounts], rows)


def _documents(manifests: Path, pattern: str) -> Iterator[Any]:
    for path in sorted(manifests.glob(pattern)):
        yield from yaml.safe_load_all(path.read_text("utf-8"))


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _who(subject: Mapping[str, str]) -> str:
    return f"`{subject['name']}`" if subject["kind"] == "ServiceAccount" else f"group {subject['name']}"


def _member(member: Mapping[str, Any]) -> str:
    if "member" in member:
        return member["member"].replace(":", " ")
    return f"`{member['memberFrom']['serviceAccountRef']['name']}`"


def _people_last(who: str) -> tuple[bool, str]:
    return not who.startswith("`"), who


def _objects(rule: Mapping[str, list[str]]) -> Iterator[str]:
    named = f" {', '.join(rule['resourceNames'])}" if "resourceNames" in rule else ""
    for group, resource in itertools.product(rule["apiGroups"], rule["resources"]):
        yield f"{resource}{f'.{group}' if group else ''}{named}"


def _verbs(verbs: list[str]) -> str:
    words = dict.fromkeys(_WORDS.get(verb, verb) for verb in sorted(verbs, key=_ORDER.index))
    return ", ".join(words) or "–"


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
