"""What the tests of evaluation have in common."""

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
