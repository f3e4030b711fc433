"""Model folders: saved whole, loaded strictly, and every fault named in one line."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from reference_nets import fill
from torch import nn

from resnet_hub import __version__
from resnet_hub.architecture import Architecture
from resnet_hub.errors import (
    CorruptFile,
    DataMissing,
    Diverged,
    InvalidSetting,
    UnknownName,
    WeightsMismatch,
)
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.card import read_card
from resnet_hub.weights.folder import write_model
from resnet_hub.weights.hub import read_model, resolve
from resnet_hub.weights.provenance import Provenance, Score

SMALL = Architecture(depths=(1, 1, 1), block="basic", stem="cifar", width=8, classes=10)
LABELS = tuple("abcdefghij")
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def made(architecture: Architecture | str = SMALL, **options) -> ResNet:
    return fill(ResNet(architecture, **options))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved net with labels."""
    net = made()
    net.labels = LABELS
    net.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def assert_equal_states(one: nn.Module, other: nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    for name in states[0]:
        assert states[0][name].dtype == states[1][name].dtype
        assert torch.equal(states[0][name], states[1][name]), name


def refusal(kind: type[Exception], source, **options) -> str:
    with pytest.raises(kind) as caught:
        ResNet.from_pretrained(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# There and back


@pytest.mark.parametrize(
    "architecture",
    [
        SMALL,
        replace(SMALL, form="plain"),
        replace(SMALL, form="preact"),
        replace(SMALL, form="preact", entry="own", stem="imagenet"),
        replace(SMALL, shortcut="A", zeros="end"),
        replace(SMALL, block="bottleneck", shortcut="C", stride_in="1x1"),
        replace(SMALL, block="bottleneck", groups=2, group_width=16, in_channels=4),
        "cifar_resnet20",
        replace(SMALL, stem="deep", shortcut="D", antialias="blur", attention="eca"),
        replace(SMALL, stem="deep_wide", stem_pool="convolution", attention="se", reduction=4),
    ],
)
def test_a_saved_net_comes_back_bit_for_bit(tmp_path, architecture):
    net = made(architecture)
    net.save_pretrained(tmp_path / "m")
    found = ResNet.from_pretrained(tmp_path / "m")
    assert found.architecture == net.architecture
    assert_equal_states(found, net)
    x = torch.randn(2, net.architecture.in_channels, 32, 32)
    # The same weights elsewhere in memory: where they are aligned otherwise, the last bits differ.
    torch.testing.assert_close(found(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_loaded_net_is_ready_for_evaluation_and_for_training(folder):
    net = ResNet.from_pretrained(str(folder))
    assert not any(module.training for module in net.modules())
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())
    assert {t.device.type for t in net.state_dict().values()} == {"cpu"}
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).digest()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()(IMAGES).sum().backward()
    optimizer.step()
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).digest() == before


def test_preprocessing_labels_and_provenance_travel_along(tmp_path):
    net = made()
    net.labels = LABELS
    net.preprocess = Preprocess(
        size=32, resize=36, interpolation="bicubic", mean=(0.0, 0.1, 0.2), std=(0.5, 0.5, 0.5)
    )
    provenance = Provenance(
        source="a test",
        recipe={"seed": 1},
        scores=(Score(data="d", top1=0.5, top5=0.75, n=8),),
        licence="Apache-2.0",
    )
    written = net.save_pretrained(tmp_path / "m", provenance=provenance)
    found = ResNet.from_pretrained(tmp_path / "m")
    assert (found.preprocess, found.labels) == (net.preprocess, LABELS)
    assert found.preprocess(torch.zeros(3, 50, 40, dtype=torch.uint8)).shape == (3, 32, 32)
    card = read_card(tmp_path / "m")
    assert card == written
    digest = hashlib.sha256((tmp_path / "m" / "model.safetensors").read_bytes()).hexdigest()
    assert card.provenance == replace(provenance, sha256=digest, version=__version__)


def test_a_model_folder_holds_weights_card_and_readme_for_all_to_read(folder):
    names = {path.name: path.stat().st_mode & 0o444 for path in folder.iterdir()}
    assert names == dict.fromkeys(["model.safetensors", "config.json", "README.md"], 0o444)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert stored.keys() == made().state_dict().keys()
    assert "# a 8-layer net" in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_channels_last_net_comes_back_bit_for_bit(tmp_path):
    net = made().to(memory_format=torch.channels_last)
    net.save_pretrained(tmp_path / "m")
    found = ResNet.from_pretrained(tmp_path / "m")
    assert_equal_states(found, net)
    assert all(tensor.is_contiguous() for tensor in found.state_dict().values())
    torch.testing.assert_close(found(IMAGES), net(IMAGES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_stay_small_and_load_as_float32(tmp_path, dtype):
    net = made().to(dtype)
    net.save_pretrained(tmp_path / "m")
    stored = safetensors.torch.load_file(tmp_path / "m" / "model.safetensors")
    assert stored["conv1.weight"].dtype == dtype
    found = ResNet.from_pretrained(tmp_path / "m")
    assert_equal_states(found, net.float())
    assert found(IMAGES).dtype == torch.float32


def test_a_compiled_net_is_saved_under_clean_names(tmp_path):
    net = made()
    net.compile(backend="eager")
    expected = net(IMAGES)
    for number, saved in enumerate((net, torch.compile(made(), backend="eager"))):
        saved.save_pretrained(tmp_path / f"m{number}")
        torch.testing.assert_close(
            ResNet.from_pretrained(tmp_path / f"m{number}")(IMAGES), expected
        )


def test_a_net_can_be_saved_over_the_folder_it_was_loaded_from(folder):
    net = ResNet.from_pretrained(folder)
    with torch.no_grad():
        net.fc.bias.add_(1)
    net.save_pretrained(folder)
    assert_equal_states(ResNet.from_pretrained(folder), net)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_earlier_folder(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    provenance = Provenance(recipe={"lr": float("nan")})  # fails after the weights are written
    with pytest.raises(InvalidSetting, match="cannot hold this"):
        made().save_pretrained(folder, provenance=provenance)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["package.json", "config.json"])
def test_a_folder_of_other_things_is_not_written_over(tmp_path, name):
    (tmp_path / name).write_text("{}")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidSetting, match="holds other things"):
        made().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "thesis.tex"])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_net_that_diverged_is_not_saved(folder, number, dtype):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    net = made().to(dtype)
    with torch.no_grad():
        net.layer1[0].bn1.weight[3] = number
        net.layer2[0].bn1.running_var[0] = number
    with pytest.raises(Diverged) as caught:
        net.save_pretrained(folder, provenance=Provenance(source="run runs/1"))
    assert str(caught.value) == (
        f"{folder}: not written, numbers of layer1.0.bn1.weight, layer2.0.bn1.running_var are not "
        "finite (has the training diverged?); they are of run runs/1"
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_numbers_that_single_precision_cannot_hold_are_not_saved(tmp_path):
    net = made().double()
    with torch.no_grad():
        net.fc.bias[0] = 1e300  # reading casts it
    with pytest.raises(Diverged, match=r"numbers of fc\.bias are not finite"):
        net.save_pretrained(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_variances_below_0_are_not_saved(tmp_path):
    net = made()
    net.layer2[0].bn1.running_var[0] = -1e-3
    with pytest.raises(Diverged, match=r"layer2\.0\.bn1\.running_var holds variances below 0"):
        net.save_pretrained(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_of_a_wholly_diverged_net_the_first_tensors_are_named(tmp_path):
    net = made()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"conv1\.weight, bn1\.weight, .* and \d+ more are not"):
        net.save_pretrained(tmp_path / "m")


def test_layers_that_share_their_weights_are_saved(tmp_path):
    net = made()
    net.layer1[0].bn2.weight = net.layer1[0].bn1.weight
    net.save_pretrained(tmp_path / "m")
    assert_equal_states(ResNet.from_pretrained(tmp_path / "m"), net)


@pytest.mark.parametrize(
    ("layer", "new"), [("fc", nn.Linear(32, 7)), ("fc", nn.Identity()), ("relu", nn.PReLU())]
)
def test_a_net_with_replaced_layers_is_not_saved_as_what_it_is_not(tmp_path, layer, new):
    net = made()
    setattr(net, layer, new)
    with pytest.raises(InvalidSetting, match=rf"not written, {layer}\..* not the architecture's"):
        net.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


# Another head, other channels


def test_another_class_count_gives_a_fresh_head_and_says_so(folder, caplog):
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        net = ResNet.from_pretrained(folder, classes=7)
    assert net(IMAGES).shape == (2, 7)
    assert (net.architecture.classes, net.labels) == (7, None)
    assert "fresh head for 7 classes (the file has 10)" in caplog.text
    own, new = ResNet.from_pretrained(folder).state_dict(), net.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in own if not name.startswith("fc."))
    assert float(net.fc.weight.detach().std()) > 0


@pytest.mark.parametrize("classes", ["ant", [1, 2], b"ab"])
def test_classes_are_a_number_or_names(folder, classes):
    with pytest.raises(InvalidSetting, match="is neither a number nor a list of names"):
        ResNet.from_pretrained(folder, classes=classes)


def test_as_many_classes_of_other_names_give_a_fresh_head(folder, caplog):
    net = ResNet.from_pretrained(folder, classes=list("klmnopqrst"))
    assert "fresh head for 10 classes (the file has others)" in caplog.text
    assert net.labels == tuple("klmnopqrst")
    assert not torch.equal(net.fc.weight, made().fc.weight)


@pytest.mark.parametrize("classes", [None, 10, LABELS])
def test_a_head_for_as_many_classes_is_fresh_where_it_is_asked_for(folder, caplog, classes):
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        net = ResNet.from_pretrained(folder, classes=classes, fresh_head=True)
    assert "fresh head for 10 classes" in caplog.text
    assert net.labels == (LABELS if classes == LABELS else None)
    old = ResNet.from_pretrained(folder)
    assert not torch.equal(net.fc.weight, old.fc.weight)
    assert torch.equal(net.conv1.weight, old.conv1.weight)


def test_the_files_own_class_count_keeps_its_head(folder, caplog):
    net = ResNet.from_pretrained(folder, classes=10, in_channels=3)
    assert_equal_states(net, made())
    assert net.labels == LABELS
    assert not caplog.records


def test_a_fresh_head_can_be_saved_and_loaded(folder, tmp_path):
    net = ResNet.from_pretrained(folder, classes=7)
    net.save_pretrained(tmp_path / "seven")
    assert_equal_states(ResNet.from_pretrained(tmp_path / "seven"), net)


@pytest.mark.fault("L6")
def test_a_head_unlike_the_card_is_one_line_whose_remedy_works(folder):
    edit(folder, classes=3, labels=None)
    message = refusal(WeightsMismatch, folder)
    assert message == (
        f"{folder}/model.safetensors: 10 classes in the file, 3 asked; "
        "pass classes=3 for a fresh head"
    )
    assert ResNet.from_pretrained(folder, classes=3)(IMAGES).shape == (2, 3)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_other_image_channels_respond_alike_to_equal_channels(folder, caplog, channels):
    net, own = (ResNet.from_pretrained(folder, in_channels=c) for c in (channels, 3))
    grey = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(
        net(grey.expand(2, channels, 16, 16)), own(grey.expand(2, 3, 16, 16)), rtol=1e-4, atol=1e-4
    )
    assert f"first convolution adapted from 3 to {channels} image channels" in caplog.text
    assert net.preprocess.channels == channels
    assert net.labels == LABELS
    pixels = torch.zeros(channels, 32, 32, dtype=torch.uint8)
    assert net(net.preprocess(pixels)[None]).shape == (1, 10)


@pytest.mark.parametrize("channels", [1, 4])
def test_so_they_do_where_the_first_convolution_is_one_of_three(tmp_path, caplog, channels):
    made(replace(SMALL, stem="deep")).save_pretrained(tmp_path / "m")
    net, own = (ResNet.from_pretrained(tmp_path / "m", in_channels=c) for c in (channels, 3))
    assert net.conv1[0].weight.shape[1] == channels
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(
        net(grey.expand(2, channels, 32, 32)), own(grey.expand(2, 3, 32, 32)), rtol=1e-4, atol=1e-4
    )
    assert f"first convolution adapted from 3 to {channels} image channels" in caplog.text


def test_impossible_counts_are_refused(folder):
    assert "classes: 0" in refusal(InvalidSetting, folder, classes=0)
    assert "in_channels: -1" in refusal(InvalidSetting, folder, in_channels=-1)


# Tensors that do not fit


def edit(folder: Path, **changes: object) -> None:
    """Change the card: fields of the architecture, or labels."""
    content = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        (content if name == "labels" else content["architecture"])[name] = value
    (folder / "config.json").write_text(json.dumps(content))


def write_with(folder: Path, **changes: torch.Tensor | None) -> None:
    """Write the folder once more with some tensors changed, its digest right."""
    card, tensors, _ = read_model(folder)
    named = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: t.clone() for name, t in {**tensors, **named}.items() if t is not None}
    write_model(folder, card, kept)


