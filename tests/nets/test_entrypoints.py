"""torch.hub's way in: what it lists, what it says, and what it needs."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference_nets import fill

from resnet_hub.errors import CorruptFile, DataMissing, WeightsMismatch
from resnet_hub.labels import imagenet_classes
from resnet_hub.nets.entrypoints import entry_points
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache
from resnet_hub.zoo import ARCHITECTURES

CHECKOUT = Path(__file__).parents[2]

# A process that has torch, but neither Lightning, torchvision and torchmetrics nor this package:
# it is found where torch.hub puts the repository on the path, and nowhere else.
STRANGER = """
import sys
from importlib.machinery import PathFinder

repository = sys.argv[1]
here = sys.argv[2]
blocked = {"lightning", "pytorch_lightning", "torchvision", "torchmetrics", "resnet_hub"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "resnet_hub" and repository in sys.path:
            return PathFinder.find_spec(name, [repository])
        if name in blocked:
            raise ModuleNotFoundError(f"no module named {name} (blocked)", name=name)

sys.meta_path.insert(0, Blocker())
for name in blocked:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is not blocked")
"""

LOAD = """
import json, torch
net = torch.hub.load(repository, "cifar_resnet20", source="local", weights=here)
x = torch.load(here + "/../x.pt", weights_only=True)
picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
with torch.inference_mode():
    logits = net(x)
    net(net.preprocess(picture)[None])
fresh = torch.hub.load(repository, "cifar_resnet20", source="local", weights=None, classes=3)
import resnet_hub
print(json.dumps({
    "logits": logits.tolist(),
    "labels": net.labels,
    "training": [net.training, fresh.training],
    "fresh": fresh(x).shape[1],
    "file": resnet_hub.__file__,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""

BROWSE = """
import json, torch
print(json.dumps({
    "list": torch.hub.list("someone/resnet_hub:main", trust_repo=True, verbose=False),
    "help": torch.hub.help("someone/resnet_hub:main", "cifar_resnet56", trust_repo=True),
}))
"""


# Answers as github.com does, out of a zip file, and refuses the rest of the world.
GITHUB = """
import io, json, urllib.request
from email.message import Message
from urllib.error import HTTPError
from urllib.response import addinfourl

class GitHub(urllib.request.HTTPSHandler):
    asked = []

    def https_open(self, request):
        url = request.full_url
        self.asked.append(url)
        repository = "https://github.com/someone/resnet_hub"
        listing = "https://api.github.com/repos/someone/resnet_hub/"
        headers = Message()
        if url.startswith(repository + "/zipball/"):
            data = open(here + "/../repository.zip", "rb").read()
        elif url.startswith(listing) and not url.endswith("&page=1"):
            data = b"[]"
        elif url.startswith(listing + "branches"):
            data = json.dumps([{"name": "main", "commit": {"sha": "0" * 40}}]).encode()
        elif url.startswith(listing + "tags"):
            data = json.dumps([{"name": "v1", "commit": {"sha": "1" * 40}}]).encode()
        elif url == repository + "/tree/main/":
            data = b"<html></html>"
        else:
            raise HTTPError(url, 404, "Not Found", headers, io.BytesIO())
        headers["Content-Length"] = str(len(data))
        answer = addinfourl(io.BytesIO(data), headers, url, 200)
        answer.msg = "OK"
        return answer

urllib.request.install_opener(urllib.request.build_opener(GitHub))
"""

PRETRAINED = """
import json, torch
how = {"trust_repo": True, "verbose": False}
net = torch.hub.load("someone/resnet_hub", "resnet152", **how)
x = torch.load(here + "/../x.pt", weights_only=True)
first = list(GitHub.asked)
other = torch.hub.load("someone/resnet_hub:main", "resnet152", weights="a1", classes=7, **how)
grey = torch.hub.load("someone/resnet_hub:v1", "resnet152", in_channels=1, **how)
with torch.inference_mode():
    logits = net(x)
import resnet_hub
print(json.dumps({
    "logits": logits.tolist(),
    "labels": len(net.labels),
    "shapes": [list(other.fc.weight.shape), list(grey.conv1.weight.shape)],
    "asked": first,
    "later": GitHub.asked[len(first):],
    "file": resnet_hub.__file__,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def run(code: str, *arguments: str, **environment: str) -> dict:
    """Run code in a new process, away from the checkout; return the object it printed."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=arguments[1],
        env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of what torch.hub would download: the package is nowhere else for the stranger."""
    root = tmp_path_factory.mktemp("hub") / "hub" / "someone_resnet_hub_main"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "resnet_hub", root / "resnet_hub", ignore=ignored)
    shutil.copy(CHECKOUT / "hubconf.py", root)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[Path, ResNet, torch.Tensor]:
    """A saved net, and an image batch beside it."""
    folder = tmp_path_factory.mktemp("model") / "net"
    net = fill(ResNet("cifar_resnet20"))
    net.labels = tuple("abcdefghij")
    net.save_pretrained(folder)
    x = torch.randn(2, 3, 32, 32)
    torch.save(x, folder.parent / "x.pt")
    return folder, net, x


def test_torch_hub_loads_a_model_without_lightning_torchvision_or_the_package(repository, model):
    folder, net, x = model
    found = run(STRANGER + LOAD, str(repository), str(folder))
    torch.testing.assert_close(torch.tensor(found["logits"]), net(x).detach())
    assert found["labels"] == list("abcdefghij")
    assert found["training"] == [False, True]
    assert found["fresh"] == 3
    assert Path(found["file"]).parents[1] == repository
    assert not {"lightning", "torchvision", "torchmetrics", "timm"} & set(found["modules"])


def test_torch_hub_gives_pretrained_nets_out_of_githubs_answers_and_the_cache(
    repository, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    net = ResNet("resnet152", zero_init_residual=True).eval()  # else its logits are beyond reason
    net.labels = tuple(imagenet_classes().values())
    for name in ("resnet152.tv_v2", "resnet152.a1"):
        net.save_pretrained(cache.published(name))
    x = torch.randn(2, 3, 64, 64)
    torch.save(x, tmp_path / "x.pt")
    inside = tmp_path / "zip" / "someone-resnet_hub-0000000"
    shutil.copytree(repository, inside)
    shutil.make_archive(str(tmp_path / "repository"), "zip", inside.parent, inside.name)
    (tmp_path / "here").mkdir()
    place = tmp_path / "torch/hub/someone_resnet_hub_main"
    found = run(STRANGER + GITHUB + PRETRAINED, str(place), str(tmp_path / "here"))
    logits = net(x).detach()
    torch.testing.assert_close(torch.tensor(found["logits"]), logits, rtol=1e-4, atol=1e-4)
    assert found["labels"] == 1000
    assert found["shapes"] == [[7, 2048], [64, 1, 7, 7]]
    assert [url.rpartition("resnet_hub/")[2].partition("?")[0] for url in found["asked"]] == [
        *("tree/main/", "branches", "zipball/main"),
    ]
    assert found["later"][-1].endswith("someone/resnet_hub/zipball/v1")
    assert any("/tags" in url for url in found["later"])
    assert Path(found["file"]).parents[1] == place
    assert not {"lightning", "torchvision", "torchmetrics", "timm"} & set(found["modules"])


def test_torch_hub_lists_the_table_and_tells_of_a_net(repository, model):
    home = str(repository.parents[1])
    found = run(STRANGER + BROWSE, str(repository), str(model[0]), TORCH_HOME=home)
    assert sorted(found["list"]) == sorted(ARCHITECTURES)
    text = " ".join(found["help"].split())
    assert "853,018 parameters; 125.5 million multiply-adds at 32 pixels; 10 classes." in text
    assert "Published error: 6.97% (CIFAR-10 test)." in text
    assert 'weights: ``"default"`` for the published default weights' in text


def test_importing_the_net_imports_no_torchvision_and_no_lightning(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from resnet_hub import ResNet\n"
        "import json; print(json.dumps([n.partition('.')[0] for n in sys.modules]))"
    )
    modules = set(run(code, "", str(tmp_path)))
    assert "torch" in modules
    assert not {"torchvision", "lightning", "pytorch_lightning", "torchmetrics", "PIL"} & modules


def test_every_entry_point_has_the_same_signature_and_its_own_name():
    entries = entry_points()
    assert list(entries) == list(ARCHITECTURES)
    for name, entry in entries.items():
        assert entry.__name__ == name
        assert str(inspect.signature(entry)).startswith(
            "(weights: 'str | None' = 'default', *, classes: 'int | Sequence[str] | None' = None, "
            "in_channels: 'int | None' = None)"
        )


def test_an_entry_point_tells_parameters_and_multiply_adds():
    text = " ".join(entry_points()["resnet50"].__doc__.split())
    assert "25,557,032 parameters; 4,089.2 million multiply-adds at 224 pixels" in text


def test_weights_of_another_net_are_refused_by_both_names(model):
    with pytest.raises(WeightsMismatch, match="holds cifar_resnet20, not cifar_resnet56"):
        entry_points()["cifar_resnet56"](str(model[0]))


def test_a_net_of_no_row_is_refused_as_another_net(tmp_path):
    ResNet("cifar_resnet20", shortcut="B").save_pretrained(tmp_path / "b")
    with pytest.raises(WeightsMismatch, match="holds another net, not cifar_resnet20"):
        entry_points()["cifar_resnet20"](str(tmp_path / "b"))


def test_another_class_count_and_other_image_channels_can_be_asked_for(model):
    entry = entry_points()["cifar_resnet20"]
    net = entry(str(model[0]), classes=3, in_channels=1)
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    fresh = entry(None, classes=4, in_channels=2)
    assert fresh(torch.randn(2, 2, 32, 32)).shape == (2, 4)
    assert fresh.labels is None
    for weights in (None, str(model[0])):
        named = entry(weights, classes=["ant", "bee"])
        assert (named.architecture.classes, named.labels) == (2, ("ant", "bee"))


def test_missing_published_weights_are_said_to_be_missing():
    with pytest.raises(DataMissing, match="weights=None for a fresh net"):
        entry_points()["cifar_resnet20"]()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CorruptFile, match=r"holds no config\.json"):
        entry_points()["cifar_resnet20"](str(tmp_path))
