"""The card: what it keeps, and how it meets a card that was made to hurt."""

import ast
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
import yaml
from huggingface_hub import ModelCard

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.card import Card, read_card
from resnet_hub.weights.provenance import Parity, Provenance, Receipt, Score
from resnet_hub.weights.readme import write_readme
from resnet_hub.zoo import ARCHITECTURES

SHA = "0123456789abcdef" * 4
RECEIPT = Receipt(
    data_sha256=SHA,
    answers_sha256="1" * 64,
    logits_sha256="2" * 64,
    preprocess=Preprocess(size=32, resize=None),
    precision="bf16-mixed",
    device="cpu",
    versions={"torch": "2.9.1+cpu", "python": "3.10.4"},
)
MEASURED = Score(data="CIFAR-10 test", top1=0.9160, top5=0.9970, n=10000, receipt=RECEIPT)
CARD = Card(
    architecture=ARCHITECTURES["cifar_resnet20"].architecture,
    preprocess=Preprocess(size=32, resize=None, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
    labels=("plane", "café", "鳥", *"defghij"),
    provenance=Provenance(
        sha256=SHA,
        source="a run",
        recipe={"optimizer": {"lr": 0.1}, "net": "cifar_resnet20"},
        commit="abc",
        seed=3,
        epochs=164,
        scores=(Score(data="CIFAR-10 test", top1=0.9163, top5=0.9971, n=10000), MEASURED),
        licence="Apache-2.0",
        versions={"torch": "2.9.1"},
        parity=Parity(against="torchvision's", largest=1.5e-6, n=16),
        version="0.1.0",
    ),
)


def hostile(*path: str, value: object) -> str:
    """The card's text with one field changed."""
    content = json.loads(CARD.to_json())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(content)


def refusal(text: str) -> str:
    start = perf_counter()
    with pytest.raises(CorruptFile) as caught:
        Card.from_json(text, "m/config.json")
    assert perf_counter() - start < 1
    message = str(caught.value)
    assert message.startswith("m/config.json: not a card of this package (")
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_card_comes_back_as_it_was():
    assert Card.from_json(CARD.to_json(), "x") == CARD
    assert json.loads(CARD.to_json())["name"] == "cifar_resnet20"
    assert "鳥" in CARD.to_json()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_comes_back_by_its_name(name):
    net = ARCHITECTURES[name].architecture
    card = Card(
        architecture=net,
        preprocess=Preprocess.default_for(net),
        labels=None,
        provenance=Provenance(sha256=SHA),
    )
    assert Card.from_json(card.to_json(), "x") == card
    assert card.name == name


def test_a_card_written_before_stems_and_attention_had_their_fields_is_read_as_the_same_net():
    content = json.loads(CARD.to_json())
    later = ("stem_pool", "attention", "reduction", "antialias")
    for field in (*later, "shortcut_gate", "shortcut_scale", "residual_scale"):
        del content["architecture"][field]
    assert Card.from_json(json.dumps(content), "x") == CARD


def test_a_net_of_no_row_is_described_by_its_layers():
    net = Architecture(depths=(2, 2), block="bottleneck", classes=10)
    assert replace(CARD, architecture=net).name == "a 14-layer net"


def test_labels_and_channels_must_fit_the_net():
    with pytest.raises(InvalidSetting, match="labels: 3 names for 10 classes"):
        replace(CARD, labels=("a", "b", "c"))
    with pytest.raises(InvalidSetting, match="1 channels for a net that takes 3"):
        replace(CARD, preprocess=CARD.preprocess.with_channels(1))


@pytest.mark.parametrize(
    "score",
    [
        {"top1": 91.6},
        {"top1": float("nan")},
        {"top5": "1"},
        {"top5": None},
        {"n": 0},
        {"n": 1.5},
        {"data": None},
        {"receipt": 3},
    ],
)
def test_a_score_is_two_fractions_of_a_number_of_images(score):
    with pytest.raises(InvalidSetting, match=r"^score"):
        Score(**{"data": "d", "top1": 0.5, "top5": 0.9, "n": 10, **score})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", None),
        ("source", 3),
        ("recipe", [1]),
        ("seed", "3"),
        ("seed", True),
        ("epochs", 1.5),
        ("scores", [Score(data="d", top1=0.5, top5=0.9, n=10)]),
        ("versions", "torch 2.9"),
        ("parity", 1e-6),
        ("licence", ["MIT"]),
    ],
)
def test_provenance_of_another_kind_could_not_be_read_back(field, value):
    with pytest.raises(InvalidSetting, match=rf"^provenance\.{field}: .* is of another kind$"):
        Provenance(**{field: value})


NAMED = "mit-or-apache-2.0-and-bsd-3-clause"


