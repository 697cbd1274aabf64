"""What changed between two releases, in words.

`compare` is a pure function from two compiled pipelines to the differences between them. It follows the references: a
step is compared with everything that it is made of (task, component, executor, platform settings), so the compiler's
internal names may change without being news, and nothing that decides what runs can change without being named.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from components.common.ledger import canonical

Kind = Literal[
    "pipelines",
    "parameters",
    "steps",
    "wiring",
    "conditions",
    "caching",
    "retries",
    "code",
    "images",
    "resources",
    "placement",
    "secrets",
    "security",
    "platform",
    "description",
    "other",
]
Specification = Sequence[Mapping[str, Any]]
"""The YAML documents of one pipeline: KFP IR and, if a step needs one, its platform specification."""

_LONG = 80
"""Characters above which a value is not quoted."""

_PARAMETER = "task.inputs.parameters."
_RESOURCE = "executor.container.resources."


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        pipeline: The pipeline; '' for what belongs to the release as a whole.
        subject: What changed: `step tune`, `parameter dataset`, `image model`.
        kind: Which sort of thing changed.
        what: The change in words, to be read after the subject.
        field: Where in the compiled pipeline, dotted.
        old: The value before; None if there was none.
        new: The value after; None if there is none.
        breaking: Whether those who submit or schedule the pipeline must change what they pass.
    """

    pipeline: str
    subject: str
    kind: Kind
    what: str
    field: str = ""
    old: Any = None
    new: Any = None
    breaking: bool = False


_LABELS: tuple[tuple[str, Kind, str], ...] = (
    (r"executor\.container\.image", "images", "image"),
    (r"executor\.container\.resources\.(?:resourceC|c)puLimit", "resources", "CPU limit"),
    (r"executor\.container\.resources\.(?:resourceM|m)emoryLimit", "resources", "memory limit"),
    (r"executor\.container\.resources\.(?:resourceC|c)puRequest", "resources", "CPU request"),
    (r"executor\.container\.resources\.(?:resourceM|m)emoryRequest", "resources", "memory request"),
    (r"executor\.container\.resources\.accelerator\.(?:resourceT|t)ype", "resources", "kind of accelerator"),
    (r"executor\.container\.resources\.accelerator\.(?:resourceC|c)ount", "resources", "number of accelerators"),
    (r"executor\.container\.resources\.(.+)", "resources", "resource {}"),
    (r"executor\.container\.env\.(.+)\.value", "other", "environment variable {}"),
    (r"executor\.container\.(?:command|args)\..+", "code", "code of its interface"),
    (r"executor\.(.+)", "other", "{}"),
    (r"platform\.securityContext\.(.+)", "security", "security context's {}"),
    (r"platform\.(secretAs.+)", "secrets", "secret at {}"),
    (r"platform\.imagePullSecret\.(.+)", "secrets", "image pull secret {}"),
    (r"platform\.nodeSelector\.(?:labels\.)?(.+)", "placement", "node label {}"),
    (r"platform\.(tolerations|nodeAffinity|podAffinity)\.(.+)", "placement", "{} {}"),
    (r"platform\.(.+)", "platform", "platform's {}"),
    (r"task\.triggerPolicy\.condition", "conditions", "condition"),
    (r"task\.triggerPolicy\.(.+)", "conditions", "trigger's {}"),
    (r"task\.cachingOptions\.enableCache", "caching", "caching"),
    (r"task\.cachingOptions\.(.+)", "caching", "caching's {}"),
    (r"task\.retryPolicy\.maxRetryCount", "retries", "number of retries"),
    (r"task\.retryPolicy\.(.+)", "retries", "retry policy's {}"),
    (r"task\.inputs\.\w+\.(.+)", "wiring", "input {}"),
    (r"task\.after", "wiring", "extra order (runs after)"),
    (r"task\.unordered", "wiring", "missing order (does not wait for)"),
    (r"outputs\.\w+\.([^.]+).*", "wiring", "output {}"),
    (r"(component\..*|task\.|pipelineInfo\.)?description", "description", "description"),
    (r"component\.(?:in|out)putDefinitions\.(?:parameters|artifacts)\.([^.]+)\.(.+)", "other", "{}'s {}"),
    (r"(?:component|task)\.(.+)", "other", "{}"),
    (r"platforms\.(.+)", "platform", "platform setting {}"),
)


