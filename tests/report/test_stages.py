"""The table of a net's parts, against the counts in closed form."""

from dataclasses import replace

import pytest

from resnet_hub.counting import multiply_adds, natural_size, parameters
from resnet_hub.report.stages import stages
from resnet_hub.zoo import find_row

NETS = (
    "cifar_resnet20",
    "cifar_plain20",
    "cifar_preact_resnet164",
    "resnet50",
    "preact_resnet152",
    "seresnet50",
    "ecaresnet50d",
    "resnetrs50",
    "resnext50_32x4d",
)


@pytest.mark.parametrize("name", NETS)
def test_the_parts_add_up_to_the_net(name: str):
    net = find_row(name).architecture
    rows = stages(net, natural_size(net))
    assert sum(row.parameters for row in rows) == parameters(net)
    assert sum(row.multiply_adds for row in rows) == multiply_adds(net)
    assert [row.name for row in rows] == [
        "stem",
        *(f"stage {n + 1}" for n in range(len(net.depths))),
        "classifier",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "bn_after_addition"},
        {"form": "relu_only_preact"},
        {"shortcut_gate": "exclusive"},
        {"shortcut_gate": "shortcut_only", "shortcut": "C"},
    ],
)
def test_the_parts_of_a_net_with_a_twist_add_up_too(changes: dict):
    net = replace(find_row("cifar_resnet20").architecture, **changes)
    rows = stages(net, 32)
    assert sum(row.parameters for row in rows) == parameters(net)
    assert sum(row.multiply_adds for row in rows) == multiply_adds(net)


def test_the_rows_are_those_of_the_papers_table():
    rows = stages(find_row("resnet50").architecture, 224)
    assert rows[0].made == "7×7, 64, stride 2; 3×3 max pool"
    assert [row.made for row in rows[1:3]] == [
        "[1×1, 64 | 3×3, 64 | 1×1, 256]\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}3",
        "[1×1, 128 | 3×3, 128 | 1×1, 512]\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}4, first stride 2",
    ]
    assert [row.shape for row in rows] == [
        (64, 112, 112),
        (256, 56, 56),
        (512, 28, 28),
        (1024, 14, 14),
        (2048, 7, 7),
        (1000,),
    ]
    assert rows[2].shortcut == "1×1 convolution, identity"
