"""``predict``, and what all commands that read or make model folders share."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference_nets import akamaster
from safetensors.torch import load_file
from small_runs import command, fit, refusal

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.folder import amend_card
from resnet_hub.weights.store import sha256_of, write_tensors


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("runs") / "run", "--trainer.limit_train_batches=39")


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be changed."""
    return Path(shutil.copytree(run / "model", tmp_path / "model"))


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    path = tmp_path / "digit.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_predict_names_the_five_likeliest_classes_of_each_picture(
    run: Path, digit: Path, tmp_path: Path, capsys
):
    other = tmp_path / "other.jpg"
    Image.new("RGB", (30, 20), (250, 10, 10)).save(other)  # of another size and mode
    assert command("predict", run / "model", digit, other, "--json") == 0
    one, two = json.loads(capsys.readouterr().out)
    net = ResNet.from_pretrained(run / "model")
    with torch.inference_mode():
        expected = net(net.preprocess(Image.open(digit))[None]).softmax(1)[0]
    assert one["image"] == str(digit)
    assert [guess["index"] for guess in one["top5"]] == expected.topk(5).indices.tolist()
    for guess in one["top5"]:
        assert guess["label"] == str(guess["index"])
        assert guess["probability"] == pytest.approx(float(expected[guess["index"]]))
    assert two["image"] == str(other)
    assert len(two["top5"]) == 5


def test_predict_sees_photographs_upright_as_their_exif_says(run: Path, digit: Path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by a quarter
    turned = digit.with_name("turned.png")
    with Image.open(digit) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    assert command("predict", run / "model", digit, turned, "--json") == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one["top5"] == two["top5"]


def test_predict_for_people_has_a_line_for_each_guess(run: Path, digit: Path, capsys):
    assert command("predict", run / "model", digit) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == str(digit)
    assert len(lines) == 5
    shares = [float(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)


def test_predict_goes_by_the_cards_temperature_and_says_so(model: Path, digit: Path, capsys):
    amend_card(model, lambda card: replace(card, temperature=2.5))
    assert command("predict", model, digit, "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    net = ResNet.from_pretrained(model)
    with torch.inference_mode():
        expected = (net(net.preprocess(Image.open(digit))[None]) / 2.5).softmax(1)[0].topk(5)
    found = [guess["probability"] for guess in answer["top5"]]
    assert found == pytest.approx(expected.values.tolist())
    assert answer["temperature"] == 2.5
    assert command("predict", model, digit) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head == "probabilities at the card's temperature, 2.5"


def test_predict_of_fewer_classes_or_without_labels_says_what_there_is(
    digit: Path, tmp_path: Path, capsys
):
    ResNet("cifar_resnet20", classes=3).save_pretrained(tmp_path / "three")
    assert command("predict", tmp_path / "three", digit, "--json") == 0
    ((answer,)) = json.loads(capsys.readouterr().out)
    assert {guess["label"] for guess in answer["top5"]} == {"0", "1", "2"}


def test_predict_refuses_what_is_no_picture(run: Path, tmp_path: Path, capsys):
    missing, text = tmp_path / "missing.png", tmp_path / "text.png"
    text.write_text("no picture")
    for path in (missing, text, tmp_path):
        assert str(path) in refusal(capsys, "predict", run / "model", path)


def test_predict_refuses_what_is_no_model(run: Path, digit: Path, tmp_path: Path, capsys):
    assert "no such folder" in refusal(capsys, "predict", "./nowhere", digit)
    assert "did you mean 'resnet50'" in refusal(capsys, "predict", "resnet51", digit)
    assert "no published weights" in refusal(capsys, "predict", "plain34", digit)
    assert "it holds no config.json" in refusal(capsys, "predict", run, digit)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_predict_by_a_net_that_diverged_says_so_and_gives_no_numbers(
    model: Path, digit: Path, capsys, number: float, form: tuple[str, ...]
):
    weights = load_file(model / "model.safetensors")
    weights["conv1.weight"].fill_(number)
    write_tensors(model / "model.safetensors", weights)
    card = json.loads((model / "config.json").read_text())
    card["provenance"]["sha256"] = sha256_of(model / "model.safetensors")
    (model / "config.json").write_text(json.dumps(card))
    message = refusal(capsys, "predict", model, digit, *form)
    assert message.startswith(f"{model}: no probabilities for {digit}: its weights are not finite")


def test_labels_and_file_names_give_a_terminal_no_commands(
    digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    odd = os.fsdecode(b"caf\xe9")
    net = ResNet("cifar_resnet20", classes=3)
    net.labels = ("\x1b[2J", odd, "a\nb")
    net.save_pretrained(tmp_path / "model")
    picture = tmp_path / f"{odd}\x1b]0;x.png"
    digit.rename(picture)
    assert command("predict", tmp_path / "model", picture) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == rf"{tmp_path}/caf\udce9\x1b]0;x.png"
    assert {line[10:] for line in lines} == {r"\x1b[2J", r"caf\udce9", r"a\nb"}
    assert command("predict", tmp_path / "model", picture, "--json") == 0
    ((answer,)) = json.loads(capsys.readouterr().out)
    assert answer["image"] == str(picture)
    assert {guess["label"] for guess in answer["top5"]} == set(net.labels)


def test_a_home_that_is_not_there_is_refused_wherever_a_path_stands(
    run: Path, digit: Path, tmp_path: Path, capsys
):
    path, model, out = "~no-such-user/x", run / "model", tmp_path / "out"
    torch.save(akamaster(ResNet("cifar_resnet20")), tmp_path / "a.th")
    for arguments in (
        ("predict", path, digit),
        ("predict", model, path),
        ("export", path, out),
        ("export", run, path),
        ("convert", path, out, "--net=cifar_resnet20"),
        ("convert", tmp_path / "a.th", path, "--net=cifar_resnet20"),
        ("info", path),
    ):
        message = refusal(capsys, *arguments)
        assert message == f"{path}: there is no home of a user 'no-such-user'"
    assert not out.exists()


def test_the_home_folder_is_found_wherever_a_path_stands(
    run: Path, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(run, tmp_path / "run")
    torch.save(akamaster(ResNet("cifar_resnet20")), tmp_path / "a.th")
    assert command("export", "~/run", "~/out") == 0
    assert command("predict", "~/out", "~/digit.png") == 0
    assert command("convert", "~/a.th", "~/converted", "--net=cifar_resnet20") == 0
    assert (tmp_path / "converted" / "config.json").is_file()


@pytest.mark.fault("L1")
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_weights_that_were_cut_are_refused_by_every_command(
    model: Path, digit: Path, tmp_path: Path, capsys, share: float
):
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * share)])
    for arguments in (
        ("predict", model, digit),
        ("test", model, "--data=Digits"),
        ("convert", weights, tmp_path / "out", "--net=cifar_resnet20"),
    ):
        assert str(weights) in refusal(capsys, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("L2")
def test_a_single_flipped_bit_is_refused_wherever_it_is(model: Path, digit: Path, capsys):
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    generator = np.random.default_rng(0)
    places = [0, 7, 8, 100, len(content) - 1, *generator.integers(0, len(content), 25).tolist()]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        weights.write_bytes(flipped)
        message = refusal(capsys, "predict", model, digit)
        assert message.startswith(f"{weights}: damaged")
        assert "fetch or export it again" in message


def test_a_missing_weights_file_is_named(model: Path, digit: Path, capsys):
    (model / "model.safetensors").unlink()
    message = refusal(capsys, "predict", model, digit)
    assert message == f"{model / 'model.safetensors'}: the weights file is missing"
