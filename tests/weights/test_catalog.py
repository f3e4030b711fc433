"""The catalog: what is published, under which name, and that upstream says the same."""

import csv
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_hub.errors import DataMissing, UnknownName
from resnet_hub.weights.catalog import (
    CATALOG,
    CATALOG_FILE,
    default_of,
    find_weights,
    weights_of,
)
from resnet_hub.zoo import ARCHITECTURES

CHECKOUT = Path(__file__).parents[2]
TORCHVISION = {
    **dict.fromkeys(("resnet18", "resnet34", "resnext101_64x4d"), ("tv_v1",)),
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), ("tv_v1", "tv_v2")),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d"), ("tv_v1", "tv_v2")),
    **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), ("tv_v1", "tv_v2")),
}
STRIKES_BACK = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Callable[..., str]]:
    """The lines that the tool writes from what is installed here, and its page's writer."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_catalog.py", str(path)])
        tool = runpy.run_path(str(CHECKOUT / "tools/make_catalog.py"), run_name="__main__")
    return path.read_text().splitlines(), tool["page"]


def test_it_holds_all_of_torchvision_and_three_recipes_of_timm():
    published = {f"{net}.{tag}" for net, tags in TORCHVISION.items() for tag in tags}
    published |= {f"{net}.{tag}" for net in STRIKES_BACK for tag in ("a1", "a2", "a3")}
    assert set(CATALOG) == published


def test_what_is_installed_here_says_the_same_of_every_weight_it_knows(made):
    regenerated, _ = made
    committed = CATALOG_FILE.read_text().splitlines()
    if committed[0] == regenerated[0]:  # made from the same releases
        assert regenerated == committed
    known = {line.partition(",")[0]: line for line in committed[1:]}
    contradicted = [
        line for line in regenerated[1:] if known.get(line.partition(",")[0], line) != line
    ]
    assert contradicted == []
    assert len(regenerated) > 30


def test_the_page_of_the_documents_is_fresh(made):
    _, page = made
    rows = csv.DictReader(CATALOG_FILE.read_text().splitlines()[1:])
    assert (CHECKOUT / "docs/catalog.md").read_text("utf-8") == page(list(rows))


def test_its_first_line_says_what_it_was_made_from():
    assert CATALOG_FILE.read_text().startswith("# torchvision 0.")
    assert ", timm 1." in CATALOG_FILE.read_text().partition("\n")[0]


def test_an_entry_says_all_that_upstream_does():
    entry = CATALOG["wide_resnet50_2.tv_v1"]
    assert entry.net == "wide_resnet50_2"
    assert entry.url == "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth"
    assert (entry.sha256, entry.dtype) == ("95faca4d", "float16")
    assert (entry.licence, entry.default) == ("unstated", False)
    assert entry.recipe == "https://github.com/pytorch/vision/pull/912#issue-445437439"
    assert (entry.size, entry.resize, entry.interpolation) == (224, 256, "bilinear")
    assert (entry.top1, entry.top5) == (0.78468, 0.94086)
    other = CATALOG["resnet50.a3"]
    assert other.url.endswith("/v0.1-rsb-weights/resnet50_a3_0-59cae1ef.pth")
    assert (other.sha256, other.dtype, other.licence) == ("59cae1ef", None, "Apache-2.0")
    assert (other.size, other.resize, other.interpolation) == (224, 235, "bicubic")
    assert (other.top1, other.top5, other.recipe) == (0.78052, 0.9378, "arXiv:2110.00476 A3")


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)
def test_every_entry_is_of_a_net_of_ours_and_can_be_checked(entry):
    assert entry.net in ARCHITECTURES
    assert entry.url.startswith("https://")
    assert entry.url.endswith(f"-{entry.sha256}.pth")
    assert len(entry.sha256) >= 8
    assert 0.6 < entry.top1 < entry.top5 < 1
    assert entry.recipe
    assert len(entry.mean) == len(entry.std) == 3


def test_the_default_is_torchvisions():
    torchvision = pytest.importorskip("torchvision")
    for net in TORCHVISION:
        default = torchvision.models.get_model_weights(net).DEFAULT
        assert default_of(net).url == default.url
        assert find_weights(net) is default_of(net)
        assert [CATALOG[name].default for name in weights_of(net)].count(True) == 1


def test_a_bare_name_is_its_default_and_a_whole_one_itself():
    assert find_weights("resnet152").name == "resnet152.tv_v2"
    assert find_weights("resnet18").name == "resnet18.tv_v1"
    assert find_weights("resnet50.a1").name == "resnet50.a1"


def test_a_net_without_published_weights_says_so_and_names_the_way_out():
    for name in ("preact_resnet152", "preact_resnet152.tv_v1", "cifar_plain20"):
        with pytest.raises(DataMissing, match=r"no published weights.*weights=None"):
            find_weights(name)
    assert default_of("preact_resnet152") is None
    assert weights_of("preact_resnet152") == ()


@pytest.mark.fault("L7")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50.tv_v3", "did you mean 'resnet50.tv_v2'?"),
        ("resnet50.a1_in1k", "did you mean 'resnet50.a1'?"),
        ("resnet18.tv_v2", "did you mean 'resnet18.tv_v1'?"),
        ("resnet50.", "did you mean 'resnet50."),
        ("resnet51", "did you mean 'resnet5"),
        ("resnet51.tv_v2", "did you mean 'resnet5"),
        ("vgg16", "see `resnet-hub list`"),
        ("../../etc", "see `resnet-hub list`"),
        ("", "see `resnet-hub list`"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name, message):
    with pytest.raises(UnknownName) as caught:
        find_weights(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_nets_weights_are_listed_and_an_unknown_net_has_none():
    tags = ("a1", "a2", "a3", "tv_v1", "tv_v2")
    assert weights_of("resnet50") == tuple(f"resnet50.{tag}" for tag in tags)
    with pytest.raises(UnknownName, match="resnet50"):
        weights_of("resnet5O")


def test_the_catalog_needs_no_torch():
    code = (
        "import sys, resnet_hub.weights.catalog as c; c.find_weights('resnet50'); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
