"""Weights that the package carries: found by name, loaded without a network, in the wheel."""

import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from reference_nets import fill

from resnet_hub.errors import UnknownName
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import catalog
from resnet_hub.weights.catalog import find_weights, packaged, weights_of

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package's own."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    (folder / "README.md").write_text("none yet")
    monkeypatch.setattr(catalog, "PACKAGED", folder)
    return folder


def save(folder: Path, net: str = "cifar_resnet20") -> ResNet:
    """Write a model folder of weights of its own."""
    made = fill(ResNet(net))
    made.save_pretrained(folder)
    return made


def test_the_packages_own_folder_is_where_they_are_looked_for():
    assert catalog.PACKAGED == CHECKOUT / "resnet_hub/weights/packaged"
    assert catalog.PACKAGED.is_dir()


def test_whole_names_and_a_nets_bare_name_find_a_packaged_folder(shelf):
    save(shelf / "cifar_resnet20.c10jpeg")
    assert packaged("cifar_resnet20.c10jpeg") == shelf / "cifar_resnet20.c10jpeg"
    assert packaged("cifar_resnet20") == shelf / "cifar_resnet20.c10jpeg"
    assert weights_of("cifar_resnet20") == ("cifar_resnet20.c10jpeg",)
    for other in ("cifar_resnet32", "cifar_resnet2", "cifar_resnet20.c10", "resnet50", ""):
        assert packaged(other) is None


def test_where_a_net_has_two_only_their_whole_names_tell_them_apart(shelf):
    for tag in ("first", "second"):
        save(shelf / f"cifar_resnet20.{tag}")
    assert packaged("cifar_resnet20") is None
    assert packaged("cifar_resnet20.second") == shelf / "cifar_resnet20.second"
    with pytest.raises(
        UnknownName, match=r"there are cifar_resnet20\.first, cifar_resnet20\.second"
    ):
        find_weights("cifar_resnet20")


def test_a_bare_name_keeps_the_catalogs_default(shelf):
    save(shelf / "resnet18.ours", "resnet18")
    assert packaged("resnet18") is None
    assert packaged("resnet18.ours") == shelf / "resnet18.ours"
    assert find_weights("resnet18").name == "resnet18.tv_v1"
    assert weights_of("resnet18")[0] == "resnet18.ours"


def test_what_is_no_model_folder_is_not_found(shelf):
    (shelf / "cifar_resnet20.empty").mkdir()
    (shelf / "cifar_resnet20.file").write_text("{}")
    assert packaged("cifar_resnet20") is None
    assert packaged("README.md") is None


@pytest.mark.parametrize("name", ["..", "../outside", "/", ".", "a\0b", "x" * 5000, "*"])
def test_no_name_leads_out_of_the_folder(shelf, name):
    save(shelf.parent / "outside")
    save(shelf / "cifar_resnet20.c10jpeg")
    assert packaged(name) is None


def test_they_load_by_name_without_a_network(shelf, tmp_path, monkeypatch):
    def refuse(*args: object) -> None:
        raise AssertionError("a request")

    made = save(shelf / "cifar_resnet20.c10jpeg")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    x = torch.randn(2, 3, 32, 32)
    for name in ("cifar_resnet20", "cifar_resnet20.c10jpeg"):
        assert torch.equal(ResNet.from_pretrained(name)(x), made(x))
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(
    find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed"
)
def test_the_wheel_takes_them_along(tmp_path):
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "runs")
    shutil.copytree(CHECKOUT / "resnet_hub", copy / "resnet_hub", ignore=ignored)
    shutil.copytree(CHECKOUT / "recipes", copy / "recipes")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(CHECKOUT / name, copy)
    save(copy / "resnet_hub/weights/packaged/cifar_resnet20.c10jpeg")
    code = f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=copy)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    inside = "resnet_hub/weights/packaged/cifar_resnet20.c10jpeg"
    assert {f"{inside}/{n}" for n in ("config.json", "model.safetensors", "README.md")} <= names
    assert "resnet_hub/weights/catalog.csv" in names
    assert "resnet_hub/report/templates/page.html" in names
    assert "resnet_hub/weights/packaged/README.md" in names
    assert not any(name.startswith("tools") for name in names)