def test_every_missing_unexpected_and_misshapen_tensor_is_named(folder):
    changes = {
        "bn1__bias": None,
        "layer9__weight": torch.zeros(1),
        "layer2__0__conv1__weight": torch.zeros(16, 8, 5, 5),
    }
    write_with(folder, **changes)
    message = refusal(WeightsMismatch, folder)
    assert message == (
        f"{folder}/model.safetensors: does not fit the net (missing: bn1.bias; "
        "unexpected: layer9.weight; "
        "of another shape: layer2.0.conv1.weight (16, 8, 5, 5) for (16, 8, 3, 3))"
    )


def test_weights_of_a_deeper_net_are_refused(folder):
    edit(folder, depths=[2, 1, 1])
    assert "missing: layer1.1.conv1.weight" in refusal(WeightsMismatch, folder)
    edit(folder, depths=[1, 1])
    assert "unexpected: layer3.0" in refusal(WeightsMismatch, folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fc__weight": torch.tensor(1.0)}, "fc.weight"),
        ({"fc__weight": None}, "missing: fc.weight"),
        ({"conv1__weight": torch.zeros(3)}, "conv1.weight (3,)"),
        ({"conv1__weight": torch.zeros(8, 0, 3, 3)}, "conv1.weight (8, 0, 3, 3)"),
        ({"conv1__weight": None}, "missing: conv1.weight"),
        ({"layer1__0__conv1__weight": torch.zeros(8, 8, 3, 3).int()}, "no plain floating numbers"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"classes": 3}, {"in_channels": 1}])
