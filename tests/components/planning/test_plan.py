"""The plan hands out what it declares: KFP refuses a step that returns anything else, and with it every pipeline."""

import inspect

import pytest

from components.common.environment import load_environment
from components.common.recipes import load_recipe
from components.planning.plan.component import plan
from components.planning.plan.split import split


@pytest.mark.parametrize("recipe", ["default", "quick"])
def test_the_parts_are_the_declared_ones(recipe: str) -> None:
    parts = split(load_recipe(recipe).parameter(), load_environment("local").parameter())
    declared = inspect.signature(plan.python_func).return_annotation
    assert set(parts._fields) == set(declared._fields)  # type: ignore[attr-defined]
