"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    without_data = pytest.mark.skip(reason="RESNET_HUB_DATA names no folder of real data")
    for item in items:
        if item.get_closest_marker("data") and not os.environ.get("RESNET_HUB_DATA"):
            item.add_marker(without_data)
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: see CONTRIBUTING for what it holds."""
    return Path(os.environ["RESNET_HUB_DATA"])
