"""Foreign checkpoints: read without running their code, renamed, and told apart."""

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from disks import files_of_at_most
from reference_nets import akamaster, fill

from resnet_hub.errors import CorruptFile, InvalidSetting, ResNetHubError, WeightsMismatch
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from resnet_hub.weights.convert import convert, read_checkpoint, write_checkpoint
from resnet_hub.weights.match import matched
from resnet_hub.weights.store import write_tensors
from resnet_hub.zoo import find_row

CHECKOUT = Path(__file__).parents[2]
RESNET20 = find_row("cifar_resnet20").architecture
TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def bomb_files(folder: Path, marker: Path) -> list[Path]:
    """Checkpoints that create ``marker`` where anything unpickles them freely."""
    contents = {
        "whole": Bomb(marker),
        "beside": {"state_dict": {"a": torch.zeros(1)}, "epoch": Bomb(marker)},
    }
    files = []
    for name, content in contents.items():
        for suffix, zipped in ((".pth", True), (".th", False)):
            files.append(folder / f"{name}{suffix}")
            torch.save(content, files[-1], _use_new_zipfile_serialization=zipped)
    files.append(folder / "plain.ckpt")
    files[-1].write_bytes(pickle.dumps(contents["whole"]))
    return files


def refusal(path: Path) -> str:
    with pytest.raises(CorruptFile) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_the_bomb_of_these_tests_is_live(tmp_path):
    for number, path in enumerate(bomb_files(tmp_path, tmp_path / "marker")[:4]):
        torch.load(path, weights_only=False)
        assert (tmp_path / "marker").is_dir(), number
        (tmp_path / "marker").rmdir()


@pytest.mark.fault("L4")
def test_code_in_a_checkpoint_is_never_run(tmp_path):
    for path in bomb_files(tmp_path, tmp_path / "marker"):
        assert "code in a checkpoint is never run" in refusal(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.fault("L4")
def test_not_even_where_the_environment_asks_torch_to_run_it(tmp_path):
    marker = tmp_path / "marker"
    files = [str(path) for path in bomb_files(tmp_path, marker)]
    code = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from pathlib import Path\n"
        "from resnet_hub.errors import CorruptFile\n"
        "from resnet_hub.weights.convert import read_checkpoint\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_checkpoint(Path(name))\n"
        "    except CorruptFile: print('refused')\n"
    )
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    process = subprocess.run(
        [sys.executable, "-c", code, *files],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.stdout.split() == ["refused"] * len(files), process.stderr
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3, "best_prec1": torch.tensor(91.7)},
        lambda tensors: {"model": tensors, "args": {"lr": 0.1}},
    ],
    ids=["top", "state_dict", "model"],
)
def test_a_state_dict_is_found_at_the_top_or_under_its_usual_names(tmp_path, wrap, zipped):
    path = tmp_path / "c.pth"
    torch.save(wrap(TENSORS), path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_a_safetensors_file_is_a_checkpoint_too(tmp_path):
    write_tensors(tmp_path / "c.safetensors", TENSORS)
    assert read_checkpoint(tmp_path / "c.safetensors").keys() == TENSORS.keys()
    (tmp_path / "c.safetensors").write_bytes(b"<html>")
    refusal(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 3}, {0: torch.zeros(1)}, [torch.zeros(1)], 3, {"state_dict": {"a": "b"}}],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    assert "holds no state dict" in refusal(tmp_path / "c.pth")


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "c.pth")


