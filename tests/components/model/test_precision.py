"""Weights are held in the precision that a machine computes in."""

import pytest
import torch

from components.model.precision import resolve, weight_type


@pytest.mark.parametrize(("computes", "name", "kept"), [(True, "bf16", torch.bfloat16), (False, "fp32", torch.float32)])
def test_auto_is_what_the_machine_computes_in(
    computes: bool, name: str, kept: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: computes)
    assert (resolve("auto"), weight_type("auto")) == (name, kept)
    assert (resolve("fp32"), resolve("bf16")) == ("fp32", "bf16"), "what is asked for is done, however slow"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: computes)
    assert resolve("auto") == name
