"""Counts against published tables: no figure here was computed by this package.

Parameters and multiply-adds of the papers' nets, of torchvision's (its weights' own metadata) and
of timm; multiply-adds in units of 10⁹, as precisely as the tables give them.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from resnet_hub.architecture import Architecture
from resnet_hub.counting import multiply_adds, natural_size, parameters
from resnet_hub.nets.resnet import ResNet
from resnet_hub.zoo import ARCHITECTURES, find_row

FORMS = ["bn_after_addition", "relu_before_addition", "relu_only_preact"]

# net, changes to its row, parameters, 10⁹ multiply-adds
PUBLISHED: list[tuple[str, dict[str, Any], int, float]] = [
    # CIFAR-10 and CIFAR-100 (1512.03385 §4.2), option A unless said otherwise
    ("cifar_resnet20", {}, 269_722, 0.0406),
    ("cifar_resnet32", {}, 464_154, 0.0689),
    ("cifar_resnet44", {}, 658_586, 0.0972),
    ("cifar_resnet56", {}, 853_018, 0.1255),
    ("cifar_resnet110", {}, 1_727_962, 0.2529),
    ("cifar_resnet1202", {}, 19_421_274, 2.8292),
    ("cifar_resnet56", {"shortcut": "B"}, 855_770, 0.1257),
    ("cifar_resnet110", {"shortcut": "B"}, 1_730_714, 0.2531),
    ("cifar_resnet110", {"shortcut": "C"}, 1_826_202, 0.2668),
    ("cifar_resnet20", {"classes": 100}, 275_572, 0.0406),
    ("cifar_resnet32", {"classes": 100}, 470_004, 0.0689),
    ("cifar_resnet44", {"classes": 100}, 664_436, 0.0972),
    ("cifar_resnet56", {"classes": 100}, 858_868, 0.1255),
    ("cifar_resnet110", {"classes": 100}, 1_733_812, 0.2529),
    ("cifar_resnet56", {"classes": 100, "shortcut": "B"}, 861_620, 0.1258),
    ("cifar_resnet110", {"classes": 100, "shortcut": "B"}, 1_736_564, 0.2532),
    ("cifar_plain20", {}, 269_722, 0.0406),
    ("cifar_plain32", {}, 464_154, 0.0689),
    ("cifar_plain44", {}, 658_586, 0.0972),
    ("cifar_plain56", {}, 853_018, 0.1255),
    ("cifar_plain110", {}, 1_727_962, 0.2529),
    # 1603.05027, its baselines among them
    ("cifar_preact_resnet110", {}, 1_727_962, 0.2529),
    ("cifar_preact_resnet110", {"classes": 100}, 1_733_812, 0.2529),
    ("cifar_resnet164", {}, 1_704_154, 0.2445),
    ("cifar_resnet164", {"classes": 100}, 1_727_284, 0.2445),
    ("cifar_preact_resnet164", {}, 1_703_258, 0.2445),
    ("cifar_preact_resnet164", {"classes": 100}, 1_726_388, 0.2445),
    ("cifar_resnet1001", {}, 10_328_602, 1.4878),
    ("cifar_resnet1001", {"classes": 100}, 10_351_732, 1.4879),
    ("cifar_preact_resnet1001", {}, 10_327_706, 1.4878),
    ("cifar_preact_resnet1001", {"classes": 100}, 10_350_836, 1.4879),
    # ImageNet (1512.03385 §3.3 and Table 1)
    ("plain18", {}, 11_515_688, 1.7948),
    ("plain34", {}, 21_623_848, 3.6445),
    ("resnet18", {"shortcut": "A"}, 11_515_688, 1.7948),
    ("resnet18", {"shortcut": "C"}, 12_043_816, 1.8783),
    ("resnet34", {"shortcut": "A"}, 21_623_848, 3.6445),
    ("resnet34", {"shortcut": "B"}, 21_797_672, 3.6638),
    ("resnet34", {"shortcut": "C"}, 22_716_840, 3.8307),
    ("resnet50_v1", {}, 25_557_032, 3.8580),
    ("resnet101_v1", {}, 44_549_160, 7.5702),
    ("resnet152_v1", {}, 60_192_808, 11.2824),
    ("resnet200", {"stride_in": "1x1"}, 64_673_832, 14.7763),
    ("resnet200", {}, 64_673_832, 15.0075),
    ("preact_resnet50", {}, 25_549_352, 4.0892),
    ("preact_resnet50", {"stride_in": "1x1"}, 25_549_352, 3.8580),
    ("preact_resnet101", {}, 44_541_480, 7.8014),
    ("preact_resnet101", {"stride_in": "1x1"}, 44_541_480, 7.5702),
    ("preact_resnet152", {}, 60_185_128, 11.5136),
    ("preact_resnet152", {"stride_in": "1x1"}, 60_185_128, 11.2824),
    ("preact_resnet200", {}, 64_666_152, 15.0075),
    ("preact_resnet200", {"stride_in": "1x1"}, 64_666_152, 14.7763),
    # torchvision
    ("resnet18", {}, 11_689_512, 1.814),
    ("resnet34", {}, 21_797_672, 3.664),
    ("resnet50", {}, 25_557_032, 4.089),
    ("resnet101", {}, 44_549_160, 7.801),
    ("resnet152", {}, 60_192_808, 11.514),
    ("resnext50_32x4d", {}, 25_028_904, 4.230),
    ("resnext101_32x8d", {}, 88_791_336, 16.414),
    ("resnext101_64x4d", {}, 83_455_272, 15.460),
    ("wide_resnet50_2", {}, 68_883_240, 11.398),
    ("wide_resnet101_2", {}, 126_886_696, 22.753),
    # timm
    ("resnetv2_18", {}, 11_687_720, 1.814),
    ("resnetv2_34", {}, 21_795_880, 3.664),
    ("resnetv2_50", {}, 25_549_352, 4.089),
    ("resnetv2_101", {}, 44_541_480, 7.801),
    ("resnetv2_152", {}, 60_185_128, 11.514),
    ("resnetv2_18d", {}, 11_706_952, 2.054),
    ("resnetv2_34d", {}, 21_815_112, 3.903),
    ("resnetv2_50d", {}, 25_568_584, 4.329),
    ("resnetv2_50t", {}, 25_566_048, 4.297),
    ("resnetv2_101d", {}, 44_560_712, 8.041),
    ("resnetv2_152d", {}, 60_204_360, 11.753),
    ("resnet10t", {}, 5_435_488, 1.097),
    ("resnet14t", {}, 10_081_632, 1.677),
    ("resnet18d", {}, 11_708_744, 2.054),
    ("resnet26", {}, 15_995_176, 2.342),
    ("resnet26d", {}, 16_014_408, 2.582),
    ("resnet26t", {}, 16_011_872, 2.550),
    ("resnet34d", {}, 21_816_904, 3.903),
    ("resnet50c", {}, 25_576_264, 4.329),
    ("resnet50d", {}, 25_576_264, 4.329),
    ("resnet50s", {}, 25_680_808, 5.444),
    ("resnet50t", {}, 25_573_728, 4.297),
    ("resnet101c", {}, 44_568_392, 8.041),
    ("resnet101d", {}, 44_568_392, 8.041),
    ("resnet101s", {}, 44_672_936, 9.157),
    ("resnet152c", {}, 60_212_040, 11.753),
    ("resnet152d", {}, 60_212_040, 11.753),
    ("resnet152s", {}, 60_316_584, 12.869),
    ("resnet200d", {}, 64_693_064, 15.247),
    ("resnext50d_32x4d", {}, 25_048_136, 4.470),
    ("resnext101_32x4d", {}, 44_177_704, 7.970),
    ("resnext101_32x16d", {}, 194_026_792, 36.163),
    ("resnext101_32x32d", {}, 468_530_472, 87.107),
    ("seresnet18", {}, 11_779_624, 1.814),
    ("seresnet34", {}, 21_960_416, 3.664),
    ("seresnet50", {}, 28_088_024, 4.092),
    ("seresnet101", {}, 49_326_872, 7.806),
    ("seresnet152", {}, 66_821_848, 11.520),
    ("seresnet50t", {}, 28_104_720, 4.300),
    ("seresnet152d", {}, 66_841_080, 11.760),
    ("seresnet200d", {}, 71_855_096, 15.254),
    ("seresnet269d", {}, 113_672_760, 20.281),
    ("seresnext26d_32x4d", {}, 16_809_512, 2.712),
    ("seresnext26t_32x4d", {}, 16_806_976, 2.680),
    ("seresnext50_32x4d", {}, 27_559_896, 4.233),
    ("seresnext101_32x4d", {}, 48_955_416, 7.975),
    ("seresnext101_32x8d", {}, 93_569_048, 16.419),
    ("seresnext101_64x4d", {}, 88_232_984, 15.465),
    ("seresnext101d_32x8d", {}, 93_588_280, 16.658),
    ("ecaresnet26t", {}, 16_011_916, 2.550),
    ("ecaresnet50d", {}, 25_576_350, 4.329),
    ("ecaresnet50t", {}, 25_573_814, 4.297),
    ("ecaresnet101d", {}, 44_568_563, 8.041),
    ("ecaresnet200d", {}, 64_693_400, 15.247),
    ("ecaresnet269d", {}, 102_093_077, 20.270),
    ("ecaresnetlight", {}, 30_162_046, 4.089),
    ("ecaresnext26t_32x4d", {}, 15_406_220, 2.679),
    ("ecaresnext50t_32x4d", {}, 25_045_686, 4.439),
    ("resnetaa34d", {}, 21_816_904, 4.424),
    ("resnetaa50", {}, 25_557_032, 5.130),
    ("resnetaa50d", {}, 25_576_264, 5.369),
    ("resnetaa101d", {}, 44_568_392, 9.081),
    ("seresnetaa50d", {}, 28_107_256, 5.372),
    ("seresnextaa101d_32x8d", {}, 93_588_280, 17.179),
    ("seresnextaa201d_32x8d", {}, 149_394_904, 34.276),
    ("resnetblur18", {}, 11_689_512, 2.338),
    ("resnetblur50", {}, 25_557_032, 5.133),
    ("resnetblur50d", {}, 25_576_264, 5.373),
    ("resnetblur101d", {}, 44_568_392, 9.085),
    ("resnetrs50", {}, 35_691_912, 4.454),
    ("resnetrs101", {}, 63_618_696, 8.176),
    ("resnetrs152", {}, 86_621_576, 11.895),
    ("resnetrs200", {}, 93_209_992, 15.391),
    ("resnetrs270", {}, 129_861_448, 20.644),
    ("resnetrs350", {}, 163_956_168, 26.332),
    ("resnetrs420", {}, 191_891_656, 31.363),
]
UNPUBLISHED = {  # rows of which no table that we know of gives the counts
    *("preact_resnet18", "preact_resnet34"),
    *(f"cifar_preact_resnet{layers}" for layers in (20, 32, 44, 56)),
    *(f"cifar_resnet{layers}" for layers in (18, 34, 50)),
}


@pytest.mark.parametrize(("name", "changes", "count", "billions"), PUBLISHED)
def test_counts_equal_the_published_ones(
    name: str, changes: dict[str, Any], count: int, billions: float
) -> None:
    net = replace(find_row(name).architecture, **changes)
    assert parameters(net) == count
    last_digit = 1e-4 if net.stem == "cifar" else 1e-3
    assert multiply_adds(net) / 1e9 == pytest.approx(billions, rel=1e-3, abs=last_digit / 2)


def test_every_row_is_compared_or_known_to_have_no_table() -> None:
    assert {name for name, *_ in PUBLISHED} | UNPUBLISHED == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["cifar_preact_resnet20", "cifar_preact_resnet56"])
def test_pre_activation_only_moves_the_parameters_of_basic_cifar_nets(name: str) -> None:
    # 1603.05027 changes the order within a unit; the last activation takes over the stem's.
    net = find_row(name).architecture
    assert parameters(net) == parameters(replace(net, form="residual"))


def test_a_net_small_enough_is_counted_by_hand() -> None:
    net = Architecture(
        depths=(1, 1), block="basic", stem="cifar", width=64, classes=5, in_channels=1
    )
    stem = 64 * 9 + 2 * 64
    first = 2 * (64 * 64 * 9 + 2 * 64)
    second = 64 * 128 * 9 + 128 * 128 * 9 + 64 * 128 + 3 * 2 * 128
    assert parameters(net) == stem + first + second + 128 * 5 + 5
    at_32 = 32**2 * (64 * 9 + 2 * 64 * 64 * 9)
    at_16 = 16**2 * (64 * 128 * 9 + 128 * 128 * 9 + 64 * 128)
    assert multiply_adds(net) == at_32 + at_16 + 128 * 5


@pytest.mark.parametrize("form", FORMS)
def test_another_order_of_the_layers_counts_as_much_as_the_residual_net(form: str) -> None:
    # 1603.05027 Fig. 4 moves what is there already.
    net = find_row("cifar_resnet110").architecture
    moved = replace(net, form=form)
    assert (parameters(moved), multiply_adds(moved)) == (parameters(net), multiply_adds(net))


@pytest.mark.parametrize("form", ["residual", "preact", *FORMS])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "D"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_weighed_nets_of_every_order_multiply_as_torch_counts(
    form: str, shortcut: str, block: str
) -> None:
    net = Architecture(
        depths=(2, 1, 2),
        block=block,
        form=form,
        shortcut=shortcut,
        shortcut_gate="exclusive",
        shortcut_scale=0.5,
        width=8,
        classes=5,
    )
    with torch.device("meta"):
        built = ResNet(net).eval()
    with FlopCounterMode(display=False) as counter:
        built(torch.empty(1, 3, 33, 33, device="meta"))
    assert 2 * multiply_adds(net, 33) == counter.get_total_flops()
    assert parameters(net) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("size", [32, 33])
def test_what_a_variant_adds_is_counted_by_hand(size: int) -> None:
    own = Architecture(depths=(1, 1), block="basic", width=64, classes=1)
    half = (size + 1) // 2
    quarter, eighth = (half + 1) // 2, ((half + 1) // 2 + 1) // 2

    def more(**changes: Any) -> tuple[int, int]:
        net = replace(own, **changes)
        added = parameters(net) - parameters(own)
        return added, multiply_adds(net, size) - multiply_adds(own, size)

    deep = 3 * 32 * 9 + 32 * 32 * 9 + 32 * 64 * 9 - 3 * 64 * 49
    assert more(stem="deep") == (deep + 2 * 2 * 32, deep * half**2)
    assert more(stem_pool="convolution") == (64 * 64 * 9 + 2 * 64, 64 * 64 * 9 * quarter**2)
    # 64 / 16 channels are rounded up to 8, and so are 128 / 16.
    assert more(attention="se") == ((64 + 128) * (2 * 8 + 1) + 2 * 8, (64 + 128) * 2 * 8)
    assert more(attention="se", reduction=4) == (
        2 * 64 * 16 + 64 + 16 + 2 * 128 * 32 + 128 + 32,
        2 * 64 * 16 + 2 * 128 * 32,
    )
    assert more(attention="eca") == (3 + 5, 3 * 64 + 5 * 128)
    assert more(shortcut="D") == (0, 0)
    gates = 64 * 64, 64 * 128  # with a bias for each of the 64 and of the 128
    assert more(shortcut_gate="exclusive") == (
        sum(gates) + 64 + 128,
        gates[0] * quarter**2 + gates[1] * eighth**2,
    )
    assert more(shortcut_gate="shortcut_only") == more(shortcut_gate="exclusive")
    assert more(shortcut_scale=0.5, residual_scale=0.5) == (0, 0)
    unstrided = 64 * 128 * 9 * (quarter**2 - eighth**2)
    assert more(antialias="average") == (0, unstrided)
    assert more(antialias="blur") == (0, unstrided + 9 * (64 * quarter**2 + 128 * eighth**2))


def test_odd_sizes_are_rounded_up_as_padded_convolutions_do() -> None:
    net = Architecture(depths=(1, 1), block="basic", width=64, classes=1)
    # 33 → 17 (stem) → 9 (pooling) → 5 (second stage)
    stem, first = 17**2 * 3 * 64 * 49, 9**2 * 2 * 64 * 64 * 9
    second = 5**2 * (64 * 128 * 9 + 128 * 128 * 9 + 64 * 128)
    assert multiply_adds(net, 33) == stem + first + second + 128


def test_the_natural_size_is_the_stems() -> None:
    assert natural_size(find_row("resnet50").architecture) == 224
    assert natural_size(find_row("cifar_resnet18").architecture) == 32
    net = find_row("resnet50").architecture
    assert multiply_adds(net) == multiply_adds(net, 224)
    assert multiply_adds(net, 448) > 3.9 * multiply_adds(net)
