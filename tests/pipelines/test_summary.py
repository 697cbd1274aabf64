"""What a person sees when a run has ended: true, and copyable."""

import ast
import io
from pathlib import Path

from rich.console import Console

from components.common.environment import load_environment
from components.common.recipes import load_recipe
from components.release.rollout import Rollout
from pipelines.line import LineRun
from pipelines.summary import print_summary


def test_the_snippet_is_python_whatever_was_asked(tmp_path: Path) -> None:
    question = 'What is "C:\\new" [/x]\nfor?'
    rollout = Rollout("assistant", "r1", "", 0, 0, True, ("r1",), (), "", "")
    finished = LineRun("release", "exact match [0.9]", rollout, None, question, tmp_path / "[1]" / "report.html", 61.0)
    shown = io.StringIO()
    environment = load_environment("local", tmp_path)
    print_summary(Console(file=shown, width=40), finished, load_recipe("default"), environment)
    text = shown.getvalue()
    snippet = ast.parse(text[text.index("from openai") : text.index("report ")])
    assert any(isinstance(node, ast.Constant) and node.value == question for node in ast.walk(snippet))
    assert "exact match [0.9]" in text
    assert f"{tmp_path}/[1]/report.html" in text
    assert "61 s" in text
