"""The papers' tables: what each row says, and which net of ours it is of. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_hub.architecture import Architecture
from resnet_hub.studies.designs import (
    FORMS,
    dropped,
    gated,
    projected,
    residual,
    scaled,
    unit,
)
from resnet_hub.studies.members import Member
from resnet_hub.zoo import find_row

FAILED = 20.0
"""Percent of error above which 1603.05027 Table 1 says no more than "fail"."""


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        label: What the paper calls the net.
        error: Top-1 error in percent; ``None`` where the paper says that it failed.
        std: Standard deviation over the paper's runs, where it gives one.
        remark: What the paper says of the number.
        member: What trains the net; ``None`` where no recipe of this package does.
        data: What the error was measured on, as scores call it.
        architecture: Of a net whose weights are looked for instead.
        protocol: Views and size that the paper measured with, where weights are looked for.
        top5: Top-5 error in percent, where the paper gives it.
    """

    label: str
    error: float | None
    std: float | None = None
    remark: str = ""
    member: Member | None = field(default=None, hash=False)
    data: str = "CIFAR-10 test"
    architecture: Architecture | None = None
    protocol: str = ""
    top5: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes:
        name: As the command line has it.
        title: Paper, number and content.
        tolerance: Points that ours may differ from a row without a standard deviation.
        why: Where the tolerance comes from.
        rows: Its rows, those of other authors' nets left out.
    """

    name: str
    title: str
    tolerance: float
    why: str
    rows: tuple[Published, ...]


_MEDIAN = "median of 5"
_CIFAR = (0.3, "about 2 standard deviations of the 110-layer net in 1512.03385 Table 6 (0.16)")
_BOTH = (0.4, "about 2 standard deviations of the 1001-layer nets in 1603.05027 Table 4")
_IMAGENET = (0.3, "about what runs of one recipe differ by")
TEN_CROP, DENSE = "10-crop 224", "dense, 5 sizes"


def _table6() -> list[Published]:
    errors = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 1202: 7.93}
    rows = {n: Published(f"ResNet-{n}", e, member=residual(n)) for n, e in errors.items()}
    rows[110] = Published("ResNet-110", 6.61, 0.16, "mean of 5, the best 6.43", residual(110))
    return [rows[depth] for depth in sorted(rows)]


def _units() -> list[Published]:
    errors = {
        "residual": (6.61, 5.93),
        "bn_after_addition": (8.17, 6.50),
        "relu_before_addition": (7.84, 6.14),
        "relu_only_preact": (6.71, 5.91),
        "preact": (6.37, 5.46),
    }
    return [
        Published(f"{FORMS[form]}, {depth} layers", pair[place], None, _MEDIAN, unit(depth, form))
        for place, depth in enumerate((110, 164))
        for form, pair in errors.items()
    ]


def _gates() -> list[Published]:
    exclusive = {**dict.fromkeys((0, -1, -2, -3, -4, -5)), -6: 8.70, -7: 9.81}
    pairs: list[tuple[Member, float | None]] = [
        (unit(110, "residual"), 6.61),
        (scaled(110, 0, 1), None),
        (scaled(110, 0.5, 1), None),
        (scaled(110, 0.5, 0.5), 12.35),
        *((gated(110, "exclusive", bias), error) for bias, error in exclusive.items()),
        (gated(110, "shortcut_only", 0), 12.86),
        (gated(110, "shortcut_only", -6), 6.91),
        (projected(110), 12.22),
        (dropped(110), None),
    ]
    return [
        Published(m.label, error, None, _MEDIAN if error else f"fail: over {FAILED:g}", m)
        for m, error in pairs
    ]


def _cifar100(label: str, error: float, depth: int, form: str) -> Published:
    member = unit(depth, form, data="cifar100")
    return Published(label, error, None, _MEDIAN, member, "CIFAR-100 test")


def _pre_activation() -> list[Published]:
    errors = {110: (6.61, 6.37), 164: (5.93, 5.46), 1001: (7.61, 4.92)}
    larger = {164: (25.16, 24.33), 1001: (27.82, 22.71)}
    skip = "1-layer skip; no net of this package"
    forms = ("residual", "preact")
    return [
        Published("ResNet-110, original", 9.90, remark=skip),
        Published("ResNet-110, full pre-activation", 8.91, remark=skip),
        *(
            Published(f"ResNet-{n}, {FORMS[form]}", error, None, _MEDIAN, unit(n, form))
            for n, pair in errors.items()
            for form, error in zip(forms, pair, strict=True)
        ),
        *(
            _cifar100(f"ResNet-{n}, {FORMS[form]}, CIFAR-100", error, n, form)
            for n, pair in larger.items()
            for form, error in zip(forms, pair, strict=True)
        ),
    ]


def _state_of_the_art() -> list[Published]:
    small = unit(1001, "preact", batch_size=64)
    large = replace(
        _cifar100("ResNet-1001, CIFAR-100", 22.68, 1001, "preact"), std=0.22, remark="mean of 5"
    )
    return [
        Published("ResNet-164", 5.46, None, _MEDIAN, unit(164, "preact")),
        Published("ResNet-1001", 4.89, 0.14, "mean of 5, the median 4.92", unit(1001, "preact")),
        Published("ResNet-1001, batches of 64", 4.69, 0.20, "mean of 5, the median 4.62", small),
        _cifar100("ResNet-164, CIFAR-100", 24.33, 164, "preact"),
        large,
    ]


def _weights(
    label: str,
    error: float,
    top5: float | None,
    net: str,
    protocol: str,
    remark: str = "",
    **changes: Any,
) -> Published:
    architecture = replace(find_row(net).architecture, **changes)
    return Published(
        label,
        error,
        remark=remark,
        data="ImageNet val",
        architecture=architecture,
        protocol=protocol,
        top5=top5,
    )


def _ten_crop_depths() -> list[Published]:
    return [
        _weights("plain-18", 27.94, None, "plain18", TEN_CROP),
        _weights("ResNet-18", 27.88, None, "resnet18", TEN_CROP, shortcut="A"),
        _weights("plain-34", 28.54, None, "plain34", TEN_CROP),
        _weights("ResNet-34", 25.03, None, "resnet34", TEN_CROP, shortcut="A"),
    ]


def _ten_crop() -> list[Published]:
    return [
        _weights("plain-34", 28.54, 10.02, "plain34", TEN_CROP),
        _weights("ResNet-34 A", 25.03, 7.76, "resnet34", TEN_CROP, shortcut="A"),
        _weights("ResNet-34 B", 24.52, 7.46, "resnet34", TEN_CROP),
        _weights("ResNet-34 C", 24.19, 7.40, "resnet34", TEN_CROP, shortcut="C"),
        _weights("ResNet-50", 22.85, 6.71, "resnet50_v1", TEN_CROP),
        _weights("ResNet-101", 21.75, 6.05, "resnet101_v1", TEN_CROP),
        _weights("ResNet-152", 21.43, 5.71, "resnet152_v1", TEN_CROP),
    ]


def _single_model() -> list[Published]:
    return [
        _weights("ResNet-34 B", 21.84, 5.71, "resnet34", DENSE),
        _weights("ResNet-34 C", 21.53, 5.60, "resnet34", DENSE, shortcut="C"),
        _weights("ResNet-50", 20.74, 5.25, "resnet50_v1", DENSE),
        _weights("ResNet-101", 19.87, 4.60, "resnet101_v1", DENSE),
        _weights("ResNet-152", 19.38, 4.49, "resnet152_v1", DENSE),
    ]


def _single_crop() -> list[Published]:
    original = {"stride_in": "1x1"}
    crop = "1-crop 320"
    return [
        _weights("ResNet-152, original", 23.0, 6.7, "resnet152_v1", "1-crop 224"),
        _weights("ResNet-152, original", 21.3, 5.5, "resnet152_v1", crop),
        _weights("ResNet-152, full pre-activation", 21.1, 5.5, "preact_resnet152", crop),
        _weights("ResNet-200, original", 21.8, 6.0, "resnet200", crop, **original),
        _weights("ResNet-200, full pre-activation", 20.7, 5.3, "preact_resnet200", crop),
        _weights(
            "ResNet-200, full pre-activation",
            *(20.1, 4.8, "preact_resnet200", crop),
            remark="trained with scale and aspect ratio augmentation",
        ),
    ]


_P15, _P16 = "1512.03385 Table", "1603.05027 Table"

TABLES: Mapping[str, PaperTable] = {
    table.name: table
    for table in (
        PaperTable(
            "he2015-table2",
            f"{_P15} 2: plain and residual nets on ImageNet",
            *_IMAGENET,
            tuple(_ten_crop_depths()),
        ),
        PaperTable(
            "he2015-table3", f"{_P15} 3: nets on ImageNet, 10-crop", *_IMAGENET, tuple(_ten_crop())
        ),
        PaperTable(
            "he2015-table4",
            f"{_P15} 4: single nets on ImageNet",
            *_IMAGENET,
            tuple(_single_model()),
        ),
        PaperTable("he2015-table6", f"{_P15} 6: depth on CIFAR-10", *_CIFAR, tuple(_table6())),
        PaperTable("he2016-table1", f"{_P16} 1: shortcuts", *_CIFAR, tuple(_gates())),
        PaperTable("he2016-table2", f"{_P16} 2: residual units", *_CIFAR, tuple(_units())),
        PaperTable(
            "he2016-table3",
            f"{_P16} 3: original and pre-activation units",
            *_BOTH,
            tuple(_pre_activation()),
        ),
        PaperTable(
            "he2016-table4",
            f"{_P16} 4: its own nets on CIFAR",
            *_BOTH,
            tuple(_state_of_the_art()),
        ),
        PaperTable(
            "he2016-table5",
            f"{_P16} 5: ImageNet, one crop",
            *_IMAGENET,
            tuple(_single_crop()),
        ),
    )
}
"""The tables that can be reproduced, by their names on the command line."""
