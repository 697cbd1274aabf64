"""Runs programs that a model wrote where they can do no harm, or not at all."""

from components.evaluation.benchmark.sandbox.limits import Limits
from components.evaluation.benchmark.sandbox.run import Verdict, ensure_confined, run_program

__all__ = ["Limits", "Verdict", "ensure_confined", "run_program"]
