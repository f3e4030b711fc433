"""``export``: runs, checkpoints and model folders into what others run."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from reference_nets import fill
from small_runs import checkpoint, command, fit, refusal

from resnet_hub.architecture import Architecture
from resnet_hub.learning.saving.checkpoints import numbered, write_checkpoint
from resnet_hub.nets import exporting
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache

TINY = Architecture(depths=(1, 1), block="basic", stem="cifar", shortcut="A", width=8, classes=4)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("runs") / "run", "--trainer.limit_train_batches=39")


def test_export_writes_the_model_of_a_run_or_a_checkpoint(run: Path, tmp_path: Path, capsys):
    assert command("export", run, tmp_path / "one") == 0
    assert "cifar_resnet20, run " in capsys.readouterr().out
    _, last = numbered(run / "checkpoints", "step")[0]
    assert command("export", last, tmp_path / "two") == 0
    assert f"checkpoint {last}" in capsys.readouterr().out
    for name in ("one", "two"):
        assert ResNet.from_pretrained(tmp_path / name).labels == tuple("0123456789")


def test_export_refuses_in_one_line_and_writes_nothing(run: Path, tmp_path: Path, capsys):
    mark, bomb, other = tmp_path / "mark", tmp_path / "bomb.ckpt", tmp_path / "other"
    torch.save({"state_dict": {}, "x": Bomb(mark)}, bomb)
    write_checkpoint(other, {"state_dict": checkpoint(run)["state_dict"], "global_step": 3})
    for source, message in (
        (tmp_path / "nothing", "no run"),
        (tmp_path, "no run"),
        (bomb, "a file, and a run's checkpoints are folders; `resnet-hub convert` reads what"),
        (other, "does not say what net it holds; try `resnet-hub convert`"),
        (run / "metrics.csv", "a file, and a run's checkpoints are folders"),
    ):
        found = refusal(capsys, "export", source, tmp_path / "out")
        assert found.startswith(f"{source}: ")
        assert message in found
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = fill(ResNet(TINY))
    net.labels = ("a", "b", "c", "d")
    net.save_pretrained(path := tmp_path_factory.mktemp("models") / "model")
    return path


def outputs(path: Path, images: torch.Tensor) -> torch.Tensor:
    """Run an exported file as its users do: without this package."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    return torch.export.load(io.BytesIO(path.read_bytes())).module()(images)


def assert_equal_logits(path: Path, net: ResNet, counts: tuple[int, ...] = (1, 2, 5)) -> None:
    for count in counts:
        images = torch.randn(count, 3, net.preprocess.size, net.preprocess.size)
        with torch.inference_mode():
            expected = net(images)
        found = outputs(path, images).detach()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


FORMS = pytest.mark.parametrize(
    ("form", "name", "runtime"),
    [("onnx", "net.onnx", "onnxruntime"), ("torch-export", "net.pt2", "torch")],
)


@FORMS
def test_an_exported_file_gives_the_nets_logits_for_any_number_of_images(
    folder: Path, tmp_path: Path, capfd, form: str, name: str, runtime: str
):
    path = tmp_path / name
    assert command("export", folder, path, "--format", form) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{path}: {form}, logits differ by ")
    assert f" at most from {form} by {runtime} " in out
    assert out.endswith("on noise (n = 2)\n")
    assert (out.count("\n"), err) == (1, "")
    assert_equal_logits(path, ResNet.from_pretrained(folder))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@FORMS
def test_a_run_and_its_checkpoint_are_exported_too(
    run: Path, tmp_path: Path, form: str, name: str, runtime: str
):
    net = ResNet.from_pretrained(run / "model")
    images = torch.randn(3, *net.preprocess(Image.new("L", (8, 8))).shape)
    for source in (run, numbered(run / "checkpoints", "step")[0][1]):
        assert command("export", source, tmp_path / name, "--format", form) == 0
        found = outputs(tmp_path / name, images).detach()
        assert found.shape == (3, 10)
        if source == run:
            torch.testing.assert_close(found, net(images).detach(), rtol=1e-4, atol=1e-4)


@FORMS
def test_parity_is_measured_on_pictures_where_some_are_given(
    folder: Path, tmp_path: Path, capsys, form: str, name: str, runtime: str
):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    pictures = sorted(tmp_path.glob("*.png"))
    arguments = (folder, tmp_path / name, "--format", form, "--image", *pictures)
    assert command("export", *arguments) == 0
    assert capsys.readouterr().out.endswith("on pictures (n = 3)\n")
    missing = (*arguments[:-1], tmp_path / "no.png")
    assert "no.png" in refusal(capsys, "export", *missing)