@pytest.mark.parametrize(
    "licence",
    ["MIT", "Apache-2.0", "GPL-2.0+", "(MIT OR Apache-2.0) AND BSD-3-Clause", "CC-BY-NC-4.0"],
)
def test_a_licence_is_an_spdx_name_or_expression(licence):
    card = replace(CARD, provenance=replace(CARD.provenance, licence=licence))
    assert Card.from_json(card.to_json(), "x") == card
    front = yaml.safe_load(write_readme(card, "m").split("---")[1])
    named = {"GPL-2.0+": "gpl-2.0", "(MIT OR Apache-2.0) AND BSD-3-Clause": NAMED}.get(licence)
    if named:  # the Hub has names for single licences alone
        assert (front["license"], front["license_name"]) == ("other", named)
    else:
        assert front["license"] == licence.lower()


@pytest.mark.parametrize("licence", ["", " ", "x\nlicense: mit", "MIT\n", "a: b", "[x]", "é", "-x"])
def test_a_licence_that_could_be_more_than_a_name_is_refused(licence):
    with pytest.raises(InvalidSetting, match="is no SPDX name, such as MIT") as caught:
        Provenance(licence=licence)
    assert "\n" not in str(caught.value)


def test_labels_that_are_no_names_are_refused():
    for labels in ("abcdefghij", tuple(range(10)), 3, ("a",) * 9 + (None,)):
        with pytest.raises(InvalidSetting, match="labels: not a list of names"):
            replace(CARD, labels=labels)


def test_what_stands_for_bytes_that_are_no_text_comes_back_as_it_was():
    odd = os.fsdecode(b"caf\xe9")
    card = replace(
        CARD,
        labels=(odd, "\x1b[2J", "new\nline", *"defghij"),
        provenance=replace(CARD.provenance, source=f"checkpoint {odd}", recipe={odd: odd}),
    )
    text = card.to_json().encode().decode()
    assert r"caf\udce9" in text
    assert Card.from_json(text, "x") == card


def test_what_could_not_be_read_back_is_not_written():
    endless: dict = {}
    endless["again"] = endless
    with pytest.raises(InvalidSetting, match=r"config\.json: cannot hold this"):
        replace(CARD, provenance=replace(CARD.provenance, recipe=endless)).to_json()
    recipe = replace(CARD.provenance, recipe={"lr": float("nan")})
    with pytest.raises(InvalidSetting, match=r"config\.json: cannot hold this"):
        replace(CARD, provenance=recipe).to_json()
    recipe = replace(CARD.provenance, recipe={"root": Path("x")})
    with pytest.raises(InvalidSetting, match=r"config\.json: cannot hold this"):
        replace(CARD, provenance=recipe).to_json()
    large = Preprocess(size=224, mean=(0.485123,) * (3 * 224 * 224))
    with pytest.raises(InvalidSetting, match=r"config\.json: .* bytes are over 1,048,576"):
        replace(CARD, preprocess=large).to_json()


# Cards made to hurt


