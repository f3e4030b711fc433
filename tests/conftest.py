"""Fixtures shared by all tests."""

import os
import subprocess
import sys
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


@pytest.fixture(scope="session")
def lossless_cifar10(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with ``cifar-10-batches-py``: true pixels, 1,017 images of each official file."""
    builder = real_data / "cifar10" / "build.py"
    if not builder.is_file():
        pytest.skip(f"{builder} is not there")
    root = tmp_path_factory.mktemp("lossless")
    subprocess.run([sys.executable, builder, "lossless", root], check=True, capture_output=True)
    return root
