"""Stand-ins of the tests of an analysis: a rollout that is only a few fields, and a model server that is none."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from components.common.environment import Environment, Serving
from components.common.errors import HeadraceError
from components.release.manifest import Manifest
from components.release.progress.judge import Series
from components.release.rollout import Rollout


class Service:
    """A service in memory, which is both the rollout and what is counted of it."""

    def __init__(self, rates: tuple[float, float] = (0.02, 0.02), share: int = 10, seed: int = 1) -> None:
        self.service = "assistant"
        self.rates = dict(zip(("old", "new"), rates, strict=True))
        self.now = Rollout(
            service="assistant",
            stable="old",
            candidate="new",
            wanted=share,
            observed=share,
            applied=True,
            ready=("old", "new"),
            crashing=(),
            previous="",
            reason="",
        )
        self.moves: list[int] = []
        self.broken = 0
        self.between: Callable[[int], None] = lambda reads: None
        self.reads = 0
        self._random = np.random.default_rng(seed)
        self._errors = {name: {"trials": 1000.0, "failures": 20.0} for name in self.rates}

    def status(self) -> Rollout:
        if self.broken:
            self.broken -= 1
            raise HeadraceError("the API does not answer")
        return self.now

    def change(self, **fields: object) -> Rollout:
        self.now = dataclasses.replace(self.now, **fields)  # type: ignore[arg-type]
        return self.now

    def introduce(self, manifest: Manifest, percent: int) -> Rollout:
        raise NotImplementedError

    def set_percent(self, percent: int, since: Rollout | None = None) -> Rollout:
        self.moves.append(percent)
        return self.change(wanted=percent, observed=percent)

    def promote(self, since: Rollout | None = None) -> Rollout:
        self.moves.append(100)
        return self.change(stable="new", candidate="", wanted=0, observed=0, previous="old")

    def rollback(self) -> Rollout:
        return self.set_percent(0)

    def pause(self, reason: str) -> Rollout:
        return self.change(paused=reason)

    def resume(self) -> Rollout:
        return self.change(paused="")

    def read(self, service: str, revisions: Sequence[str]) -> dict[str, dict[str, Series]]:
        """Serve 400 requests, and say how far the counters are."""
        self.reads += 1
        self.between(self.reads)
        dealt = int(self._random.binomial(400, self.now.observed / 100))
        for name, number in (("new", dealt), ("old", 400 - dealt)):
            self._errors[name]["trials"] += number
            self._errors[name]["failures"] += int(self._random.binomial(number, self.rates[name]))
        return {"errors": {name: {"p": dict(self._errors[name])} for name in revisions if name in self._errors}}


@pytest.fixture
def place(tmp_path: Path) -> Environment:
    """An environment of which only the store is used."""
    return Environment(
        name="test", store=f"file://{tmp_path}/store", tracking="", signing_key="", serving=Serving(mode="plane")
    )
