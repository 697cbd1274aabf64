"""Where a run takes place."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from components.common.environment import load_environment


@pytest.mark.parametrize("name", ["plain", "내 홈 (1)", "#1", "100%", "a%20b", "what?", "50%25?x"])
def test_the_tracking_database_lies_in_the_home_whatever_its_name(tmp_path: Path, name: str) -> None:
    environment = load_environment("local", tmp_path / name)
    assert make_url(environment.tracking).database == str(tmp_path / name / "mlflow.db")
    assert environment.store == f"file://{tmp_path / name}/store"