def test_odd_tensors_are_named_whatever_is_asked(folder, changes, words, options):
    write_with(folder, **changes)
    assert words in refusal(WeightsMismatch, folder, **options)


def test_a_missing_step_counter_begins_at_zero(folder):
    write_with(folder, bn1__num_batches_tracked=None)
    assert int(ResNet.from_pretrained(folder).bn1.num_batches_tracked) == 0


# Files that are damaged


@pytest.mark.fault("L1")
@pytest.mark.fault("L2")
def test_a_damaged_weights_file_is_refused_and_named(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    damaged = {
        "empty": b"",
        "HTML": b"<!DOCTYPE html><html></html>",
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "longer": whole + b"\0",
    }
    for kept in (1, 8, 100, len(whole) // 2, len(whole) - 1):
        damaged[f"cut to {kept}"] = whole[:kept]
    for position in (0, 8, 30, *range(2000, len(whole), len(whole) // 20), len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        damaged[f"flipped at {position}"] = bytes(flipped)
    for data in damaged.values():
        weights.write_bytes(data)
        message = refusal(CorruptFile, folder)
        assert message.startswith(f"{weights}: damaged (SHA-256 ")
        assert message.endswith("fetch or export it again")
    weights.write_bytes(whole)
    assert_equal_states(ResNet.from_pretrained(folder), made())


def test_a_missing_weights_file_is_named(folder):
    (folder / "model.safetensors").unlink()
    message = refusal(CorruptFile, folder)
    assert message == f"{folder}/model.safetensors: the weights file is missing"


def test_a_card_of_other_weights_is_found_by_the_digest(folder, tmp_path):
    fill(ResNet(SMALL), seed=1).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "config.json", folder)
    assert "damaged (SHA-256" in refusal(CorruptFile, folder)


def test_a_damaged_card_is_named(folder):
    (folder / "config.json").write_text("{")
    assert refusal(CorruptFile, folder).startswith(f"{folder}/config.json: not a card")
    (folder / "config.json").unlink()
    assert refusal(CorruptFile, folder).startswith(f"{folder}: no model folder")


# Names and paths


@pytest.mark.parametrize("form", ["absolute", "relative", "bare", "home", "Path", "link"])
def test_a_folder_is_found_however_it_is_written(folder, monkeypatch, form):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    if form == "link":
        Path("link").symlink_to("model")
    source = {
        "absolute": str(folder),
        "relative": "./model",
        "bare": "model",
        "home": "~/model",
        "Path": folder,
        "link": "link",
    }[form]
    assert_equal_states(ResNet.from_pretrained(source), made())


def test_a_folder_under_the_home_folder_is_written_there(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made().save_pretrained("~/saved")
    card, tensors, _ = read_model(folder)
    write_model("~/written", card, tensors)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "saved", "written"}
    for name in ("saved", "written"):
        assert_equal_states(ResNet.from_pretrained(tmp_path / name), made())


def test_a_home_that_is_not_there_is_refused_and_nothing_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSetting, match=r"^~no-such-user/x: there is no home of a user"):
        made().save_pretrained("~no-such-user/x")
    assert list(tmp_path.iterdir()) == []


def test_labels_and_folders_that_are_no_text_are_saved_and_loaded(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    net = made()
    net.labels = (odd, "\x1b[31mred", *LABELS[2:])
    net.save_pretrained(tmp_path / odd, provenance=Provenance(source=f"checkpoint {odd}"))
    assert ResNet.from_pretrained(tmp_path / odd).labels == net.labels
    assert read_card(tmp_path / odd).provenance.source == f"checkpoint {odd}"


@pytest.mark.fault("W7")
@pytest.mark.parametrize("name", ["é ü", "a::b", "{x}", "a'b\"c", "new\nline", "-m"])
def test_odd_folder_names_work(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    made().save_pretrained(name)
    assert_equal_states(ResNet.from_pretrained(name), made())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.fault("L7")
@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("./nothing", DataMissing, "'nothing': no such folder"),
        ("/nothing/here", DataMissing, "no such folder"),
        ("~/nothing", DataMissing, "no such folder"),
        ("~nobody-of-this-name/x", InvalidSetting, "there is no home of a user 'nobody-of-"),
        (Path("nothing"), DataMissing, "no such folder"),
        ("../a\nb", DataMissing, "no such folder"),
        ("./" + "n" * 5000, DataMissing, "no such folder"),
        ("cifar_resnet56", DataMissing, "no published weights"),
        ("cifar_resnet57", UnknownName, "did you mean 'cifar_resnet56'"),
        ("a/../b", InvalidSetting, "'a/../b': no Hub repository is called so"),
        ("a\0b", UnknownName, "neither a folder here nor the name of weights"),
        ("a\nb", UnknownName, "neither a folder here nor the name of weights"),
        ("n" * 5000, UnknownName, "neither a folder here nor the name of weights"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(tmp_path, monkeypatch, source, kind, words):
    monkeypatch.chdir(tmp_path)
    assert words in refusal(kind, source)


def test_a_file_is_no_model_folder(folder):
    with pytest.raises(DataMissing):
        resolve(folder / "config.json")
