"""What publish refuses before it asks anybody to run a model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import DamagedArtifact
from components.release.manifest import Manifest
from components.release.publish.inference_service import (
    Provenance,
    check_stored,
    read_provenance,
    wanted_manifest,
)
from components.release.publish.options import Publish


@pytest.fixture
def laptop(environment_at: Callable[[Path], Environment], tmp_path: Path) -> Environment:
    """An environment with one model version in its store, and no plane."""
    folder = tmp_path / "store" / "models" / "tiny" / ("1" * 64)
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text("{}")
    return environment_at(tmp_path)


def manifest(laptop: Environment, **options: object) -> Manifest:
    return wanted_manifest(Provenance(model="tiny", version="1" * 64), "f" * 64, Publish(**options), laptop)


def revision(laptop: Environment, **options: object) -> str:
    return manifest(laptop, **options)["spec"]["predictor"]["name"]


def test_the_revision_is_named_by_the_model_and_how_it_runs(laptop: Environment) -> None:
    assert revision(laptop) == revision(laptop, canary_percent=50, deadline_seconds=1)
    assert revision(laptop).startswith("r11111111-")
    assert len({revision(laptop), revision(laptop, cpu="2"), revision(laptop, arguments=["--slots", "8"])}) == 3


def test_the_ledger_entry_of_the_version_is_named(laptop: Environment) -> None:
    assert manifest(laptop)["spec"]["predictor"]["annotations"] == {
        "headrace.dev/model": f"tiny/{'1' * 64}",
        "headrace.dev/ledger": "f" * 64,
    }


def test_a_version_that_the_store_lacks_is_refused(laptop: Environment) -> None:
    lost = Provenance(model="tiny", version="2" * 64)
    with pytest.raises(HeadraceError, match=f"models/tiny/{'2' * 64}: no such model version in the store"):
        wanted_manifest(lost, "", Publish(), laptop)


@pytest.mark.parametrize("damage", [b"PROVENANCE", None])
def test_a_version_that_the_store_damaged_or_lost_is_not_published(
    laptop: Environment, tmp_path: Path, damage: bytes | None
) -> None:
    version, model = Provenance(model="tiny", version="1" * 64), tmp_path / "model"
    shutil.copytree(tmp_path / "store" / "models" / "tiny" / version.version, model)
    check_stored(model, version, laptop)
    stored = tmp_path / "store" / "models" / "tiny" / version.version / "provenance.json"
    stored.write_bytes(damage) if damage else stored.unlink()
    with pytest.raises(DamagedArtifact, match=r"provenance\.json is not the file that was registered") as caught:
        check_stored(model, version, laptop)
    assert caught.value.path == model


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "provenance.json: No such file or directory; it must be a version made by model/register"),
        ("{", "provenance.json: value: Invalid JSON"),
        (json.dumps({"model": "tiny"}), "provenance.json: version: Field required; register the model again"),
    ],
)
def test_a_folder_that_is_no_model_version_is_refused(tmp_path: Path, text: str | None, fault: str) -> None:
    if text is not None:
        (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(HeadraceError, match=fault):
        read_provenance(tmp_path)


@pytest.mark.parametrize("wrong", [{"name": "Chat"}, {"canary_percent": 101}, {"cpu": "two"}, {"memory": "1 GB"}])
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Publish(**wrong)
