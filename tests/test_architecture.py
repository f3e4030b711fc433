"""Architecture and its table: bounds, names, and the way through JSON and back."""

import json
import re
from dataclasses import FrozenInstanceError, fields, replace
from itertools import pairwise

import pytest

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting, UnknownName
from resnet_hub.zoo import ARCHITECTURES, find_row, name_of, title_of

IMAGENET = "resnet18 resnet34 resnet50 resnet101 resnet152 resnet200"
NAMES = [
    *IMAGENET.split(),
    *(f"{name}_v1" for name in ("resnet50", "resnet101", "resnet152")),
    *("plain18", "plain34"),
    *(f"preact_{name}" for name in IMAGENET.split()),
    *(f"resnetv2_{layers}" for layers in (18, 34, 50, 101, 152)),
    *(f"resnetv2_{layers}" for layers in ("18d", "34d", "50d", "50t", "101d", "152d")),
    *("wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("resnet10t", "resnet14t", "resnet26", "resnet26t", "resnet50t", "resnet200d"),
    *(f"resnet{layers}d" for layers in (18, 26, 34)),
    *(f"resnet{layers}{letter}" for layers in (50, 101, 152) for letter in "cds"),
    *("resnext50d_32x4d", "resnext101_32x4d", "resnext101_32x16d", "resnext101_32x32d"),
    *(f"seresnet{layers}" for layers in (18, 34, 50, "50t", 101, 152, "152d", "200d", "269d")),
    *("seresnext26d_32x4d", "seresnext26t_32x4d", "seresnext50_32x4d", "seresnext101d_32x8d"),
    *(f"seresnext101_{groups}d" for groups in ("32x4", "32x8", "64x4")),
    *(f"ecaresnet{layers}" for layers in ("26t", "50d", "50t", "101d", "200d", "269d", "light")),
    *("ecaresnext26t_32x4d", "ecaresnext50t_32x4d"),
    *(f"resnetaa{layers}" for layers in ("34d", "50", "50d", "101d")),
    *("seresnetaa50d", "seresnextaa101d_32x8d", "seresnextaa201d_32x8d"),
    *(f"resnetblur{layers}" for layers in ("18", "50", "50d", "101d")),
    *(f"resnetrs{layers}" for layers in (50, 101, 152, 200, 270, 350, 420)),
    *(f"cifar_resnet{layers}" for layers in (20, 32, 44, 56, 110, 1202, 164, 1001)),
    *(f"cifar_plain{layers}" for layers in (20, 32, 44, 56, 110)),
    *(f"cifar_preact_resnet{layers}" for layers in (20, 32, 44, 56, 110, 164, 1001)),
    *(f"cifar_resnet{layers}" for layers in (18, 34, 50)),
]
FULL = find_row("resnet50").architecture.to_dict()


def test_the_table_holds_every_promised_net_and_no_other() -> None:
    assert sorted(ARCHITECTURES) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_net_goes_through_json_and_back(name: str) -> None:
    net = find_row(name).architecture
    values = json.loads(json.dumps(net.to_dict()))
    assert list(values) == [field.name for field in fields(Architecture)]
    assert Architecture.from_dict(values) == net
    assert hash(Architecture.from_dict(values)) == hash(net)


@pytest.mark.parametrize("name", NAMES)
def test_a_net_has_the_layers_of_its_name(name: str) -> None:
    (layers,) = re.findall(r"(?:plain|net|next)(?:v2_|aa|blur|rs|light)?(\d*)", name)
    misnamed = {"resnetrs270": 272, "resnetrs420": 419, "seresnextaa201d_32x8d": 203}
    misnamed["ecaresnetlight"] = 50  # named for no number of layers
    assert find_row(name).architecture.layers == (misnamed.get(name) or int(layers))


@pytest.mark.parametrize("name", NAMES)
def test_a_net_is_found_by_its_architecture_whatever_its_classes_and_channels(name: str) -> None:
    net = replace(find_row(name).architecture, classes=7, in_channels=1)
    assert find_row(name_of(net) or "").architecture == find_row(name).architecture


def test_no_two_rows_are_the_same_net() -> None:
    nets = [row.architecture for row in ARCHITECTURES.values()]
    assert len(set(nets)) == len(nets)


def test_a_net_of_no_row_has_no_name() -> None:
    assert name_of(Architecture(depths=(1, 1), block="basic")) is None
    assert name_of(replace(find_row("resnet50").architecture, shortcut_scale=0.5)) is None


@pytest.mark.parametrize(
    ("name", "changes", "title"),
    [
        ("cifar_resnet110", {}, "cifar_resnet110"),
        ("cifar_resnet110", {"classes": 7, "in_channels": 1}, "cifar_resnet110"),
        ("cifar_resnet110", {"form": "preact"}, "cifar_preact_resnet110"),
        (
            "cifar_resnet56",
            {"form": "relu_only_preact"},
            "cifar_resnet56 with form relu_only_preact",
        ),
        ("cifar_resnet20", {"shortcut": "B", "classes": 3}, "cifar_resnet20 with shortcut B"),
        (
            "cifar_resnet110",
            {"shortcut_scale": 0.5, "residual_scale": 0.5},
            "cifar_resnet110 with shortcut_scale 0.5, residual_scale 0.5",
        ),
        (
            "cifar_preact_resnet20",
            {"shortcut_gate": "exclusive"},
            "cifar_preact_resnet20 with shortcut_gate exclusive",
        ),
        ("resnet50", {"width": 32}, "a 50-layer net"),
    ],
)
def test_a_net_between_the_rows_is_called_by_the_nearest(
    name: str, changes: dict[str, object], title: str
) -> None:
    assert title_of(replace(find_row(name).architecture, **changes)) == title


def test_the_variants_differ_where_the_papers_differ() -> None:
    def of(name: str) -> Architecture:
        return find_row(name).architecture

    assert of("resnet50_v1") == replace(of("resnet50"), stride_in="1x1")
    assert of("plain34") == replace(of("resnet34"), form="plain")
    assert of("preact_resnet50") == replace(of("resnet50"), form="preact")
    assert of("resnetv2_50") == replace(of("preact_resnet50"), entry="own")
    assert of("cifar_plain56") == replace(of("cifar_resnet56"), form="plain")
    assert of("resnet50d") == replace(of("resnet50c"), shortcut="D")
    assert of("resnetrs50") == replace(
        of("resnet50d"), stem_pool="convolution", attention="se", reduction=4
    )
    assert {of(name).shortcut for name in NAMES if name.endswith(("cifar_resnet56", "1202"))} == {
        "A"
    }
    assert of("cifar_resnet56").zeros == "split"
    for bottleneck in ("cifar_resnet164", "cifar_preact_resnet1001"):
        assert (of(bottleneck).shortcut, of(bottleneck).stride_in) == ("B", "1x1")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet51", "resnet50"),
        ("Resnet18", "resnet18"),
        ("cifar_resnet_20", "cifar_resnet20"),
        ("resnext50_32x4", "resnext50_32x4d"),
        ("wide_resnet50", "wide_resnet50_2"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"no net is called '{name}'; did you mean '{nearest}'"):
        find_row(name)


def test_a_name_like_no_other_is_refused_with_where_to_look() -> None:
    with pytest.raises(UnknownName, match="'vgg'; `resnet-hub list` shows them all") as error:
        find_row("vgg")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("depths", x) for x in (None, 3, "3463", {}, [], [1] * 6, [0], [-1], [1001], [2.0])],
        *[("depths", x) for x in ([True], ["2"], [None], [[2]], [10**9])],
        *[("block", x) for x in ("Basic", "", None, 1, ["basic"])],
        *[("form", x) for x in ("preactivation", None, {})],
        *[("entry", x) for x in ("timm", None)],
        *[("stem", x) for x in ("tiny", None)],
        *[("stem_pool", x) for x in ("average", None)],
        *[("shortcut", x) for x in ("E", "a", None, 1)],
        *[("attention", x) for x in ("SE", "cbam", None, True)],
        *[("antialias", x) for x in ("max", None, False)],
        *[("shortcut_gate", x) for x in ("highway", None, False)],
        *[("shortcut_scale", x) for x in (-0.5, 1001, None, True, "0.5", float("nan"))],
        *[("residual_scale", x) for x in (0, -0.5, float("inf"), None, False, [1])],
        *[("reduction", x) for x in (0, -4, 16.0, None, True, 8193)],
        *[("zeros", x) for x in ("start", None)],
        *[("stride_in", x) for x in ("5x5", None, 3)],
        *[(x, y) for x in ("width", "groups", "group_width") for y in (0, -1, 8193, 1.0, "8")],
        *[(x, y) for x in ("width", "groups", "group_width") for y in (True, None, 10**9, [64])],
        *[("classes", x) for x in (0, -5, 1_000_001, 10.0, "10", True, None, float("nan"))],
        *[("in_channels", x) for x in (0, -3, 8193, 3.0, "3", False, None)],
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidSetting) as error:
        Architecture.from_dict({**FULL, field: value})
    assert field in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_basic_blocks_with_groups_and_broken_widths_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="basic blocks have neither; use bottleneck"):
        Architecture(depths=(2,), block="basic", groups=32)
    with pytest.raises(InvalidSetting, match="must be a multiple of 64"):
        Architecture(depths=(2,), block="bottleneck", width=48, group_width=3)
    with pytest.raises(InvalidSetting, match=r"depths: \[2, 2\] is not 1 to 5 numbers"):
        Architecture(depths=[2, 2], block="basic")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *[
            ({"form": "preact", **changes}, "form: preact nets are built with stem_pool max, att")
            for changes in (
                {"stem_pool": "convolution"},
                {"attention": "eca"},
                {"antialias": "blur"},
            )
        ],
        *[
            ({"form": form, "attention": "se"}, f"form: {form} nets are built with stem_pool max")
            for form in ("bn_after_addition", "relu_before_addition", "relu_only_preact")
        ],
        *[
            ({"form": "plain", **changes}, "a plain net has no shortcut")
            for changes in (
                {"shortcut_gate": "exclusive"},
                {"shortcut_scale": 0.5},
                {"residual_scale": 2},
            )
        ],
        ({"stem": "deep_tiered", "width": 4}, "deep_tiered needs a width that is a multiple of 8"),
        ({"stem_pool": "convolution", "stem": "cifar"}, "convolution needs an ImageNet stem"),
        ({"stem_pool": "convolution", "antialias": "blur"}, "ImageNet stem, and no antialias"),
        ({"attention": "eca", "reduction": 4}, "reduction: attention se alone has one"),
        ({"antialias": "blur", "stride_in": "1x1"}, "bottlenecks need stride_in 3x3 for it"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        Architecture.from_dict({**FULL, **changes})


@pytest.mark.parametrize(
    ("channels", "reduction", "squeezed"),
    # timm's SEModule; 96 / 16 = 6, 320 / 16 = 20 and 12 are between two multiples of 8.
    [(256, 16, 16), (2048, 16, 128), (256, 4, 64), (96, 16, 8), (320, 16, 24), (192, 16, 16)],
)
def test_squeezed_channels_are_the_nearest_multiple_of_8(
    channels: int, reduction: int, squeezed: int
) -> None:
    net = Architecture(
        depths=(1,), block="basic", width=channels, attention="se", reduction=reduction
    )
    (unit,) = next(net.stages())
    assert (unit.squeezed, unit.taps) == (squeezed, 0)


@pytest.mark.parametrize(
    ("channels", "taps"),
    # |(log2 C + 1) / 2|, the nearest odd (1910.03151 Eq. 12), as its authors' code rounds.
    [(8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_efficient_attention_looks_farther_the_more_channels(channels: int, taps: int) -> None:
    (unit,) = next(
        Architecture(depths=(1,), block="basic", width=channels, attention="eca").stages()
    )
    assert (unit.squeezed, unit.taps) == (0, taps)


def test_unknown_and_missing_fields_are_refused_by_name() -> None:
    with pytest.raises(InvalidSetting, match="no field 'dephts'; did you mean 'depths'"):
        Architecture.from_dict({**FULL, "dephts": [1]})
    for name in ("depths", "block"):
        rest = {key: value for key, value in FULL.items() if key != name}
        with pytest.raises(InvalidSetting, match=f"the field '{name}' is missing"):
            Architecture.from_dict(rest)


def test_fields_left_out_take_the_defaults() -> None:
    short = Architecture.from_dict({"depths": [3, 4, 6, 3], "block": "bottleneck"})
    assert short == find_row("resnet50").architecture


def test_an_architecture_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        find_row("resnet50").architecture.classes = 10
    with pytest.raises(TypeError):
        ARCHITECTURES["mine"] = find_row("resnet50")


def test_a_plan_joins_every_unit_to_the_next_and_halves_once_a_stage() -> None:
    for name in NAMES:
        net = find_row(name).architecture
        stages = list(net.stages())
        units = [unit for stage in stages for unit in stage]
        assert [len(stage) for stage in stages] == list(net.depths), name
        assert units[0].inputs == net.stem_channels[-1], name
        assert all(a.outputs == b.inputs for a, b in pairwise(units)), name
        assert units[-1].outputs == net.features, name
        assert [unit.stride for unit in units].count(2) == len(net.depths) - 1, name
        assert all(stage[0].stride == 2 for stage in stages[1:]), name


@pytest.mark.parametrize(
    ("form", "shortcut", "expected"),
    [
        ("residual", "A", ["identity", "identity", "pad", "identity"]),
        ("residual", "B", ["identity", "identity", "project", "identity"]),
        ("residual", "C", ["project"] * 4),
        ("residual", "D", ["identity", "identity", "pool", "identity"]),
        ("preact", "A", ["identity", "identity", "pad", "identity"]),
        ("plain", "C", ["none"] * 4),
    ],
)
def test_shortcut_options_connect_as_the_paper_says(
    form: str, shortcut: str, expected: list[str]
) -> None:
    values = {"depths": [2, 2], "block": "basic", "form": form, "shortcut": shortcut}
    net = Architecture.from_dict(values)
    assert [unit.connection for stage in net.stages() for unit in stage] == expected


def test_a_first_bottleneck_widens_its_shortcut_without_striding() -> None:
    first = next(find_row("resnet50").architecture.stages())[0]
    assert (first.inputs, first.middle, first.outputs) == (64, 64, 256)
    assert (first.stride, first.connection) == (1, "project")


@pytest.mark.parametrize(
    ("entry", "leads"),
    [("shared", [False, True, True, True]), ("own", [True] * 4)],
)
def test_the_first_pre_activation_unit_shares_the_stems_activation(
    entry: str, leads: list[bool]
) -> None:
    values = {"depths": [2, 2], "block": "basic", "form": "preact", "entry": entry}
    net = Architecture.from_dict(values)
    assert [unit.leads for stage in net.stages() for unit in stage] == leads
