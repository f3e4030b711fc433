"""Poolings against their definitions, and dilated ones against strided ones."""

import pytest
import torch
from torch.nn import functional as F

from resnet_hub.nets.pooling import AveragePool, BlurPool, antialiasing

SIZES = [(8, 8), (7, 7), (4, 9), (2, 3)]
KINDS = [AveragePool, BlurPool]


def images(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_an_average_pool_is_torchs_that_rounds_up(size):
    x = images(*size)
    assert torch.equal(AveragePool()(x), F.avg_pool2d(x, 2, ceil_mode=True))


@pytest.mark.parametrize("size", SIZES)
def test_a_blur_pool_is_a_convolution_with_the_binomial_filter(size):
    x = images(*size)
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    reflected = F.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = F.conv2d(reflected, kernel, stride=2, groups=3)
    torch.testing.assert_close(BlurPool()(x), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (4, 5)])
def test_every_second_place_without_the_stride_is_the_strided_map(kind, size):
    x = images(*size)
    fine = kind(1)(x)
    assert fine.shape == x.shape
    torch.testing.assert_close(fine[:, :, ::2, ::2], kind(2)(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dilation", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (17, 19), (15, 14)])
def test_a_dilated_pool_pools_each_of_the_maps_that_it_runs_between(kind, dilation, stride, size):
    x = images(*size)
    pool = kind(stride)
    pool.dilation = dilation
    found = pool(x)
    assert found.shape[2:] == tuple(-(-side // stride) for side in size)
    step = dilation // stride
    torch.testing.assert_close(
        found[:, :, ::step, ::step], kind(1)(x[:, :, ::dilation, ::dilation])
    )


def test_nothing_strides_in_the_place_of_a_convolution_that_does_not():
    assert antialiasing("average", 1) is None
    assert antialiasing("none", 2) is None
    assert isinstance(antialiasing("average", 2), AveragePool)
    assert isinstance(antialiasing("blur", 2), BlurPool)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_holds_no_tensor(kind):
    assert not kind().state_dict()
    assert not list(kind().buffers())
    assert repr(kind()) == f"{kind.__name__}(stride=2, dilation=1)"