@pytest.mark.fault("L1")
@pytest.mark.parametrize("zipped", [True, False])
def test_whatever_damage_does_to_a_file_the_answer_is_one_line(tmp_path, zipped):
    path = tmp_path / "c.th"
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    damaged = [b"", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n"]
    damaged += [whole[: len(whole) * i // 40] for i in range(1, 40)]
    for position in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        damaged.append(bytes(flipped))
    answers = []
    for data in damaged:
        path.write_bytes(data)
        try:
            read_checkpoint(path)  # a flipped number passes: these formats have no checksum
        except CorruptFile as error:
            answers.append(str(error))
    assert len(answers) > 42
    assert all(answer.startswith(f"{path}: ") and "\n" not in answer for answer in answers)


def test_a_capital_suffix_is_safetensors_too(tmp_path):
    path = tmp_path / "C.SAFETENSORS"
    write_tensors(path, TENSORS)
    assert read_checkpoint(path).keys() == TENSORS.keys()


def test_a_torchscript_program_is_named_and_torchs_advice_to_run_code_is_not_passed_on(tmp_path):
    path = tmp_path / "c.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its end
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    assert "a TorchScript program, and code in a file is never run" in refusal(path)


def test_no_refusal_quotes_torch(tmp_path, monkeypatch):
    path = tmp_path / "c.pth"
    torch.save(TENSORS, path)

    def load(*arguments, **options):
        raise RuntimeError("re-run with weights_only=False")

    monkeypatch.setattr(torch, "load", load)
    assert "weights_only" not in refusal(path)


def test_a_compressed_archive_is_refused_before_it_unfolds(tmp_path):
    plain, bomb = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1_000_000)}, plain)
    with ZipFile(plain) as source, ZipFile(bomb, "w", ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 100_000
    assert len(torch.load(bomb, weights_only=True)["a"]) == 1_000_000  # torch itself would
    assert "a compressed zip file" in refusal(bomb)
    assert len(read_checkpoint(plain)["a"]) == 1_000_000


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.zeros(1, 4).expand(10**7, 4), "40,000,000 numbers expanded from fewer"),
        (lambda: torch.zeros(9).as_strided((4, 4), (1, 1)), "16 numbers expanded from fewer"),
        (lambda: torch.eye(3).to_sparse(), "torch.sparse_coo"),
        (lambda: torch.empty(3, device="meta"), "without its numbers"),
        (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "nested"),
    ],
    ids=["expanded", "overlapping", "sparse", "meta", "nested"],
)
def test_a_tensor_that_does_not_hold_its_numbers_is_refused_by_its_name(tmp_path, make, words):
    torch.save({"state_dict": {"fc.weight": make()}}, tmp_path / "c.pth")
    assert refusal(tmp_path / "c.pth") == (
        f"{tmp_path}/c.pth: fc.weight is no plain tensor ({words})"
    )


def test_tied_weights_and_parameters_are_plain_tensors(tmp_path):
    weight = torch.nn.Parameter(torch.randn(3, 3))
    torch.save({"a": weight, "b": weight, "c": weight.detach()[1:]}, tmp_path / "c.pth")
    assert read_checkpoint(tmp_path / "c.pth").keys() == {"a", "b", "c"}