@pytest.mark.fault("L5")
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["format"], 2, "format 2, this version reads 1; upgrade resnet-hub"),
        (["format"], "1", "format '1'"),
        (["format"], None, "format None"),
        (["architecture"], [], "depths"),
        (["architecture"], "resnet50", "architecture"),
        (["architecture", "depths"], [10**9] * 3, "depths: 1000000000"),
        (["architecture", "depths"], [1] * 1000, r"depths: \(1, 1, 1"),
        (["architecture", "depths"], [], "depths"),
        (["architecture", "depths"], [0, 1, 1], "depths: 0"),
        (["architecture", "depths"], [1.5, 1, 1], r"depths: 1\.5"),
        (["architecture", "depths"], 3, "depths: 3"),
        (["architecture", "width"], 10**9, "width: 1000000000"),
        (["architecture", "width"], 8192, "parameters are over 1,000,000,000"),
        (["architecture", "width"], True, "width: True"),
        (["architecture", "classes"], -5, "classes: -5"),
        (["architecture", "classes"], 10**9, "classes: 1000000000"),
        (["architecture", "block"], "vit", "block: 'vit' is none of basic, bottleneck"),
        (["architecture", "block"], ["basic"], "block"),
        (["architecture", "depth"], 3, "no field 'depth'; did you mean 'depths'"),
        (["architecture", "x" * 10**6], 3, "no field 'xxx"),
        (["architecture", "block"], "y" * 10**6, "block: 'yyy"),
        (["preprocess", "size"], 0, "preprocess.size: 0"),
        (["preprocess", "size"], 10**9, "preprocess.size: 1000000000"),
        (["preprocess", "std"], [0, 1, 1], "preprocess.std"),
        (["preprocess", "std"], [], "preprocess.std"),
        (["preprocess", "mean"], [0.5] * 4, "preprocess.mean"),
        (["preprocess", "mean"], "abc", "preprocess.mean"),
        (["preprocess", "mode"], 1, "no field 'mode'"),
        (["labels"], "abcdefghij", "labels: not a list of names"),
        (["labels"], [1] * 10, "labels: not a list of names"),
        (["labels"], {str(i): i for i in range(10)}, "labels: not a list of names"),
        (["labels"], ["a"] * 3, "labels: 3 names for 10 classes"),
        (["provenance", "sha256"], SHA.upper(), "64 lower-case hex digits"),
        (["provenance", "sha256"], "", "64 lower-case hex digits"),
        (["provenance", "sha256"], None, "64 lower-case hex digits"),
        (["provenance", "sha265"], SHA, "no field 'sha265'; did you mean 'sha256'"),
        (["provenance", "epochs"], "many", "provenance.epochs: 'many'"),
        (["provenance", "recipe"], "lr: 1", "provenance.recipe"),
        (["provenance", "licence"], ["MIT"], "provenance.licence"),
        (["provenance", "scores"], 5, "provenance.scores"),
        (["provenance", "scores"], None, "provenance.scores: None"),
        (["provenance", "seed"], True, "provenance.seed: True"),
        (["provenance", "source"], 3, "provenance.source: 3"),
        (["provenance", "licence"], "x\nlicense: mit", r"licence: 'x\\nlicense: mit' is no SPDX"),
        (["provenance", "scores"], [{"data": "d"}], "missing"),
        (["provenance", "scores"], [{"a\nb": 1}], r"no field 'a\\nb'"),
        (["provenance", "scores"], [3], "not iterable"),
        (["provenance", "scores", 1, "receipt"], 3, "not iterable"),
        (["provenance", "scores", 1, "receipt", "seeds"], 3, "receipt: no field 'seeds'"),
        (["provenance", "scores", 1, "receipt", "data_sha256"], "ab", "data_sha256: not 64"),
        (["provenance", "scores", 1, "receipt", "logits_sha256"], None, "logits_sha256: not 64"),
        (["provenance", "scores", 1, "receipt", "answers_sha256"], 3, "answers_sha256: not 64"),
        (["provenance", "scores", 1, "receipt", "precision"], "a b", "'a b' is no plain word"),
        (["provenance", "scores", 1, "receipt", "device"], "x" * 65, "device: 'xxx"),
        (["provenance", "scores", 1, "receipt", "preprocess"], {"size": 0}, "preprocess.size: 0"),
        (["provenance", "scores", 1, "receipt", "versions"], [], "versions: not at most 32"),
        (["provenance", "scores", 1, "receipt", "versions"], {"a": 1}, "versions: a name or"),
        (["provenance", "scores", 1, "receipt", "versions", "a\x1b"], "1", "versions: a name or"),
        (["provenance", "versions"], {str(i): "1" for i in range(33)}, "versions: not at most 32"),
        (["provenance", "versions"], "torch 2.9", "provenance.versions"),
        (["provenance", "parity"], 3, "not iterable"),
        (["provenance", "parity", "largest"], -1, "parity.largest: -1"),
        (["provenance", "parity", "largest"], "0", "parity.largest: '0'"),
        (["provenance", "parity", "largest"], True, "parity.largest: True"),
        (["provenance", "parity", "n"], 0, "parity: 0 inputs"),
        (["provenance", "parity", "n"], 2.5, "parity: 2.5 inputs"),
        (["provenance", "parity", "against"], None, "16 inputs of None"),
        (["provenance", "parity", "most"], 3, "parity: no field 'most'"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_its_name(path, value, words):
    assert re.search(words, refusal(hostile(*path, value=value)))


@pytest.mark.parametrize("field", ["architecture", "preprocess", "labels", "provenance"])
def test_a_missing_field_is_named(field):
    content = json.loads(CARD.to_json())
    del content[field]
    assert f"no field '{field}'" in refusal(json.dumps(content))


def test_a_key_that_stands_twice_is_refused():
    text = CARD.to_json()
    assert "twice" in refusal(text.replace('"classes": 10', '"classes": 10, "classes": 10'))
    assert "twice" in refusal(text.replace('"labels":', '"labels": null, "labels":'))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(number):
    assert f"{number} is no number" in refusal(CARD.to_json().replace("0.9163", number))


def test_a_number_beyond_all_floats_is_refused():
    refusal(CARD.to_json().replace("0.9163", "1e999"))
    refusal(hostile("preprocess", "mean", value=["?"] * 3).replace('"?"', "1e999"))
    refusal(CARD.to_json().replace("164", "9" * 10_000))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"a"', "<html></html>", "[" * 200_000, '{"a":' * 100_000],
)
def test_what_is_no_card_at_all_is_refused(text):
    refusal(text)


# Folders


def test_a_folder_without_a_card_is_no_model_folder(tmp_path):
    with pytest.raises(CorruptFile, match=r"no model folder \(it holds no config\.json\)"):
        read_card(tmp_path)


@pytest.mark.fault("L5")
def test_a_card_over_one_mebibyte_is_refused_unread(tmp_path):
    (tmp_path / "config.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(CorruptFile, match="over 1,048,576 bytes"):
        read_card(tmp_path)


def test_a_card_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFile, match=r"config\.json: not text"):
        read_card(tmp_path)


def test_a_card_is_read_from_its_folder(tmp_path):
    (tmp_path / "config.json").write_text(CARD.to_json(), encoding="utf-8")
    assert read_card(tmp_path) == CARD


# README


def result(precision: str) -> dict:
    """What the front matter says of one of the card's scores."""
    score = CARD.provenance.scores[bool(precision)]
    suffix = f" ({precision})" if precision else ""
    return {
        "task": {"type": "image-classification"},
        "dataset": {"type": "uoft-cs/cifar10", "name": "CIFAR-10 test", "split": "test"},
        "metrics": [
            {"type": "accuracy", "name": f"Top-1 accuracy{suffix}", "value": score.top1},
            {"type": "accuracy", "name": f"Top-5 accuracy{suffix}", "value": score.top5},
        ],
    }


def test_the_hubs_own_client_reads_the_scores_in_the_front_matter():
    data = ModelCard(write_readme(CARD, "org/net")).data
    assert (data.license, data.library_name) == ("apache-2.0", "resnet_hub")
    found = {
        (r.dataset_type, r.dataset_split, r.metric_type, r.metric_name, r.metric_value)
        for r in data.eval_results
    }
    own = ("uoft-cs/cifar10", "test", "accuracy")
    assert found == {
        (*own, "Top-1 accuracy", 0.9163),
        (*own, "Top-5 accuracy", 0.9971),
        (*own, "Top-1 accuracy (bf16-mixed)", 0.9160),
        (*own, "Top-5 accuracy (bf16-mixed)", 0.9970),
    }


def test_only_the_official_files_are_called_by_the_hubs_name_of_a_data_set():
    scores = (Score(data="CIFAR-10 (other files) test", top1=0.5, top5=0.9, n=10),)
    card = replace(CARD, provenance=replace(CARD.provenance, scores=scores))
    front = yaml.safe_load(write_readme(card, "m").split("---")[1])
    assert "datasets" not in front
    assert front["model-index"][0]["results"][0]["dataset"] == {
        "type": "cifar-10-other-files",
        "name": "CIFAR-10 (other files) test",
        "split": "test",
    }


def test_the_readme_opens_with_front_matter_and_says_what_it_is():
    text = write_readme(CARD, "models/net")
    front = yaml.safe_load(text.split("---")[1])
    assert front == {
        "library_name": "resnet_hub",
        "pipeline_tag": "image-classification",
        "tags": ["resnet"],
        "license": "apache-2.0",
        "datasets": ["uoft-cs/cifar10"],
        "metrics": ["accuracy"],
        "model-index": [{"name": "cifar_resnet20", "results": [result(""), result("bf16-mixed")]}],
    }
    for words in (
        "# cifar_resnet20",
        "269,722 parameters, 40.6 million multiply-adds at 32 pixels",
        "| CIFAR-10 test | 91.63% | 99.71% | 10,000 | elsewhere |",
        "| CIFAR-10 test | 91.60% | 99.70% | 10,000 | here, bf16-mixed on cpu |",
        "parity: logits differ by 1.5e-06 at most from torchvision's (n = 16)",
        "versions: torch 2.9.1",
        "ResNet.from_pretrained('models/net')",
        SHA,
        "seed: 3",
    ):
        assert words in text


def test_a_readme_without_scores_or_licence_says_so():
    text = write_readme(replace(CARD, provenance=Provenance(sha256=SHA)), "m")
    assert "Not measured." in text
    assert "licence: unstated" in text
    assert "license" not in text.split("---")[1]


def test_no_text_of_a_card_breaks_out_of_its_line_in_the_readme():
    hostile = "x\n---\nlicense: mit\n\x1b[2J" + os.fsdecode(b"\xff")
    scores = (Score(data=hostile, top1=0.5, top5=0.9, n=10),)
    origin = replace(CARD.provenance, source=hostile, commit=hostile, parent=hostile, scores=scores)
    text = write_readme(replace(CARD, provenance=origin), f"a'\n{hostile}")
    calm = replace(origin, source="x", commit="x", parent="x", scores=(replace(*scores, data="x"),))
    expected = write_readme(replace(CARD, provenance=calm), "m")
    assert len(text.splitlines()) == len(expected.splitlines())
    assert text.replace("\n", "").isprintable()
    (line,) = [line for line in text.splitlines() if "from_pretrained" in line]
    assert ast.literal_eval(line.partition("from_pretrained")[2]) == f"a'\n{hostile}"
