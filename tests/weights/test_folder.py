"""Model folders under several hands: never torn, never mixed."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import environment, flip_last_bit

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card
from resnet_hub.weights.folder import read_folder
from resnet_hub.weights.provenance import Provenance

SMALL = Architecture(depths=(1, 1, 1), block="basic", stem="cifar", width=8, classes=10)
EXPORT = """
import sys
import torch
from resnet_hub.architecture import Architecture
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.provenance import Provenance
net = ResNet(Architecture(depths=(1, 1, 1), block="basic", stem="cifar", width=8, classes=10))
print("ready", flush=True)
for number in range(int(sys.argv[2]), 10**6, 2):
    with torch.no_grad():
        net.fc.bias.fill_(number)
    net.save_pretrained(sys.argv[1], provenance=Provenance(seed=number))
"""


@pytest.mark.fault("W5")
def test_a_reader_beside_two_exporters_always_finds_one_whole_model(tmp_path: Path):
    folder = tmp_path / "model"
    ResNet(SMALL).save_pretrained(folder, provenance=Provenance(seed=0))
    exporters = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, folder, str(number)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    try:
        for exporter in exporters:
            assert exporter.stdout.readline() == "ready\n"
        seen, end = set(), time.monotonic() + 3
        while time.monotonic() < end:
            card, tensors, _ = read_folder(folder)
            if card.provenance.seed:
                assert tensors["fc.bias"].eq(card.provenance.seed).all()
            seen.add(card.provenance.seed)
        assert all(exporter.poll() is None for exporter in exporters)
    finally:
        for exporter in exporters:
            exporter.kill()
            exporter.communicate()
    assert len(seen) > 10
    assert {seed % 2 for seed in seen} == {0, 1}


def test_what_nobody_replaced_is_refused_where_it_is_damaged(tmp_path: Path):
    ResNet(SMALL).save_pretrained(tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    flip_last_bit(weights)
    with pytest.raises(CorruptFile, match="damaged"):
        read_folder(tmp_path / "model")


@pytest.mark.fault("W4")
def test_an_export_that_fails_leaves_the_whole_folder_as_it_was(tmp_path: Path, monkeypatch):
    net = ResNet(SMALL)
    net.save_pretrained(tmp_path / "model", provenance=Provenance(seed=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    net.labels = ("\0" * (1 << 20),) * 10  # a card that cannot be written, after its weights
    with torch.no_grad():
        net.fc.bias.fill_(9)
    with pytest.raises(Exception, match="over"):
        net.save_pretrained(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_temperature_is_kept_by_loading_and_saving_and_dropped_with_the_head(tmp_path: Path):
    net = ResNet("cifar_resnet20", classes=3)
    net.temperature = 1.75
    net.save_pretrained(tmp_path / "one")
    ResNet.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert read_card(tmp_path / "two").temperature == 1.75
    assert "temperature: 1.75" in (tmp_path / "two" / "README.md").read_text()
    assert ResNet.from_pretrained(tmp_path / "two", classes=["a", "b", "c"]).temperature == 1.75
    for other in ({"classes": 4}, {"in_channels": 1}, {"fresh_head": True}):
        assert ResNet.from_pretrained(tmp_path / "two", **other).temperature is None
    net.temperature = None
    net.save_pretrained(tmp_path / "three")
    assert "temperature" not in (tmp_path / "three" / "config.json").read_text()


@pytest.mark.parametrize("value", [0, -1.0, True, "1.5", float("inf"), float("nan")])
def test_a_temperature_that_nothing_can_be_divided_by_is_refused(tmp_path: Path, value: Any):
    net = ResNet("cifar_resnet20")
    net.temperature = value
    with pytest.raises(InvalidSetting, match=r"temperature: .* is no number above 0"):
        net.save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()