def test_of_what_lightning_saved_of_a_classifier_the_finished_net_is_read(tmp_path):
    state = {"net.fc.weight": torch.zeros(2, 2), "train_scores.hits": torch.zeros(3)}
    content = {"state_dict": state, "net": {"labels": None}}
    torch.save(content, tmp_path / "last.ckpt")
    assert list(read_checkpoint(tmp_path / "last.ckpt")) == ["fc.weight"]
    state["averaged.module.fc.weight"] = torch.ones(2, 2)
    torch.save(content, tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt")["fc.weight"].eq(1).all()
    del content["net"], state["averaged.module.fc.weight"]
    torch.save(content, tmp_path / "last.ckpt")  # someone else's
    assert list(read_checkpoint(tmp_path / "last.ckpt")) == list(state)


# Renaming


def test_our_own_and_torchvisions_names_stay():
    net = fill(ResNet("cifar_resnet20"))
    converted = convert(net.state_dict())
    assert converted.form == "torchvision's names"
    assert converted.preprocess is None
    assert list(converted.tensors) == list(net.state_dict())


def test_published_cifar_nets_get_their_names_preprocessing_and_labels():
    state = fill(ResNet("cifar_resnet20")).state_dict()
    converted = convert(akamaster(fill(ResNet("cifar_resnet20"))))
    assert converted.form == "akamaster/pytorch_resnet_cifar10"
    assert converted.preprocess == Preprocess(
        size=32, resize=None, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    assert converted.labels[0] == "airplane"
    assert converted.labels[9] == "truck"
    fitted = matched(converted.tensors, state, "f")
    assert all(torch.equal(fitted[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_prefix_of_data_parallel_goes(prefix):
    state = fill(ResNet("cifar_plain20")).state_dict()
    foreign = {prefix + name: tensor for name, tensor in state.items()}
    found = convert(foreign).tensors
    assert list(found) == list(state)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["fc.weight", "module.fc.weight"], "holds fc.weight twice, once as module.fc.weight"),
        (["module.fc.weight", "fc.weight"], "holds fc.weight twice, once as fc.weight"),
        (["fc.bias", "linear.weight", "linear.bias"], "holds fc.bias twice, once as linear.bias"),
        (["stem.conv.weight", "conv1.weight"], "holds conv1.weight twice, once as conv1.weight"),
        (["stem.conv.weight", "head.fc.bias", "fc.bias"], "holds fc.bias twice"),
    ],
)
def test_two_tensors_for_one_name_are_refused(names, words):
    with pytest.raises(WeightsMismatch, match=rf"^c\.pth: {words}"):
        convert({name: torch.zeros(2, 2) for name in names}, where="c.pth")


@pytest.mark.parametrize("name", ["linear.weight", "fc.weight", "head.fc.weight"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 1), (3, 2, 2, 2), (0,)])
def test_a_head_of_an_odd_shape_has_no_classes_and_fits_no_net(name, shape):
    tensors = {name: torch.zeros(shape)}
    if name.startswith("head"):
        tensors["stem.conv.weight"] = torch.zeros(4, 3, 7, 7)
    found = convert(tensors)
    assert found.classes is None
    assert found.tensors["fc.weight"].shape == shape
    with pytest.raises(WeightsMismatch, match=r"of another shape: fc\.weight"):
        matched(found.tensors, {"fc.weight": torch.empty(10, 64, device="meta")}, "f")


def test_the_classes_are_those_of_the_heads_weight():
    assert convert({"linear.weight": torch.zeros(7, 4)}).classes == 7
    assert convert({"linear.weight": torch.zeros(7, 4)}).labels is None
    head = {"stem.conv.weight": torch.zeros(4, 3, 7, 7), "head.fc.weight": torch.zeros(7, 4, 1, 1)}
    assert convert(head).classes == 7
    assert convert({}).classes is None


def test_a_stage_of_a_number_beyond_all_nets_keeps_its_name():
    name = f"stages.{'9' * 5000}.blocks.0.conv1.weight"
    found = convert({"stem.conv.weight": torch.zeros(1), name: torch.zeros(1)})
    assert list(found.tensors) == ["conv1.weight", name]


@pytest.mark.parametrize(
    ("head", "peers"),
    [
        ({"fc.weight": torch.zeros(7, 4)}, ("torchvision", "timm")),
        ({"linear.weight": torch.zeros(7, 4)}, ()),
        (
            {"stem.conv.weight": torch.zeros(1), "head.fc.weight": torch.zeros(7, 4, 1, 1)},
            ("timm",),
        ),
        ({"stem.conv.weight": torch.zeros(1), "head.fc.weight": torch.zeros(7, 4)}, ()),
    ],
)
def test_the_original_stays_under_its_own_names_for_those_who_can_build_its_net(head, peers):
    found = convert({f"module.{name}": tensor for name, tensor in head.items()})
    assert found.peers == peers
    assert found.original.keys() == head.keys()
    assert all(torch.equal(found.original[name], head[name]) for name in head)


# Writing


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_that_is_written_is_read_again(tmp_path, suffix):
    path = tmp_path / f"c{suffix}"
    write_checkpoint(path, {**TENSORS, "part": torch.zeros(10**6)[:2]})
    found = read_checkpoint(path)
    assert found.keys() == {*TENSORS, "part"}
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert path.stat().st_size < 10_000  # not the whole memory that a tensor is a part of


@pytest.mark.parametrize("name", ["c", "c.onnx", "c.ckpt"])
def test_a_checkpoint_of_another_ending_is_not_written(tmp_path, name):
    with pytest.raises(InvalidSetting, match=f"{name}: a checkpoint's name ends in .safetensors"):
        write_checkpoint(tmp_path / name, TENSORS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_is_one_line_with_its_reason_and_the_older_file_stays(tmp_path, suffix):
    path = tmp_path / f"c{suffix}"
    path.write_bytes(b"older")
    with files_of_at_most(100_000), pytest.raises(ResNetHubError) as caught:
        write_checkpoint(path, {"a": torch.zeros(100_000)})
    assert str(caught.value) == (
        f"{path}: could not be written (File too large); what was there is intact"
    )
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {path.name: b"older"}
