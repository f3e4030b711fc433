"""Foreign checkpoints: read without running their code, renamed, and told apart."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference_nets import fill

from resnet_hub.errors import CorruptFile
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from resnet_hub.weights.convert import convert, read_checkpoint
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


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    for path in bomb_files(tmp_path, tmp_path / "marker"):
        assert "code in a checkpoint is never run" in refusal(path)
    assert not (tmp_path / "marker").exists()


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


# Renaming


def test_our_own_and_torchvisions_names_stay():
    net = fill(ResNet("cifar_resnet20"))
    converted = convert(net.state_dict())
    assert converted.form == "torchvision's names"
    assert converted.preprocess is None
    assert list(converted.tensors) == list(net.state_dict())


def test_published_cifar_nets_get_their_names_preprocessing_and_labels():
    state = fill(ResNet("cifar_resnet20")).state_dict()
    foreign = {
        "module." + name.replace("fc.", "linear."): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    converted = convert(foreign)
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