def compare_releases(
    old: Mapping[str, Specification],
    old_images: Mapping[str, str],
    new: Mapping[str, Specification],
    new_images: Mapping[str, str],
) -> list[Change]:
    """Compare two sets of pipelines; a step is then told to use another image only if it is another of the locks'."""
    changes = [
        _change("", f"image {image}", "images", "", image, old_images.get(image), new_images.get(image))
        for image in sorted({*old_images, *new_images})
        if old_images.get(image) != new_images.get(image)
    ]
    for name in sorted({*old, *new}):
        if name not in new:
            changes.append(Change(name, "pipeline", "pipelines", "was removed", name, old=name, breaking=True))
        elif name not in old:
            changes.append(Change(name, "pipeline", "pipelines", "is new", name, new=name))
        else:
            changes += compare(name, _by_name(old[name], old_images), _by_name(new[name], new_images))
    return changes


def compare(pipeline: str, old: Specification, new: Specification) -> list[Change]:
    """Compare two compiled pipelines.

    Args:
        pipeline: Name of the pipeline, for the changes.
        old: Its YAML documents before.
        new: Its YAML documents after.

    Returns:
        The changes; none if and only if the same would run under the same interface.
    """
    before, after = _Graph(old), _Graph(new)
    changes = list(_compare_fields(pipeline, "pipeline", before.rest(), after.rest()))
    for section, subject in (("inputDefinitions", ""), ("outputDefinitions", "output ")):
        for group, noun in (("parameters", "parameter"), ("artifacts", "artifact")):
            changes += _compare_interface(
                pipeline,
                f"root.{section}.{group}",
                subject + noun,
                before.root.get(section, {}).get(group, {}),
                after.root.get(section, {}).get(group, {}),
            )
    changes += _compare_dags(pipeline, (before, after), (before.root, after.root))
    unused, now_unused = before.unused(), after.unused()
    changes += [
        _change(pipeline, f"unused {name}", "other", "definition", name, unused.get(name), now_unused.get(name))
        for name in sorted({*unused, *now_unused})
        if unused.get(name) != now_unused.get(name)
    ]
    return changes


def describe(changes: Sequence[Change], markdown: bool = False) -> str:
    """Changes as text, grouped by pipeline, the same change of several steps said once; '' if there are none."""
    paragraphs: dict[str, dict[tuple[bool, str], list[str]]] = {}
    for change in changes:
        heading = change.pipeline or "the release"
        paragraphs.setdefault(heading, {}).setdefault((change.breaking, change.what), []).append(change.subject)
    lines = []
    for heading, sentences in paragraphs.items():
        lines.append(f"## {heading}\n" if markdown else heading)
        for (breaking, what), subjects in sorted(sentences.items(), key=lambda item: not item[0][0]):
            mark = ("**Breaking:** " if markdown else "breaking: ") if breaking else ""
            lines.append(f"{'- ' if markdown else '  '}{mark}{_together(subjects)}: {what}")
        lines.append("")
    return "\n".join(lines).rstrip()


def as_json(changes: Sequence[Change]) -> str:
    """Changes as JSON."""
    return json.dumps([asdict(change) for change in changes], ensure_ascii=False, indent=2)


