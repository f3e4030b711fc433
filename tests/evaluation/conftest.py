"""What the tests of evaluation have in common."""

from pathlib import Path

import pytest
import torch

from resnet_hub.nets.resnet import ResNet


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # on so small images threads wait longer than they work


@pytest.fixture
def net() -> ResNet:
    """A fresh net for grey digits."""
    torch.manual_seed(0)
    return ResNet("cifar_resnet20", in_channels=1).eval()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """The images of each forward pass."""
    seen, own = [], ResNet._stem

    def counted(net: ResNet, x: torch.Tensor) -> torch.Tensor:
        if not x.is_meta:  # what a shape is asked of sees no image
            seen.append(len(x))
        return own(net, x)

    monkeypatch.setattr(ResNet, "_stem", counted)
    return seen
