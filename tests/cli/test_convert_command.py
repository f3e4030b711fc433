"""``convert``: checkpoints of others into model folders, and back."""

import pickle
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from disks import small_disk
from PIL import Image
from reference_nets import akamaster, fill
from safetensors.torch import load_file
from small_runs import command, fit, refusal

from resnet_hub.evaluation import parity
from resnet_hub.learning.saving.checkpoints import numbered
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import convert
from resnet_hub.weights.card import read_card
from resnet_hub.weights.peers import from_resnetv2

SMALL = "cifar_resnet20"


@pytest.fixture
def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(library: str) -> str:
        if library == "timm":
            raise PackageNotFoundError(library)
        return version(library)

    monkeypatch.setattr(parity, "version", found)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders, each called as its net."""
    root = tmp_path_factory.mktemp("models")
    for name in ("resnet18", "resnetv2_18"):
        fill(ResNet(name, classes=5)).save_pretrained(root / name)
    return root


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_convert_gives_a_published_cifar_checkpoint_its_names_labels_and_preprocessing(
    tmp_path: Path, capsys
):
    torch.manual_seed(0)
    net = ResNet("cifar_resnet20").eval()
    torch.save({"state_dict": akamaster(net), "best_prec1": 91.7}, tmp_path / "resnet20.th")
    arguments = ("--net", "cifar_resnet20", "--licence", "BSD-2-Clause")
    assert command("convert", tmp_path / "resnet20.th", tmp_path / "out", *arguments) == 0
    assert "akamaster/pytorch_resnet_cifar10" in capsys.readouterr().out
    found, card = ResNet.from_pretrained(tmp_path / "out"), read_card(tmp_path / "out")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(found(images), net(images))
    assert found.labels[:2] == ("airplane", "automobile")
    assert found.preprocess.mean == (0.485, 0.456, 0.406)
    assert found.preprocess.std == (0.229, 0.224, 0.225)
    assert card.provenance.licence == "BSD-2-Clause"
    assert "resnet20.th (akamaster" in card.provenance.source
    assert "SHA-256" in card.provenance.source


def test_convert_takes_torchvisions_names_and_the_files_number_of_classes(tmp_path: Path):
    net = ResNet("cifar_resnet20", classes=7)
    torch.save(net.state_dict(), tmp_path / "own.pth")
    arguments = (tmp_path / "own.pth", tmp_path / "out", "--net=cifar_resnet20")
    assert command("convert", *arguments) == 0
    assert ResNet.from_pretrained(tmp_path / "out").architecture.classes == 7


@pytest.mark.fault("L4")
@pytest.mark.parametrize("name", ["bomb.pth", "bomb.ckpt", "bomb.th", "plain.pkl"])
def test_convert_never_runs_a_checkpoints_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, name: str
):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark, path = tmp_path / "mark", tmp_path / name
    content = {**akamaster(ResNet("cifar_resnet20")), "x": Bomb(mark)}
    if name == "plain.pkl":
        path.write_bytes(pickle.dumps({"x": Bomb(mark)}))
    else:
        torch.save(content, path)
    message = refusal(capsys, "convert", path, tmp_path / "out", "--net=cifar_resnet20")
    assert message.startswith(f"{path}: ")
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_convert_refuses_in_one_line_and_writes_nothing(tmp_path: Path, capsys):
    three, cut = tmp_path / "three.th", tmp_path / "cut.th"
    torch.save(akamaster(ResNet("cifar_resnet20", classes=3)), three)
    cut.write_bytes(three.read_bytes()[:-5000])
    torch.save({"epoch": 3}, tmp_path / "empty.th")
    (tmp_path / "page.th").write_text("<html>not found</html>")
    for name, net, message in (
        ("three.th", "cifar_resnet21", "no net is called 'cifar_resnet21'; did you mean"),
        ("three.th", "cifar_resnet32", "three.th: does not fit the net (missing: layer1.3."),
        ("cut.th", "cifar_resnet20", "cut.th: "),
        ("empty.th", "cifar_resnet20", "empty.th: holds no state dict"),
        ("page.th", "cifar_resnet20", "page.th: "),
        ("nothing.th", "cifar_resnet20", "nothing.th: no such file"),
        ("", "cifar_resnet20", "a folder; `resnet-hub export` makes a model of"),
    ):
        found = refusal(capsys, "convert", tmp_path / name, tmp_path / "out", "--net", net)
        assert message in found
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["linear.weight", "fc.weight", "head.fc.weight"])
def test_a_head_that_is_one_number_is_refused_by_its_shape(tmp_path: Path, capsys, name: str):
    net = ResNet("cifar_resnet20")
    state = {n: t for n, t in net.state_dict().items() if n != "fc.weight"}
    torch.save({**state, name: torch.tensor(1.0)}, tmp_path / "a.th")
    message = refusal(capsys, "convert", tmp_path / "a.th", tmp_path / "out", f"--net={SMALL}")
    assert message.startswith(f"{tmp_path}/a.th: ")
    assert "fc.weight" in message


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (torch.zeros(1, 64).expand(10**7, 64), "fc.weight is no plain tensor (640,000,000 numbers"),
        (torch.zeros(1, 64).expand(10**6, 64), "fc.weight is no plain tensor (64,000,000 numbers"),
        (torch.zeros(1_000_001, 0), "holds no cifar_resnet20 (classes: 1000001 is not a whole"),
        (torch.zeros(0, 64), "holds no cifar_resnet20 (classes: 0 is not a whole"),
        (torch.zeros(1_000_000, 0), "fc.weight (1000000, 0) for (1000000, 64)"),
    ],
)
def test_a_head_of_absurdly_many_classes_is_refused_before_it_takes_memory(
    tmp_path: Path, capsys, head: torch.Tensor, words: str
):
    state = {**ResNet("cifar_resnet20").state_dict(), "fc.weight": head}
    torch.save(state, tmp_path / "a.th")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(capsys, "convert", tmp_path / "a.th", tmp_path / "out", f"--net={SMALL}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    assert message.startswith(f"{tmp_path}/a.th: ")
    assert words in message
    assert not (tmp_path / "out").exists()


def test_convert_refuses_what_diverged_and_names_the_file(tmp_path: Path, capsys):
    state = ResNet("cifar_resnet20").state_dict()
    state["layer1.0.bn1.weight"][0] = float("nan")
    torch.save(state, tmp_path / "a.th")
    message = refusal(capsys, "convert", tmp_path / "a.th", tmp_path / "out", f"--net={SMALL}")
    assert "numbers of layer1.0.bn1.weight are not finite" in message
    assert "a.th" in message
    assert not (tmp_path / "out").exists()


def test_convert_of_our_own_checkpoint_leads_to_export(tmp_path: Path, capsys):
    _, last = numbered(fit(tmp_path / "run") / "checkpoints", "step")[0]
    message = refusal(capsys, "convert", last, tmp_path / "out", f"--net={SMALL}")
    assert message.startswith(f"{last}: ")
    assert "`resnet-hub export`" in message


def test_convert_takes_tied_weights(tmp_path: Path):
    state = ResNet("cifar_resnet20").state_dict()
    state["bn1.bias"] = state["bn1.running_mean"]
    torch.save(state, tmp_path / "a.th")
    assert command("convert", tmp_path / "a.th", tmp_path / "out", f"--net={SMALL}") == 0
    found = ResNet.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_licence_that_is_more_than_a_name_is_refused_before_anything_is_read(
    tmp_path: Path, capsys
):
    flags = (f"--net={SMALL}", "--licence", "x\nlicense: mit")
    message = refusal(capsys, "convert", tmp_path / "nothing.th", tmp_path / "out", *flags)
    assert message.startswith(r"licence: 'x\nlicense: mit' is no SPDX name")
    flags = (f"--net={SMALL}", "--licence", "not a licence")
    message = refusal(capsys, "convert", tmp_path / "nothing.th", tmp_path / "out", *flags)
    assert message.startswith("licence: 'not a licence' is no SPDX name or expression")


def test_a_licence_is_written_as_spdx_does(tmp_path: Path):
    torch.save(akamaster(ResNet(SMALL)), tmp_path / "a.th")
    flags = (f"--net={SMALL}", "--licence=mit or apache-2.0")
    assert command("convert", tmp_path / "a.th", tmp_path / "out", *flags) == 0
    assert read_card(tmp_path / "out").provenance.licence == "MIT OR Apache-2.0"


def test_convert_does_not_replace_what_is_no_model(tmp_path: Path, capsys):
    torch.save(akamaster(ResNet("cifar_resnet20")), tmp_path / "a.th")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("all of it")
    arguments = ("convert", tmp_path / "a.th", tmp_path / "mine", "--net=cifar_resnet20")
    assert "holds other things" in refusal(capsys, *arguments)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


# Parity: theirs into ours


def net_of(library: str, name: str) -> torch.nn.Module:
    build = torchvision.models.get_model if library == "torchvision" else timm.create_model
    return fill(build(name, num_classes=5))


@pytest.mark.parametrize(
    ("library", "name", "form"),
    [
        ("torchvision", "resnet18", "torchvision's names"),
        ("timm", "resnetv2_18", "timm resnetv2"),
    ],
)
def test_parity_with_the_net_a_checkpoint_is_of_is_printed_and_kept_in_the_card(
    tmp_path: Path, capsys, library: str, name: str, form: str
):
    torch.save(net_of(library, name).state_dict(), tmp_path / "theirs.pth")
    assert command("convert", tmp_path / "theirs.pth", tmp_path / "out", "--net", name) == 0
    found = read_card(tmp_path / "out").provenance.parity
    assert found.against == f"{library} {version(library)}'s {name}, on noise"
    assert 0 <= found.largest < 0.1  # the logits of these weights are in the thousands
    assert found.n == 2
    assert capsys.readouterr().out == f"{tmp_path}/out: {name}, {form}, {found}\n"
    assert str(found) in (tmp_path / "out" / "README.md").read_text()


def test_parity_is_on_pictures_where_some_are_given(tmp_path: Path):
    torch.save(net_of("torchvision", "resnet18").state_dict(), tmp_path / "theirs.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    pictures = sorted(tmp_path.glob("*.png"))
    arguments = (tmp_path / "theirs.pth", tmp_path / "out", "--net=resnet18", "--image")
    assert command("convert", *arguments, *pictures) == 0
    found = read_card(tmp_path / "out").provenance.parity
    assert found.against.endswith("'s resnet18, on pictures")
    assert found.n == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_cifar_checkpoint_is_compared_with_the_papers_equations(
    tmp_path: Path, capsys, dtype: torch.dtype
):
    torch.save(akamaster(fill(ResNet(SMALL)).to(dtype)), tmp_path / "a.th")
    assert command("convert", tmp_path / "a.th", tmp_path / "out", f"--net={SMALL}") == 0
    found = read_card(tmp_path / "out").provenance.parity
    assert found.against == "the equations of 1512.03385 on the file's tensors, on noise"
    assert 0 < found.largest < 1e-4
    assert str(found) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cifar_plain20", "cifar_resnet164"])
def test_a_form_that_nothing_else_computes_is_converted_and_said_not_to_be_proven(
    tmp_path: Path, capsys, name: str
):
    torch.save(akamaster(ResNet(name)), tmp_path / "a.th")
    assert command("convert", tmp_path / "a.th", tmp_path / "out", f"--net={name}") == 0
    assert "parity not proven (no library here builds this net" in capsys.readouterr().out
    assert read_card(tmp_path / "out").provenance.parity is None


def test_without_the_library_nothing_is_said_to_be_proven(
    tmp_path: Path, capsys, without_timm: None
):
    torch.save(net_of("timm", "resnetv2_18").state_dict(), tmp_path / "a.pth")
    assert command("convert", tmp_path / "a.pth", tmp_path / "out", "--net=resnetv2_18") == 0
    assert "parity not proven" in capsys.readouterr().out
    assert read_card(tmp_path / "out").provenance.parity is None


def test_a_conversion_that_gives_another_function_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def confused(name: str, *, pooled: bool) -> str:
        swapped = {"bn1": "bn2", "bn2": "bn1"}
        parts = from_resnetv2(name, pooled=pooled).split(".")
        return ".".join(swapped.get(p, p) if parts[:2] == ["layer3", "1"] else p for p in parts)

    monkeypatch.setattr(convert, "from_resnetv2", confused)
    torch.save(net_of("timm", "resnetv2_18").state_dict(), tmp_path / "a.pth")
    arguments = (tmp_path / "a.pth", tmp_path / "out", "--net=resnetv2_18")
    message = refusal(capsys, "convert", *arguments)
    assert message.startswith(f"{tmp_path}/a.pth: nothing is written, logits of up to ")
    assert f"from timm {version('timm')}'s resnetv2_18, which is another function" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("L3")
@pytest.mark.parametrize("number", [float("nan"), 3e38])
def test_weights_that_diverged_are_refused_by_their_file(tmp_path: Path, capsys, number: float):
    state = net_of("torchvision", "resnet18").state_dict()
    state["fc.weight"][0] = number
    torch.save(state, tmp_path / "a.pth")
    message = refusal(capsys, "convert", tmp_path / "a.pth", tmp_path / "o", "--net=resnet18")
    assert message.startswith(f"{tmp_path}/a.pth: nothing is written, the net's logits are not")
    assert not (tmp_path / "o").exists()


# Ours into theirs


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("library", "name"),
    [("torchvision", "resnet18"), ("timm", "resnet18"), ("timm", "resnetv2_18")],
)
def test_a_model_becomes_a_librarys_state_dict_and_comes_back_bit_for_bit(
    folders: Path, tmp_path: Path, capsys, library: str, name: str, suffix: str
):
    path = tmp_path / f"theirs{suffix}"
    assert command("convert", folders / name, path, "--to", library) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: {name} for {library}, logits differ by ")
    assert out.endswith(f" at most from {library} {version(library)}'s {name}, on noise (n = 2)\n")
    ours = ResNet.from_pretrained(folders / name)
    read = load_file if suffix == ".safetensors" else torch.load
    theirs = net_of(library, name)
    theirs.load_state_dict(read(path), strict=True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = ours(x)
        torch.testing.assert_close(
            theirs.eval()(x), expected, rtol=1e-4, atol=1e-4 * expected.std()
        )
    assert path.stat().st_size < 1.05 * (folders / name / "model.safetensors").stat().st_size
    assert command("convert", path, tmp_path / "back", "--net", name) == 0
    back = ResNet.from_pretrained(tmp_path / "back").state_dict()
    assert list(back) == list(ours.state_dict())
    assert all(torch.equal(back[key], tensor) for key, tensor in ours.state_dict().items())


def test_without_the_library_a_model_is_converted_and_said_not_to_be_proven(
    folders: Path, tmp_path: Path, capsys, without_timm: None
):
    path = tmp_path / "theirs.pth"
    assert command("convert", folders / "resnetv2_18", path, "--to=timm") == 0
    assert "parity not proven (timm is not installed)" in capsys.readouterr().out
    timm.create_model("resnetv2_18", num_classes=5).load_state_dict(torch.load(path))


def test_a_disk_that_is_full_is_one_line(folders: Path, tmp_path: Path, capsys):
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        (disk / "a.pth").write_bytes(b"older")
        message = refusal(capsys, "convert", folders / "resnet18", disk / "a.pth", "--to=timm")
        assert message == (
            f"{disk}/a.pth: could not be written (No space left on device); what was there is "
            "intact"
        )
        assert [path.read_bytes() for path in disk.iterdir()] == [b"older"]


def test_nets_and_files_that_a_library_does_not_have_are_refused(
    folders: Path, tmp_path: Path, capsys
):
    ResNet(SMALL).save_pretrained(tmp_path / "small")
    ResNet("resnet18", in_channels=1).save_pretrained(tmp_path / "grey")
    for source, name, flags, words in (
        (tmp_path / "small", "a.pth", ["--to=timm"], "timm has no cifar_resnet20 of 3 image"),
        (folders / "resnetv2_18", "a.pth", ["--to=torchvision"], "torchvision has no resnetv2_18"),
        (tmp_path / "grey", "a.pth", ["--to=torchvision"], "has no resnet18 of 1 image channels"),
        (folders / "resnet18", "a.onnx", ["--to=timm"], "a.onnx: a checkpoint's name ends in"),
        (folders / "resnet18", "a.pth", ["--to=keras"], "invalid choice: 'keras'"),
        (folders / "resnet18", "a.pth", ["--to=timm", "--licence=MIT"], "--licence: goes with"),
        (folders / "resnet18", "a.pth", ["--to=timm", "--net=resnet18"], "not allowed with"),
        (folders / "resnet18", "a.pth", [], "one of the arguments --net --to is required"),
    ):
        assert words in refusal(capsys, "convert", source, tmp_path / name, *flags)
        assert not (tmp_path / name).exists()


def test_grey_nets_are_timms_too(tmp_path: Path, capsys):
    fill(ResNet("resnet18", in_channels=1)).save_pretrained(tmp_path / "grey")
    assert command("convert", tmp_path / "grey", tmp_path / "a.pth", "--to=timm") == 0
    assert "'s resnet18, on noise" in capsys.readouterr().out
    net = timm.create_model("resnet18", in_chans=1)
    net.load_state_dict(torch.load(tmp_path / "a.pth"), strict=True)


def test_a_file_that_cannot_be_written_is_named_and_what_was_there_stays(
    folders: Path, tmp_path: Path, capsys
):
    (tmp_path / "a.pth").mkdir()
    arguments = (folders / "resnet18", tmp_path / "a.pth", "--to=torchvision")
    assert "a.pth: could not be written" in refusal(capsys, "convert", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