class _Graph:
    """A compiled pipeline whose references are followed; what no step refers to stays in `unused`."""

    def __init__(self, documents: Specification) -> None:
        self.specification = documents[0] if documents else {}
        self.platform = documents[1] if len(documents) > 1 else {}
        self.root: Mapping[str, Any] = self.specification.get("root", {})
        self._components = self.specification.get("components", {})
        self._executors = self.specification.get("deploymentSpec", {}).get("executors", {})
        self._platform_executors = (
            self.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        )
        self._used: set[tuple[str, str]] = set()
        for label in _labels(self.root):
            self._used |= {("executor", label), ("platform", label)}
        self._visit(self.root, ())

    def component(self, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """The component a task refers to; empty if it is not defined."""
        return self._components.get(task.get("componentRef", {}).get("name", ""), {})

    def rest(self) -> dict[str, Any]:
        """Fields that belong to no step: names, versions, settings of the whole pipeline."""
        deployment = {
            key: value for key, value in self.specification.get("deploymentSpec", {}).items() if key != "executors"
        }
        root = {
            key: value
            for key, value in self.root.items()
            if key not in ("dag", "inputDefinitions", "outputDefinitions")
        }
        label = self.root.get("executorLabel", "")
        platforms = json.loads(json.dumps(self.platform))
        platforms.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).pop("executors", None)
        return {
            **_flat(
                {
                    **{
                        key: value
                        for key, value in self.specification.items()
                        if key not in ("components", "deploymentSpec", "root")
                    },
                    "deploymentSpec": deployment,
                    "root": root,
                    **platforms,
                }
            ),
            **_flat(self._executors.get(label, {}), "executor."),
            **_flat(self._platform_executors.get(label, {}), "platform."),
        }

    def unused(self) -> dict[str, Any]:
        """Definitions that nothing refers to."""
        tables = (
            ("component", self._components),
            ("executor", self._executors),
            ("platform", self._platform_executors),
        )
        return {
            f"{kind} {name}": value
            for kind, table in tables
            for name, value in table.items()
            if (kind, name) not in self._used
        }

    def step(self, name: str, task: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
        """Everything a step is made of as flat fields, its wires in words, other tasks under their new names."""
        reference = task.get("componentRef", {}).get("name", "")
        component = self.component(task)
        label = component.get("executorLabel", "")
        own = {key: value for key, value in task.items() if key not in ("componentRef", "dependentTasks", "inputs")}
        shown = own.get("taskInfo", {}).get("name", "")
        own["taskInfo"] = {**own.get("taskInfo", {}), "name": None if shown == name else shown}
        producers = {renamed.get(one, one) for one in _producers(task.get("inputs", {}))}
        waits = {renamed.get(one, one) for one in task.get("dependentTasks", [])}
        fields = {
            **_flat(own, "task."),
            **_flat(
                {key: value for key, value in component.items() if key not in ("dag", "executorLabel")}, "component."
            ),
            **_flat(self._executors.get(label, {}), "executor."),
            **_flat(self._platform_executors.get(label, {}), "platform."),
            **_wires(task.get("inputs", {}), renamed),
        }
        if waits - producers:
            fields["task.after"] = ", ".join(sorted(waits - producers))
        if producers - waits:
            fields["task.unordered"] = ", ".join(sorted(producers - waits))
        if not component:
            fields["component"] = f"{reference}, which is not defined"
        elif label and label not in self._executors:
            fields["executor"] = f"{label}, which is not defined"
        elif not label and "dag" not in component:
            fields["executor"] = "none"
        return _sized(fields)

    def signature(self, task: Mapping[str, Any], above: tuple[str, ...] = ()) -> bytes:
        """What a step does, whatever it is called and wherever its inputs come from."""
        reference = task.get("componentRef", {}).get("name", "")
        fields = {
            key: value
            for key, value in self.step("", {"componentRef": {"name": reference}}, {}).items()
            if not re.match(r"platform|executor\.container\.(image|resources)", key)
        }
        inner = self.component(task).get("dag", {}).get("tasks", {}) if reference not in above else {}
        nested = {name: self.signature(one, (*above, reference)).decode() for name, one in inner.items()}
        return canonical([fields, nested])

    def _visit(self, component: Mapping[str, Any], above: tuple[str, ...]) -> None:
        for task in component.get("dag", {}).get("tasks", {}).values():
            name = task.get("componentRef", {}).get("name", "")
            self._used.add(("component", name))
            for label in _labels(self.component(task)):
                self._used |= {("executor", label), ("platform", label)}
            if name not in above:
                self._visit(self.component(task), (*above, name))


def _compare_dags(
    pipeline: str,
    graphs: "tuple[_Graph, _Graph]",
    components: tuple[Mapping[str, Any], Mapping[str, Any]],
    path: tuple[str, ...] = (),
    above: tuple[tuple[str, str], ...] = (),
) -> Iterator[Change]:
    """Compare the steps of two DAGs and, where a step is a DAG itself, the steps in it."""
    old, new = graphs
    before, after = (component.get("dag", {}).get("tasks", {}) for component in components)
    renamed = _renames(old, new, before, after)
    for name in sorted(before.keys() - after.keys() - renamed.keys()):
        yield Change(pipeline, _step(path, name), "steps", "was removed", "task", old=name)
    for name in sorted(after.keys() - before.keys() - set(renamed.values())):
        yield Change(pipeline, _step(path, name), "steps", f"is new{_gist(new, after[name])}", "task", new=name)
    for was, now in sorted(renamed.items()):
        yield Change(pipeline, _step(path, was), "steps", f"is now called {now}", "task", old=was, new=now)
    pairs = {name: name for name in before.keys() & after.keys()} | renamed
    for was, now in sorted(pairs.items()):
        one, other = before[was], after[now]
        yield from _compare_fields(pipeline, _step(path, now), old.step(was, one, renamed), new.step(now, other, {}))
        references = (_reference(one), _reference(other))
        if references not in above:
            inner = (old.component(one), new.component(other))
            yield from _compare_dags(pipeline, graphs, inner, (*path, now), (*above, references))
    yield from _compare_fields(
        pipeline,
        f"step {'/'.join(path)}" if path else "pipeline",
        _outputs(components[0], renamed),
        _outputs(components[1], {}),
    )


def _renames(old: "_Graph", new: "_Graph", before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Match steps that are gone with new ones that do the same."""
    arrived = {name: new.signature(after[name]) for name in sorted(after.keys() - before.keys())}
    renamed = {}
    for name in sorted(before.keys() - after.keys()):
        signature = old.signature(before[name])
        if match := next((other for other, does in arrived.items() if does == signature), None):
            renamed[name] = match
            del arrived[match]
    return renamed


def _compare_fields(pipeline: str, subject: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for field in sorted({*old, *new}):
        was, now = old.get(field), new.get(field)
        if was != now or type(was) is not type(now):
            kind, label = _label(field)
            yield _change(pipeline, subject, kind, label, field, was, now)


def _compare_interface(
    pipeline: str, place: str, noun: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Change]:
    """Compare what a pipeline takes or gives; whoever calls it depends on it."""
    for name in sorted({*old, *new}):
        subject, field = f"{noun} {name}", f"{place}.{name}"
        was, now = old.get(name), new.get(name)
        given = noun.startswith("output")
        if was is None:
            how = "is new" if given else "is new and required" if _required(now) else "is new, with a default"
            breaking = not given and _required(now)
            yield Change(pipeline, subject, "parameters", how, field, None, now, breaking)
        elif now is None:
            yield Change(pipeline, subject, "parameters", "was removed", field, was, None, True)
        else:
            if not given and _required(now) and not _required(was):
                what = "is required now"
                yield Change(pipeline, subject, "parameters", what, field, was, now, True)
            flat_was, flat_now = _flat(was), _flat(now)
            for change in _compare_fields(pipeline, subject, flat_was, flat_now):
                typed = "Type" in change.field or change.field in ("type", "isArtifactList")
                kind: Kind = "description" if change.field == "description" else "parameters"
                yield replace(change, kind=kind, field=f"{field}.{change.field}", breaking=typed)


def _required(definition: Any) -> bool:
    return "defaultValue" not in definition and not definition.get("isOptional")


def _change(pipeline: str, subject: str, kind: Kind, label: str, field: str, old: Any, new: Any) -> Change:
    if kind == "code" or any(len(_word(value)) > _LONG for value in (old, new)):
        what = f"{label} {'is new' if old is None else 'was removed' if new is None else 'changed'}"
    else:
        was = "not set" if old is None else _word(old)
        what = f"{label} is {'not set' if new is None else _word(new)}, was {was}".lstrip()
    return Change(pipeline, subject, kind, what, field, old, new)


def _label(field: str) -> tuple[Kind, str]:
    for pattern, kind, label in _LABELS:
        if match := re.fullmatch(pattern, field):
            return kind, label.format(*match.groups())
    return "other", field


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = re.sub(r"(@sha256:[0-9a-f]{12})[0-9a-f]{52}$", r"\1", text)
    return re.sub(r"inputs\.parameter_values\['(?:pipelinechannel--)?([^']+)'\]", r"\1", text) or "empty"


def _together(subjects: Sequence[str]) -> str:
    """`step a, step b` as `steps a, b`; subjects of one group share their first word if there are several."""
    noun, _, first = subjects[0].partition(" ")
    if len(subjects) == 1 or not all(subject.startswith(f"{noun} ") for subject in subjects):
        return ", ".join(subjects)
    return f"{noun}s {', '.join([first, *(subject.partition(' ')[2] for subject in subjects[1:])])}"


def _step(path: tuple[str, ...], name: str) -> str:
    return f"step {'/'.join((*path, name))}"


def _gist(graph: "_Graph", task: Mapping[str, Any]) -> str:
    """Where a new step gets its inputs from."""
    sources = sorted({*_producers(task.get("inputs", {})), *task.get("dependentTasks", [])})
    inner = sorted(graph.component(task).get("dag", {}).get("tasks", {}))
    return (f", after {', '.join(sources)}" if sources else "") + (f", with {', '.join(inner)}" if inner else "")


def _reference(task: Mapping[str, Any]) -> str:
    return task.get("componentRef", {}).get("name", "")


def _labels(component: Mapping[str, Any]) -> list[str]:
    return [component["executorLabel"]] if "executorLabel" in component else []


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values as dotted fields; a list of named things is keyed by their names, an empty value is none."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        names = [item.get("name") if isinstance(item, Mapping) else None for item in value]
        named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        items = dict(zip(names if named else range(len(value)), value, strict=True)).items()
    else:
        return {} if value is None else {prefix.rstrip("."): value}
    return {field: leaf for key, item in items for field, leaf in _flat(item, f"{prefix}{key}.").items()}


def _wires(inputs: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, str]:
    return {
        f"task.inputs.{group}.{name}": _source(source, renamed)
        for group, sources in inputs.items()
        for name, source in sources.items()
    }


def _sized(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Say of a pod's size that the run gives where it comes from, and say it once.

    KFP writes it as a placeholder for an input, as that input, and as another one that repeats the placeholder.
    """
    sources = {
        f"{{{{$.inputs.parameters['{key.removeprefix(_PARAMETER)}']}}}}": (key, source)
        for key, source in fields.items()
        if key.startswith(f"{_PARAMETER}pipelinechannel--")
    }
    given = {key: sources[text] for key, text in fields.items() if key.startswith(_RESOURCE) and text in sources}
    repeated = {json.dumps(fields[key]) for key in given}
    gone = {key for key, text in fields.items() if key.startswith(_PARAMETER) and text in repeated}
    gone |= {key for key, _ in given.values()}
    kept = {key: value for key, value in fields.items() if key not in gone}
    return kept | {key: source for key, (_, source) in given.items()}


def _source(source: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    """Where an input comes from, in words; what has no words is JSON."""
    match _renaming(source, renamed):
        case {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}} if _leaves(source) == 2:
            return f"{task}.{key}"
        case {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}} if _leaves(source) == 2:
            return f"{task}.{key}"
        case {"componentInputParameter": name} | {"componentInputArtifact": name} if _leaves(source) == 1:
            return f"input {name}"
        case {"runtimeValue": {"constant": constant}} if len(source) == 1 and len(source["runtimeValue"]) == 1:
            return json.dumps(constant, ensure_ascii=False)
        case other:
            return json.dumps(other, sort_keys=True, ensure_ascii=False)


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.values())) if isinstance(value, Mapping) else 1


