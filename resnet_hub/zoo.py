"""The one table of every named net: adding a net is adding a row. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from resnet_hub.architecture import Architecture, BlockKind
from resnet_hub.errors import UnknownName, did_you_mean


@dataclass(frozen=True)
class Row:
    """A named net with what its source says of it.

    Attributes:
        architecture: The net.
        source: Paper and section, or the reference implementation.
        error: Published top-1 error in percent, ``None`` where the source gives none.
        measure: What ``error`` was measured on.
    """

    architecture: Architecture
    source: str
    error: float | None = None
    measure: str = ""


_UNITS: dict[int, tuple[tuple[int, ...], BlockKind]] = {
    10: ((1, 1, 1, 1), "basic"),
    14: ((1, 1, 1, 1), "bottleneck"),
    18: ((2, 2, 2, 2), "basic"),
    26: ((2, 2, 2, 2), "bottleneck"),
    34: ((3, 4, 6, 3), "basic"),
    50: ((3, 4, 6, 3), "bottleneck"),
    101: ((3, 4, 23, 3), "bottleneck"),
    152: ((3, 8, 36, 3), "bottleneck"),
    200: ((3, 24, 36, 3), "bottleneck"),
    201: ((3, 24, 36, 4), "bottleneck"),
    269: ((3, 30, 48, 8), "bottleneck"),
    270: ((4, 29, 53, 4), "bottleneck"),
    350: ((4, 36, 72, 4), "bottleneck"),
    420: ((4, 44, 87, 4), "bottleneck"),
}


def _imagenet(layers: int, **changes: Any) -> Architecture:
    depths, block = _UNITS[layers]
    return Architecture(depths=depths, block=block, **changes)


# The changes that letters in a name stand for, as timm uses them.
_C: dict[str, Any] = {"stem": "deep"}
_D: dict[str, Any] = {"stem": "deep", "shortcut": "D"}
_S: dict[str, Any] = {"stem": "deep_wide"}
_T: dict[str, Any] = {"stem": "deep_tiered", "shortcut": "D"}
_SE: dict[str, Any] = {"attention": "se"}
_ECA: dict[str, Any] = {"attention": "eca"}
_AA: dict[str, Any] = {"antialias": "average"}
_BLUR: dict[str, Any] = {"antialias": "blur"}
_RS: dict[str, Any] = {**_D, **_SE, "stem_pool": "convolution", "reduction": 4}


def _next(groups: int, group_width: int, **changes: Any) -> dict[str, Any]:
    return {"groups": groups, "group_width": group_width, **changes}


def _cifar(layers: int, **changes: Any) -> Architecture:
    # 1512.03385 §4.2 (6n + 2 layers); 1603.05027 §3 for the bottleneck nets (9n + 2).
    block: BlockKind = "bottleneck" if layers in (164, 1001) else "basic"
    units = (layers - 2) // (9 if block == "bottleneck" else 6)
    own: dict[str, Any] = {
        "shortcut": "B" if block == "bottleneck" else "A",
        "stride_in": "1x1",
        "width": 16,
        "classes": 10,
        "stem": "cifar",
    }
    return Architecture(depths=(units,) * 3, block=block, **{**own, **changes})


_ONE_CROP = "ImageNet val, 1-crop 224"
_TEN_CROP = "ImageNet val, 10-crop 224"
_CROP_320 = "ImageNet val, 1-crop 320"
_C10 = "CIFAR-10 test"
_P15, _P16 = "1512.03385", "1603.05027"
_TIMM_BAG, _TIMM_S = "timm, after 1812.01187 §4", "timm, after GluonCV's v1s"
_TIMM_SE, _TIMM_ECA = "timm, after 1709.01507", "timm, after 1910.03151"
_TIMM_AA, _TIMM_RS = "timm, after 1904.11486", "timm, after 2103.07579"
_KH = "KaimingHe/deep-residual-networks"
_FB = "fb.resnet.torch"

ARCHITECTURES: Mapping[str, Row] = MappingProxyType(
    {
        "resnet18": Row(_imagenet(18), _FB, 30.41, _ONE_CROP),
        "resnet34": Row(_imagenet(34), _FB, 26.73, _ONE_CROP),
        "resnet50": Row(_imagenet(50), _FB, 24.01, _ONE_CROP),
        "resnet101": Row(_imagenet(101), _FB, 22.44, _ONE_CROP),
        "resnet152": Row(_imagenet(152), "torchvision V1", 21.688, _ONE_CROP),
        "resnet200": Row(_imagenet(200), f"{_P16} Table 5"),
        "resnet50_v1": Row(_imagenet(50, stride_in="1x1"), f"{_P15}, {_KH}", 24.7, _ONE_CROP),
        "resnet101_v1": Row(_imagenet(101, stride_in="1x1"), f"{_P15}, {_KH}", 23.6, _ONE_CROP),
        "resnet152_v1": Row(_imagenet(152, stride_in="1x1"), f"{_P15}, {_KH}", 23.0, _ONE_CROP),
        "plain18": Row(_imagenet(18, form="plain"), f"{_P15} Table 2", 27.94, _TEN_CROP),
        "plain34": Row(_imagenet(34, form="plain"), f"{_P15} Table 2", 28.54, _TEN_CROP),
        "preact_resnet18": Row(_imagenet(18, form="preact"), f"{_P16} Fig. 4(e)"),
        "preact_resnet34": Row(_imagenet(34, form="preact"), f"{_P16} Fig. 4(e)"),
        "preact_resnet50": Row(_imagenet(50, form="preact"), f"{_P16} Fig. 4(e)"),
        "preact_resnet101": Row(_imagenet(101, form="preact"), f"{_P16} Fig. 4(e)"),
        "preact_resnet152": Row(_imagenet(152, form="preact"), f"{_P16} Table 5", 21.1, _CROP_320),
        "preact_resnet200": Row(_imagenet(200, form="preact"), f"{_P16} Table 5", 20.7, _CROP_320),
        "resnetv2_18": Row(_imagenet(18, form="preact", entry="own"), "timm resnetv2_18"),
        "resnetv2_34": Row(_imagenet(34, form="preact", entry="own"), "timm resnetv2_34"),
        "resnetv2_50": Row(_imagenet(50, form="preact", entry="own"), "timm resnetv2_50"),
        "resnetv2_101": Row(_imagenet(101, form="preact", entry="own"), "timm resnetv2_101"),
        "resnetv2_152": Row(_imagenet(152, form="preact", entry="own"), "timm resnetv2_152"),
        "resnetv2_18d": Row(_imagenet(18, form="preact", entry="own", **_D), "timm resnetv2_18d"),
        "resnetv2_34d": Row(_imagenet(34, form="preact", entry="own", **_D), "timm resnetv2_34d"),
        "resnetv2_50d": Row(_imagenet(50, form="preact", entry="own", **_D), "timm resnetv2_50d"),
        "resnetv2_50t": Row(_imagenet(50, form="preact", entry="own", **_T), "timm resnetv2_50t"),
        "resnetv2_101d": Row(
            _imagenet(101, form="preact", entry="own", **_D), "timm resnetv2_101d"
        ),
        "resnetv2_152d": Row(
            _imagenet(152, form="preact", entry="own", **_D), "timm resnetv2_152d"
        ),
        "wide_resnet50_2": Row(_imagenet(50, group_width=128), "torchvision V1", 21.532, _ONE_CROP),
        "wide_resnet101_2": Row(
            _imagenet(101, group_width=128), "torchvision V1", 21.152, _ONE_CROP
        ),
        "resnext50_32x4d": Row(_imagenet(50, **_next(32, 4)), "torchvision V1", 22.382, _ONE_CROP),
        "resnext101_32x8d": Row(
            _imagenet(101, **_next(32, 8)), "torchvision V1", 20.688, _ONE_CROP
        ),
        "resnext101_64x4d": Row(
            _imagenet(101, **_next(64, 4)), "torchvision V1", 16.754, _ONE_CROP
        ),
        "resnet10t": Row(_imagenet(10, **_T), "timm"),
        "resnet14t": Row(_imagenet(14, **_T), "timm"),
        "resnet18d": Row(_imagenet(18, **_D), _TIMM_BAG),
        "resnet26": Row(_imagenet(26), "timm"),
        "resnet26d": Row(_imagenet(26, **_D), _TIMM_BAG),
        "resnet26t": Row(_imagenet(26, **_T), "timm"),
        "resnet34d": Row(_imagenet(34, **_D), _TIMM_BAG),
        "resnet50c": Row(_imagenet(50, **_C), _TIMM_BAG),
        "resnet50d": Row(_imagenet(50, **_D), _TIMM_BAG),
        "resnet50s": Row(_imagenet(50, **_S), _TIMM_S),
        "resnet50t": Row(_imagenet(50, **_T), "timm"),
        "resnet101c": Row(_imagenet(101, **_C), _TIMM_BAG),
        "resnet101d": Row(_imagenet(101, **_D), _TIMM_BAG),
        "resnet101s": Row(_imagenet(101, **_S), _TIMM_S),
        "resnet152c": Row(_imagenet(152, **_C), _TIMM_BAG),
        "resnet152d": Row(_imagenet(152, **_D), _TIMM_BAG),
        "resnet152s": Row(_imagenet(152, **_S), _TIMM_S),
        "resnet200d": Row(_imagenet(200, **_D), _TIMM_BAG),
        "resnext50d_32x4d": Row(_imagenet(50, **_next(32, 4, **_D)), _TIMM_BAG),
        "resnext101_32x4d": Row(_imagenet(101, **_next(32, 4)), "timm, after 1611.05431"),
        "resnext101_32x16d": Row(_imagenet(101, **_next(32, 16)), "timm, after 1805.00932"),
        "resnext101_32x32d": Row(_imagenet(101, **_next(32, 32)), "timm, after 1805.00932"),
        "seresnet18": Row(_imagenet(18, **_SE), _TIMM_SE),
        "seresnet34": Row(_imagenet(34, **_SE), _TIMM_SE),
        "seresnet50": Row(_imagenet(50, **_SE), _TIMM_SE),
        "seresnet101": Row(_imagenet(101, **_SE), _TIMM_SE),
        "seresnet152": Row(_imagenet(152, **_SE), _TIMM_SE),
        "seresnet50t": Row(_imagenet(50, **_T, **_SE), _TIMM_SE),
        "seresnet152d": Row(_imagenet(152, **_D, **_SE), _TIMM_SE),
        "seresnet200d": Row(_imagenet(200, **_D, **_SE), _TIMM_SE),
        "seresnet269d": Row(_imagenet(269, **_D, **_SE), _TIMM_SE),
        "seresnext26d_32x4d": Row(_imagenet(26, **_next(32, 4, **_D, **_SE)), _TIMM_SE),
        "seresnext26t_32x4d": Row(_imagenet(26, **_next(32, 4, **_T, **_SE)), _TIMM_SE),
        "seresnext50_32x4d": Row(_imagenet(50, **_next(32, 4, **_SE)), _TIMM_SE),
        "seresnext101_32x4d": Row(_imagenet(101, **_next(32, 4, **_SE)), _TIMM_SE),
        "seresnext101_32x8d": Row(_imagenet(101, **_next(32, 8, **_SE)), _TIMM_SE),
        "seresnext101_64x4d": Row(_imagenet(101, **_next(64, 4, **_SE)), _TIMM_SE),
        "seresnext101d_32x8d": Row(_imagenet(101, **_next(32, 8, **_D, **_SE)), _TIMM_SE),
        "ecaresnet26t": Row(_imagenet(26, **_T, **_ECA), _TIMM_ECA),
        "ecaresnet50d": Row(_imagenet(50, **_D, **_ECA), _TIMM_ECA),
        "ecaresnet50t": Row(_imagenet(50, **_T, **_ECA), _TIMM_ECA),
        "ecaresnet101d": Row(_imagenet(101, **_D, **_ECA), _TIMM_ECA),
        "ecaresnet200d": Row(_imagenet(200, **_D, **_ECA), _TIMM_ECA),
        "ecaresnet269d": Row(_imagenet(269, **_D, **_ECA), _TIMM_ECA),
        "ecaresnetlight": Row(
            Architecture(depths=(1, 1, 11, 3), block="bottleneck", shortcut="D", **_ECA), _TIMM_ECA
        ),
        "ecaresnext26t_32x4d": Row(_imagenet(26, **_next(32, 4, **_T, **_ECA)), _TIMM_ECA),
        "ecaresnext50t_32x4d": Row(_imagenet(50, **_next(32, 4, **_T, **_ECA)), _TIMM_ECA),
        "resnetaa34d": Row(_imagenet(34, **_D, **_AA), _TIMM_AA),
        "resnetaa50": Row(_imagenet(50, **_AA), _TIMM_AA),
        "resnetaa50d": Row(_imagenet(50, **_D, **_AA), _TIMM_AA),
        "resnetaa101d": Row(_imagenet(101, **_D, **_AA), _TIMM_AA),
        "seresnetaa50d": Row(_imagenet(50, **_D, **_SE, **_AA), _TIMM_AA),
        "seresnextaa101d_32x8d": Row(_imagenet(101, **_next(32, 8, **_D, **_SE, **_AA)), _TIMM_AA),
        "seresnextaa201d_32x8d": Row(
            _imagenet(201, **_next(32, 8, **_S, **_SE, **_AA), shortcut="D"), _TIMM_AA
        ),
        "resnetblur18": Row(_imagenet(18, **_BLUR), _TIMM_AA),
        "resnetblur50": Row(_imagenet(50, **_BLUR), _TIMM_AA),
        "resnetblur50d": Row(_imagenet(50, **_D, **_BLUR), _TIMM_AA),
        "resnetblur101d": Row(_imagenet(101, **_D, **_BLUR), _TIMM_AA),
        "resnetrs50": Row(_imagenet(50, **_RS), _TIMM_RS),
        "resnetrs101": Row(_imagenet(101, **_RS), _TIMM_RS),
        "resnetrs152": Row(_imagenet(152, **_RS), _TIMM_RS),
        "resnetrs200": Row(_imagenet(200, **_RS), _TIMM_RS),
        "resnetrs270": Row(_imagenet(270, **_RS), _TIMM_RS),
        "resnetrs350": Row(_imagenet(350, **_RS), _TIMM_RS),
        "resnetrs420": Row(_imagenet(420, **_RS), _TIMM_RS),
        "cifar_resnet20": Row(_cifar(20), f"{_P15} Table 6", 8.75, _C10),
        "cifar_resnet32": Row(_cifar(32), f"{_P15} Table 6", 7.51, _C10),
        "cifar_resnet44": Row(_cifar(44), f"{_P15} Table 6", 7.17, _C10),
        "cifar_resnet56": Row(_cifar(56), f"{_P15} Table 6", 6.97, _C10),
        "cifar_resnet110": Row(_cifar(110), f"{_P15} Table 6", 6.61, f"{_C10}, mean of 5"),
        "cifar_resnet1202": Row(_cifar(1202), f"{_P15} Table 6", 7.93, _C10),
        "cifar_resnet164": Row(_cifar(164), f"{_P16} Table 2", 5.93, f"{_C10}, median of 5"),
        "cifar_resnet1001": Row(_cifar(1001), f"{_P16} Table 3", 7.61, f"{_C10}, median of 5"),
        "cifar_plain20": Row(_cifar(20, form="plain"), f"{_P15} Fig. 6"),
        "cifar_plain32": Row(_cifar(32, form="plain"), f"{_P15} Fig. 6"),
        "cifar_plain44": Row(_cifar(44, form="plain"), f"{_P15} Fig. 6"),
        "cifar_plain56": Row(_cifar(56, form="plain"), f"{_P15} Fig. 6"),
        "cifar_plain110": Row(_cifar(110, form="plain"), f"{_P15} §4.2"),
        "cifar_preact_resnet20": Row(_cifar(20, form="preact"), f"{_P16} Fig. 4(e)"),
        "cifar_preact_resnet32": Row(_cifar(32, form="preact"), f"{_P16} Fig. 4(e)"),
        "cifar_preact_resnet44": Row(_cifar(44, form="preact"), f"{_P16} Fig. 4(e)"),
        "cifar_preact_resnet56": Row(_cifar(56, form="preact"), f"{_P16} Fig. 4(e)"),
        "cifar_preact_resnet110": Row(
            _cifar(110, form="preact"), f"{_P16} Table 2", 6.37, f"{_C10}, median of 5"
        ),
        "cifar_preact_resnet164": Row(
            _cifar(164, form="preact"), f"{_P16} Table 2", 5.46, f"{_C10}, median of 5"
        ),
        "cifar_preact_resnet1001": Row(
            _cifar(1001, form="preact"), f"{_P16} Table 3", 4.92, f"{_C10}, median of 5"
        ),
        "cifar_resnet18": Row(_imagenet(18, stem="cifar", classes=10), "3×3-stem ResNet-18"),
        "cifar_resnet34": Row(_imagenet(34, stem="cifar", classes=10), "3×3-stem ResNet-34"),
        "cifar_resnet50": Row(_imagenet(50, stem="cifar", classes=10), "3×3-stem ResNet-50"),
    }
)
"""Every named net. Figures are the sources', never ours; an empty one is not stated there."""


