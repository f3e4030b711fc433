"""Weights on a web server: a safetensors file by its digest, its card beside it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from loopback_hub import Fault, LoopbackHub
from reference_nets import fill

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, DataMissing, ResNetHubError
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache

SMALL = Architecture(depths=(1, 1, 1), block="basic", stem="cifar", width=8, classes=10)


@pytest.fixture
def served(tmp_path: Path, monkeypatch):
    """A server with a model at ``/m``, and the source that names it; the cache is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "model"
    fill(ResNet(SMALL)).save_pretrained(folder)
    with LoopbackHub() as hub:
        for name in ("config.json", "model.safetensors"):
            hub.files[f"/m/{name}"] = (folder / name).read_bytes()
        digest = hashlib.sha256(hub.files["/m/model.safetensors"]).hexdigest()
        yield hub, f"{hub.url}/m/model.safetensors#sha256={digest}"


def same(net: ResNet) -> bool:
    expected = fill(ResNet(SMALL)).state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in net.state_dict().items())


def refused(kind: type[ResNetHubError], source: str, **how: object) -> str:
    with pytest.raises(kind) as caught:
        ResNet.from_pretrained(source, **how)
    assert cache.entries() == []
    return str(caught.value)


def test_a_url_is_fetched_once(served):
    hub, source = served
    assert same(ResNet.from_pretrained(source))
    before = len(hub.log)
    assert same(ResNet.from_pretrained(source))
    assert same(ResNet.from_pretrained(source, local_files_only=True))
    assert len(hub.log) == before == 2


def test_offline_nothing_is_asked(served, monkeypatch):
    hub, source = served
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not cached, and requests are forbidden" in refused(DataMissing, source)
    assert hub.log == []


@pytest.mark.fault("H1")
def test_other_bytes_are_refused_and_the_next_good_ones_load(served):
    hub, source = served
    good = hub.files["/m/model.safetensors"]
    hub.faults.append(Fault("GET .*safetensors", body=good[:-1] + b"!", times=1))
    assert "what came is another file" in refused(CorruptFile, source)
    assert same(ResNet.from_pretrained(source))


def test_a_card_of_other_weights_is_refused_before_they_are_fetched(served):
    hub, source = served
    content = json.loads(hub.files["/m/config.json"])
    content["provenance"]["sha256"] = "0" * 64
    hub.files["/m/config.json"] = json.dumps(content).encode()
    assert "is the card of other weights than #sha256= names" in refused(CorruptFile, source)
    assert hub.asked("GET", "safetensors") == 0


def test_a_card_too_long_or_missing_is_refused(served):
    hub, source = served
    hub.files["/m/config.json"] += b" " * (1 << 20)
    assert "over 1,048,576 bytes" in refused(CorruptFile, source)
    del hub.files["/m/config.json"]
    assert refused(DataMissing, source).endswith("/m/config.json: the server answers 404")


@pytest.mark.fault("H3")
def test_what_is_damaged_in_the_cache_is_fetched_again(served):
    _, source = served
    ResNet.from_pretrained(source)
    (entry,) = cache.entries()
    path = entry.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert same(ResNet.from_pretrained(source))


@pytest.mark.fault("H3")
def test_a_damaged_cache_stays_where_the_server_is_down(served):
    hub, source = served
    ResNet.from_pretrained(source)
    (entry,) = cache.entries()
    card = entry.folder / "config.json"
    card.write_text(card.read_text().replace('"format": 1', '"format": 2'))  # of a newer version
    before = {path.name: path.read_bytes() for path in entry.folder.iterdir()}
    hub.faults.append(Fault("GET", status=404))
    with pytest.raises(DataMissing, match="the server answers 404"):
        ResNet.from_pretrained(source)
    assert {path.name: path.read_bytes() for path in entry.folder.iterdir()} == before


def test_a_folder_that_is_named_is_never_removed_wherever_it_lies(served, tmp_path: Path):
    _, source = served
    ResNet.from_pretrained(source)
    mine = cache.root() / "mine"
    for folder in (mine, tmp_path / "precious"):
        folder.mkdir()
        (folder / "notes").write_text("mine")
    for name in (mine, cache.root(), f"{cache.root()}/../../../precious", tmp_path / "precious"):
        with pytest.raises(CorruptFile, match="no model folder"):
            ResNet.from_pretrained(name)
    assert (mine / "notes").read_text() == (tmp_path / "precious/notes").read_text() == "mine"
    assert len(cache.entries()) == 1


def test_the_same_weights_from_another_place_have_their_own_card(served):
    hub, source = served
    for name in ("config.json", "model.safetensors"):
        hub.files[f"/other/{name}"] = hub.files[f"/m/{name}"]
    content = json.loads(hub.files["/other/config.json"])
    content["labels"] = list("abcdefghij")
    hub.files["/other/config.json"] = json.dumps(content).encode()
    assert ResNet.from_pretrained(source.replace("/m/", "/other/")).labels == tuple("abcdefghij")
    assert ResNet.from_pretrained(source).labels is None
    assert len(cache.entries()) == 2