def _outputs(component: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    return _flat(_renaming(component.get("dag", {}).get("outputs", {}), renamed), "outputs.")


def _renaming(value: Any, renamed: Mapping[str, str]) -> Any:
    """A copy in which tasks have their new names."""
    if isinstance(value, Mapping):
        return {
            key: renamed.get(item, item)
            if key in ("producerTask", "producerSubtask") and isinstance(item, str)
            else _renaming(item, renamed)
            for key, item in value.items()
        }
    return [_renaming(item, renamed) for item in value] if isinstance(value, list) else value


def _producers(inputs: Mapping[str, Any]) -> set[str]:
    """The tasks that a task's inputs come from."""
    kinds = ("taskOutputParameter", "taskOutputArtifact", "taskFinalStatus")
    sources = [source for group in inputs.values() for source in group.values()]
    return {source[kind].get("producerTask", "") for source in sources for kind in kinds if kind in source}


def _by_name(documents: Specification, images: Mapping[str, str]) -> list[Any]:
    """The documents with the images' short names in the place of their references."""
    names = {reference: image for image, reference in sorted(images.items(), reverse=True)}
    copied = json.loads(json.dumps(list(documents)))
    for executor in copied[0].get("deploymentSpec", {}).get("executors", {}).values():
        container = executor.get("container", {})
        if "image" in container:
            container["image"] = names.get(container["image"], container["image"])
    return copied
