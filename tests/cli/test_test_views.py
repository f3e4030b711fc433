"""``resnet-hub test`` with several looks at a picture, and several nets."""

import json
from pathlib import Path

import pytest
import torch
from small_runs import command, refusal, start

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.nets.resnet import ResNet

DDP = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two fresh nets for digits, whose answers differ."""
    folders = [tmp_path_factory.mktemp("models") / name for name in ("first", "second")]
    data = Digits(DataSettings(name="Digits")).open()
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        net = ResNet("cifar_resnet20", classes=data.labels, in_channels=1)
        net.preprocess = data.preprocess
        net.save_pretrained(folder)
    return folders


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def told(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    assert command("test", *arguments, "--data=Digits", "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def direct(folders: list[Path], *, mirrored: bool = False) -> float:
    """Return the top-1 of averaged probabilities, computed by hand."""
    data = Digits(DataSettings(name="Digits")).open()
    pixels = torch.cat([batch.images for batch in data.test_dataloader()])
    looks = [pixels, pixels.flip(-1)] if mirrored else [pixels]
    probabilities = torch.zeros(len(pixels), 10, dtype=torch.float64)
    for folder in folders:
        net = ResNet.from_pretrained(folder)
        with torch.no_grad():
            for look in looks:
                probabilities += net(net.preprocess(look)).double().softmax(1)
    right = probabilities.argmax(1) == data.split("test").targets
    return int(right.sum()) / len(right)


def test_a_mirror_is_averaged_with_the_picture_and_nothing_is_recorded(models, capsys):
    before = (models[0] / "config.json").read_bytes()
    found = told(capsys, models[0], "--views=flip")
    assert found["top1"] == pytest.approx(direct(models[:1], mirrored=True))
    assert (found["n"], found["recorded"], found["from_cache"]) == (360, False, False)
    assert found["views"] == {"kind": "flip", "average": "probabilities"}
    assert (models[0] / "config.json").read_bytes() == before


def test_several_models_are_an_ensemble_whose_passes_are_made_once(models, capsys):
    found = told(capsys, *models)
    assert found["top1"] == pytest.approx(direct(models))
    assert found["models"] == list(map(str, models))
    assert found["from_cache"] is False
    again = told(capsys, *reversed(models), "--average=logits")
    assert again["from_cache"] is True


def test_people_are_told_what_was_averaged(models, capsys):
    for again in ("", "; answers kept from before"):
        assert command("test", *models, "--data=Digits", "--views=flip") == 0
        out = capsys.readouterr().out.splitlines()
        mirror = "central crop and mirror, probabilities averaged"
        assert out[0] == f"ensemble of 2, probabilities averaged; {mirror}{again}"
        assert out[1].startswith("Digits test: top-1 ")
        assert out[-1] == "not recorded: a card holds what one model answers to central crops"


def test_two_processes_say_what_one_says(models, tmp_path: Path, capsys, monkeypatch):
    one = told(capsys, *models, "--views=flip")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "another"))
    arguments = ("test", *models, "--data=Digits", "--views=flip", "--json", *DDP)
    for from_cache in (False, True):
        done = start(*arguments, cwd=tmp_path)
        out, err = done.communicate(timeout=120)
        assert done.returncode == 0, err
        found = json.loads(out)
        assert found["from_cache"] is from_cache
        assert (found["n"], found["top1"]) == (360, one["top1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--views=flop"], "views: 'flop' is none of center, flip, ten_crop, dense; did you mean"),
        (["--views=dense", "--sizes=big"], "--sizes: 'big' are no pixels"),
        (["--views=flip", "--sizes=64"], "sizes: are for dense views; these are flip"),
        (["--views=ten_crop"], "give a larger --data.eval_resize, such as 9"),
        (["--views=flip", "--average=votes"], "average: 'votes' is none of probabilities, logits"),
        (["--views=flip", "--calibrate"], "--calibrate: is for the central crop and one model"),
        (["--views=flip", "--trainer.num_nodes=2"], "trainer.num_nodes: has no effect here"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(models, capsys, arguments, message):
    assert message in refusal(capsys, "test", models[0], "--data=Digits", *arguments)
