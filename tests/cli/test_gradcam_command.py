"""``resnet-hub gradcam``: what it writes and prints, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import pattern, save
from PIL import Image
from reference_nets import fill
from small_runs import command, refusal

from resnet_hub.labels import CIFAR10_LABELS
from resnet_hub.nets.resnet import ResNet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    net = fill(ResNet("cifar_resnet20", classes=CIFAR10_LABELS))
    net.save_pretrained(folder)
    return folder


def explained(capsys, *arguments: object) -> list[dict]:
    capsys.readouterr()
    assert command("gradcam", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_each_picture_gets_a_sheet_that_names_what_predict_names(
    model: Path, tmp_path: Path, capsys
):
    paths = [save(tmp_path / f"{seed}.png", pattern(300, 200, seed=seed)) for seed in (1, 2)]
    found = explained(capsys, model, *paths, "--out", tmp_path / "out")
    assert command("predict", model, *paths, "--json") == 0
    predicted = json.loads(capsys.readouterr().out)
    for path, answer, guesses in zip(paths, found, predicted, strict=True):
        best = guesses["top5"][0]
        assert (answer["label"], answer["index"]) == (best["label"], best["index"])
        assert answer["probability"] == pytest.approx(best["probability"])
        assert answer["picture"] == str(tmp_path / "out" / f"{path.stem}-gradcam.png")
        with Image.open(answer["picture"]) as sheet, Image.open(path) as picture:
            assert sheet.format == "PNG"
            left, rest = (sheet.width - 600) // 3, np.asarray(sheet)
            rows = [row for row in range(50) if _stands(rest[row:, left:], np.asarray(picture))]
            assert len(rows) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1-gradcam.png",
        "2-gradcam.png",
    ]


def _stands(sheet: np.ndarray, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    return bool((sheet[:height, :width] == picture).all())


def test_people_get_a_line_a_picture(model: Path, tmp_path: Path, capsys):
    path = save(tmp_path / "a.png")
    assert command("gradcam", model, path, "--out", tmp_path / "out", "--class", "cat") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"%  cat  {tmp_path / 'out' / 'a-gradcam.png'}")


def test_probabilities_are_at_the_cards_temperature_as_those_of_predict(tmp_path: Path, capsys):
    net = fill(ResNet("cifar_resnet20", classes=CIFAR10_LABELS))
    net.temperature = 2.5
    net.save_pretrained(tmp_path / "model")
    path = save(tmp_path / "a.png", pattern(seed=1))
    (found,) = explained(capsys, tmp_path / "model", path, "--out", tmp_path)
    assert command("predict", tmp_path / "model", path, "--json") == 0
    ((guess, *_),) = (answer["top5"] for answer in json.loads(capsys.readouterr().out))
    assert found["temperature"] == 2.5
    assert found["probability"] == pytest.approx(guess["probability"])
    assert command("gradcam", tmp_path / "model", path, "--out", tmp_path) == 0
    assert "probabilities at the card's temperature, 2.5" in capsys.readouterr().out


def test_another_class_and_layer_give_another_map(model: Path, tmp_path: Path, capsys):
    path = save(tmp_path / "a.png")
    sheets = set()
    for n, flags in enumerate((["--class=cat"], ["--class=7"], ["--class=cat", "--layer=layer1"])):
        (answer,) = explained(capsys, model, path, "--out", tmp_path / str(n), *flags)
        assert answer["label"] == ("horse" if n == 1 else "cat")
        assert answer["index"] == CIFAR10_LABELS.index(answer["label"])
        sheets.add(Path(answer["picture"]).read_bytes())
    assert len(sheets) == 3


def test_pictures_of_one_name_do_not_overwrite_each_other(model: Path, tmp_path: Path, capsys):
    paths = [save(tmp_path / folder / "x.png", pattern(seed=n)) for n, folder in enumerate("ab")]
    found = explained(capsys, model, *paths, paths[0], "--out", tmp_path)
    names = [Path(answer["picture"]).name for answer in found]
    assert names == ["x-gradcam.png", "x-2-gradcam.png", "x-3-gradcam.png"]
    first, second, third = (Path(answer["picture"]).read_bytes() for answer in found)
    assert first == third != second


def test_a_map_without_anything_that_speaks_for_the_class_says_so(tmp_path: Path, capsys):
    net = fill(ResNet("cifar_resnet20", classes=3))
    net.fc.weight.data[1] = -net.fc.weight.data[1].abs()  # of activations that are never below 0
    net.fc.weight.data[0] = net.fc.weight.data[0].abs()
    net.save_pretrained(tmp_path / "model")
    path = save(tmp_path / "a.png")
    against, for_it = (
        explained(capsys, tmp_path / "model", path, "--out", tmp_path, "--class", number)[0]
        for number in (1, 0)
    )
    assert (against["empty"], for_it["empty"]) == (True, False)


def test_a_result_never_takes_the_place_of_a_picture(model: Path, tmp_path: Path, capsys):
    one = save(tmp_path / "a.png")
    two = save(tmp_path / "a-gradcam.png")
    before = two.read_bytes()
    message = refusal(capsys, "gradcam", model, one, two, "--out", tmp_path)
    assert "a-gradcam.png there is one of the pictures" in message
    assert two.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png"], "the following arguments are required: --out"),
        (["--out", "out"], "the following arguments are required: IMAGE"),
        (["a.png", "--out", "out", "--class", "cet"], "no class 'cet'; did you mean 'cat'?"),
        (["a.png", "--out", "out", "--class", "10"], "no class '10'; or give its number, 0 to 9"),
        (["a.png", "--out", "out", "--layer", "layer5"], "no stage 'layer5'; did you mean"),
        (["a.png", "--out", "cam.png"], "--out cam.png: names a folder"),
        (["b.png", "--out", "out"], "b.png: No such file or directory"),
        (["text.png", "--out", "out"], "text.png: not a readable image"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    model: Path, tmp_path: Path, capsys, monkeypatch, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no picture")
    assert message in refusal(capsys, "gradcam", model, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_grey_net_takes_pictures_as_predict_does(tmp_path: Path, capsys):
    fill(ResNet("cifar_resnet20", classes=2, in_channels=1)).save_pretrained(tmp_path / "grey")
    path = save(tmp_path / "a.png")
    (answer,) = explained(capsys, tmp_path / "grey", path, "--out", tmp_path)
    assert Path(answer["picture"]).is_file()