@pytest.mark.data
@FORMS
@pytest.mark.parametrize("net", ["resnet18", "resnetv2_18"])
def test_parity_holds_on_real_pictures(
    real_data: Path, tmp_path: Path, capsys, net: str, form: str, name: str, runtime: str
):
    fill(ResNet(net)).save_pretrained(tmp_path / "model")
    pictures = sorted((real_data / "imagenet-sample" / "val").rglob("*.JPEG"))[:3]
    arguments = (tmp_path / "model", tmp_path / name, "--format", form, "--image", *pictures)
    assert command("export", *arguments) == 0
    assert capsys.readouterr().out.endswith("on pictures (n = 3)\n")
    assert_equal_logits(tmp_path / name, ResNet.from_pretrained(tmp_path / "model"), (1, 3))


def test_a_model_folder_is_exported_as_a_folder_again(folder: Path, tmp_path: Path):
    assert command("export", folder, tmp_path / "copy") == 0
    copy, net = (ResNet.from_pretrained(path) for path in (tmp_path / "copy", folder))
    assert copy.labels == net.labels
    assert all(torch.equal(copy.state_dict()[key], t) for key, t in net.state_dict().items())


@FORMS
def test_a_file_that_would_give_other_logits_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, monkeypatch, capsys, form: str, name: str, runtime: str
):
    write = exporting.find_exporter(form).write

    def broken(net: ResNet, *rest):
        net = fill(ResNet(net.architecture), seed=1)
        return write(net, *rest)

    exporter = replace(exporting.EXPORTERS[form], write=broken)
    monkeypatch.setattr(exporting, "EXPORTERS", {form: exporter})
    message = refusal(capsys, "export", folder, tmp_path / name, "--format", form)
    assert message.startswith(f"{folder}: nothing is written, logits of up to ")
    assert f"from {form} by {runtime} " in message
    assert not list(tmp_path.iterdir())


def test_without_its_packages_onnx_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    message = refusal(capsys, "export", folder, tmp_path / "a.onnx", "--format=onnx")
    assert message == (
        "onnx: needs onnx, onnxscript, onnxruntime; install with `pip install 'resnet-hub[onnx]'`"
    )
    assert command("export", folder, tmp_path / "a.pt2", "--format=torch-export") == 0


def test_what_does_not_go_together_is_refused(folder: Path, tmp_path: Path, capsys):
    (tmp_path / "taken.pt2").mkdir()
    for out, flags, words in (
        ("a", ["--image", "x.png"], "--image: goes with --format onnx or torch-export"),
        ("a", ["--format=tflite"], "invalid choice: 'tflite'"),
        ("a.pt2", ["--format=onnx"], "a.pt2: a name for onnx ends in .onnx"),
        ("a", ["--format=torch-export"], "a: a name for torch-export ends in .pt2"),
        ("taken.pt2", ["--format=torch-export"], "taken.pt2: could not be written"),
    ):
        assert words in refusal(capsys, "export", folder, tmp_path / out, *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.pt2"]


def test_published_weights_are_exported_by_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    net = fill(ResNet("resnet18"))
    net.save_pretrained(cache.published("resnet18.tv_v1"))
    path = tmp_path / "a.pt2"
    assert command("export", "resnet18.tv_v1", path, "--format=torch-export") == 0
    assert_equal_logits(path, net, (1,))
    message = refusal(capsys, "export", "resnet18.tv_v7", path, "--format=torch-export")
    assert "resnet18.tv_v7" in message


def test_the_card_travels_in_the_file(folder: Path, tmp_path: Path):
    net = ResNet.from_pretrained(folder)
    for form, name in (("onnx", "a.onnx"), ("torch-export", "a.pt2")):
        assert command("export", folder, tmp_path / name, "--format", form) == 0
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    extra = {"config.json": ""}
    torch.export.load(io.BytesIO((tmp_path / "a.pt2").read_bytes()), extra_files=extra)
    for text in (session.get_modelmeta().custom_metadata_map["config.json"], extra["config.json"]):
        content = json.loads(text)
        assert content["preprocess"] == net.preprocess.to_dict()
        assert content["labels"] == list("abcd")
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, 32, 32])
    assert (logits.name, logits.shape) == ("logits", ["batch", 4])