_TWISTS = {"form", "shortcut", "zeros", "shortcut_gate", "shortcut_scale", "residual_scale"}


def find_row(name: str) -> Row:
    """Return the table's row called ``name``.

    Raises:
        UnknownName: No such row; the message offers the nearest name.
    """
    if name not in ARCHITECTURES:
        hint = did_you_mean(name, ARCHITECTURES) or "; `resnet-hub list` shows them all"
        raise UnknownName(f"no net is called {name!r}{hint}")
    return ARCHITECTURES[name]


def name_of(architecture: Architecture) -> str | None:
    """Return the row whose net this is, whatever its classes and input channels, or ``None``."""
    for name, row in ARCHITECTURES.items():
        own = row.architecture
        if own == replace(architecture, classes=own.classes, in_channels=own.in_channels):
            return name
    return None


def title_of(architecture: Architecture) -> str:
    """Return what people call a net: a row, the row that it is a twist of, or its depth."""
    found = {name: _twists(architecture, row) for name, row in ARCHITECTURES.items()}
    near = {name: twists for name, twists in found.items() if twists is not None}
    if not near:
        return f"a {architecture.layers}-layer net"
    name, twists = min(near.items(), key=lambda item: len(item[1]))
    told = ", ".join(f"{field} {value}" for field, value in twists.items())
    return f"{name} with {told}" if told else name


def _twists(architecture: Architecture, row: Row) -> dict[str, Any] | None:
    """Return in what a net is another than a row's; ``None`` where no recipe makes it of that."""
    own = row.architecture
    net = replace(architecture, classes=own.classes, in_channels=own.in_channels)
    twists = {f.name: getattr(net, f.name) for f in fields(net)}
    twists = {name: value for name, value in twists.items() if value != getattr(own, name)}
    return twists if twists.keys() <= _TWISTS else None
