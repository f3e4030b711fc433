"""Depth without fear: what a training step of the deepest nets holds in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from weakref import finalize

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resnet_hub.architecture import Architecture
from resnet_hub.cli.layers import read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.nets.resnet import ResNet


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside that still live: what a GPU would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


def step(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    F.cross_entropy(net(images), labels).backward()
    optimizer.step()


def peak(depth: int, segment: int) -> int:
    """Return the most bytes that live in a step, beside the net and its images."""
    architecture = Architecture(depths=(depth,), block="basic", stem="cifar", width=8, classes=10)
    net = ResNet(architecture, checkpoint_blocks=segment).train()
    with LiveBytes() as live:
        step(net, torch.zeros(16, 3, 16, 16), torch.zeros(16, dtype=torch.long))
    return live.peak


def test_memory_grows_as_the_root_of_the_depth():
    one_map = 4 * 16 * 8 * 16 * 16  # bytes
    everything, segments = peak(36, 0), peak(36, 6)
    assert everything > 36 * 4 * one_map  # two convolutions' inputs, two norms'
    # What enters the six segments, one segment whole, and the few maps that are being worked on.
    assert segments < (6 + 6 * 4 + 10) * one_map
    assert peak(144, 12) < 2.2 * segments


ONE_STEP = """
import json, resource, sys, torch
from resnet_hub.learning.memory import release_at_once
from resnet_hub.nets.resnet import ResNet
sys.path.insert(0, {here!r})
from test_depth import LiveBytes, step

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

images, labels = torch.randn(128, 3, 32, 32), torch.randint({classes}, (128,))
before = peak()
release_at_once()  # as `fit` does
net = ResNet({name!r}, classes={classes}, checkpoint_blocks={segment}).train()
layout = torch.channels_last
net, images = net.to(memory_format=layout), images.to(memory_format=layout)
with LiveBytes() as live:
    step(net, images, labels)
parameters = sum(p.nbytes for p in net.parameters())
print(json.dumps({{"live": live.peak + parameters, "resident": peak() - before}}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes there")
@pytest.mark.parametrize(
    ("recipe", "classes"),
    [("cifar10_resnet1202", 10), ("cifar10_preact1001", 10), ("cifar100_preact1001", 100)],
)
def test_the_deepest_nets_take_a_step_of_128_images_in_under_4_gb(recipe: str, classes: int):
    net = read_recipe([recipe], read_flags(())[0]).net
    code = ONE_STEP.format(
        here=str(Path(__file__).parent),
        classes=classes,
        name=net.name,
        segment=net.checkpoint_blocks,
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    taken = json.loads(done.stdout)
    print(recipe, taken)
    assert taken["live"] < 2e9
    assert taken["resident"] < 4e9
