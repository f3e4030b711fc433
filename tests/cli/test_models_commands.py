"""``predict``, ``export`` and ``convert``."""

import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_runs import checkpoint, command, fit, refusal

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card
from resnet_hub.weights.store import sha256_of, write_tensors

SMALL = "cifar_resnet20"


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


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def akamaster(net: ResNet) -> dict[str, torch.Tensor]:
    """A net's tensors as akamaster's checkpoints name them."""
    state = net.state_dict()
    return {
        f"module.{name.replace('fc.', 'linear.')}": tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


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


def test_predict_for_people_has_a_line_for_each_guess(run: Path, digit: Path, capsys):
    assert command("predict", run / "model", digit) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == str(digit)
    assert len(lines) == 5
    shares = [float(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)


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
    assert "no published weights" in refusal(capsys, "predict", "resnet50", digit)
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


def test_export_writes_the_model_of_a_run_or_a_checkpoint(run: Path, tmp_path: Path, capsys):
    assert command("export", run, tmp_path / "one") == 0
    assert "cifar_resnet20, run " in capsys.readouterr().out
    last = run / "checkpoints" / "last.ckpt"
    assert command("export", last, tmp_path / "two") == 0
    assert f"checkpoint {last}" in capsys.readouterr().out
    for name in ("one", "two"):
        assert ResNet.from_pretrained(tmp_path / name).labels == tuple("0123456789")


def test_export_refuses_in_one_line_and_writes_nothing(run: Path, tmp_path: Path, capsys):
    mark, bomb, other = tmp_path / "mark", tmp_path / "bomb.ckpt", tmp_path / "other.ckpt"
    torch.save({"state_dict": {}, "x": Bomb(mark)}, bomb)
    torch.save({"state_dict": checkpoint(run)["state_dict"]}, other)
    for source, message in (
        (tmp_path / "nothing", "no run"),
        (tmp_path, "no run"),
        (bomb, "not a checkpoint of a run"),
        (other, "does not say what net it holds; try `resnet-hub convert`"),
        (run / "metrics.csv", "not a checkpoint of a run"),
    ):
        found = refusal(capsys, "export", source, tmp_path / "out")
        assert found.startswith(f"{source}: ")
        assert message in found
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


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
        ("", "cifar_resnet20", "no such file"),
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


def test_convert_of_our_own_checkpoint_leads_to_export(run: Path, tmp_path: Path, capsys):
    last = run / "checkpoints/last.ckpt"
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


def test_convert_does_not_replace_what_is_no_model(tmp_path: Path, capsys):
    torch.save(akamaster(ResNet("cifar_resnet20")), tmp_path / "a.th")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("all of it")
    arguments = ("convert", tmp_path / "a.th", tmp_path / "mine", "--net=cifar_resnet20")
    assert "holds other things" in refusal(capsys, *arguments)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
