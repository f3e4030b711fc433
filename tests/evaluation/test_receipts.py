"""Receipts: digests of what was measured, kept in the card and compared later."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from pictures import class_folders

from resnet_hub.data.batches import Batch
from resnet_hub.data.digits import Digits
from resnet_hub.data.folder import Folder
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting
from resnet_hub.evaluation.receipts import compare, record, recorded_scores
from resnet_hub.evaluation.scoring import score
from resnet_hub.learning.fingerprints import Fingerprints
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card
from resnet_hub.weights.provenance import Provenance, Receipt, Score, software
from resnet_hub.weights.readme import MARK

CPU = {"accelerator": "cpu"}


def digits(**settings: object) -> Digits:
    data = Digits(DataSettings(name="Digits", **settings))
    data.open()
    return data


def measured(net: ResNet, data: Digits | Folder, **trainer: object) -> Receipt:
    receipt = score(net, data, trainer={**CPU, **trainer}).receipt
    assert receipt is not None
    return receipt


# Digests


def test_the_digests_are_those_of_the_samples_one_by_one(net: ResNet):
    data = digits(batch_size=7)
    receipt = measured(net, data)
    pairs, best, logits, index = [], [], [], 0
    for batch in data.test_dataloader():
        with torch.inference_mode():
            answers = net(data.preprocess.normalise(batch.images))
        for image, label, answer in zip(batch.images, batch.labels, answers, strict=True):
            head = index.to_bytes(8, "little")
            own = head + int(label).to_bytes(8, "little") + repr(tuple(image.shape)).encode()
            pairs.append(hashlib.sha256(own + image.numpy().tobytes()).digest())
            best.append(hashlib.sha256(head + int(answer.argmax()).to_bytes(8, "little")).digest())
            logits.append(hashlib.sha256(head + b"(10,)" + answer.numpy().tobytes()).digest())
            index += 1
    assert index == 360
    found = [hashlib.sha256(b"".join(digests)).hexdigest() for digests in (pairs, best, logits)]
    assert found == [receipt.data_sha256, receipt.answers_sha256, receipt.logits_sha256]


def test_the_digest_of_the_data_depends_on_no_batch_size_precision_or_net(net: ResNet):
    first = measured(net, digits())
    torch.manual_seed(1)
    other = ResNet("cifar_resnet20", in_channels=1).eval()
    second = measured(other, digits(batch_size=100), precision="bf16-mixed")
    assert first.data_sha256 == second.data_sha256
    assert first.logits_sha256 != second.logits_sha256
    assert (first.precision, second.precision) == ("32-true", "bf16-mixed")
    assert (first.device, first.versions) == ("cpu", software())
    assert first.preprocess == digits().preprocess
    assert measured(net, digits(eval_size=9)).data_sha256 != first.data_sha256


def batch(count: int = 6) -> tuple[Batch, torch.Tensor]:
    torch.manual_seed(0)
    pixels = torch.randint(256, (count, 1, 2, 2), dtype=torch.uint8)
    labels, indices = torch.arange(count) % 3, torch.arange(count)
    return Batch(pixels.float(), labels, indices, indices, pixels=pixels), torch.randn(count, 3)


def digests(*parts: tuple[Batch, torch.Tensor]) -> dict[str, str]:
    fingerprints = Fingerprints()
    for part, logits in parts:
        fingerprints.update(part, logits)
    return fingerprints.compute()


def part_of(rows: list[int], whole: Batch, logits: torch.Tensor) -> tuple[Batch, torch.Tensor]:
    tensors = (whole.images, whole.labels, whole.indices, whole.keys)
    return Batch(*(t[rows] for t in tensors), pixels=whole.pixels[rows]), logits[rows]


def test_neither_the_order_of_samples_nor_their_batches_change_a_digest():
    whole, logits = batch()
    parts = [part_of(rows, whole, logits) for rows in ([4, 1], [], [5], [0, 2, 3])]
    assert digests(*parts) == digests((whole, logits))


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("pixels", {"data_sha256"}),
        ("labels", {"data_sha256"}),
        ("indices", {"data_sha256", "answers_sha256", "logits_sha256"}),
        ("logits", {"logits_sha256"}),
        ("answers", {"answers_sha256", "logits_sha256"}),
    ],
)
def test_one_changed_number_changes_its_digest_alone(field: str, names: set[str]):
    whole, logits = batch()
    before = digests((whole, logits))
    if field == "logits":
        logits[3, logits[3].argmin()] -= 1e-6
    elif field == "answers":
        logits[3] = -logits[3]
    elif field == "indices":
        whole = whole._replace(indices=whole.indices.flip(0))
    else:
        getattr(whole, field).view(6, -1)[3, 0] += 1
    after = digests((whole, logits))
    assert {name for name in before if before[name] != after[name]} == names


def test_data_that_keeps_its_pixels_to_itself_is_refused(net: ResNet):
    data = digits()
    data.prepare = lambda batch, *, train: batch._replace(
        images=data.preprocess.normalise(batch.images)
    )
    with pytest.raises(InvalidSetting, match="gives a test no pixels"):
        score(net, data, trainer=CPU)


def test_pictures_are_fingerprinted_as_the_net_sees_them(tmp_path: Path):
    class_folders(tmp_path / "val", {"ant": 3, "bee": 2})
    net = ResNet("cifar_resnet20", classes=2)

    def opened(**settings: object) -> Folder:
        own = {"name": "Folder", "root": str(tmp_path), "eval_size": 16, **settings}
        data = Folder(DataSettings(**own))
        data.open()
        return data

    first = measured(net, opened(batch_size=2, workers=0))
    assert measured(net, opened(batch_size=4, workers=1)).data_sha256 == first.data_sha256
    assert measured(net, opened(eval_size=12)).data_sha256 != first.data_sha256


@pytest.mark.parametrize("limit", [1, 0.5, 3])
def test_a_part_of_the_images_gives_no_receipt(net: ResNet, limit: float):
    options = {**CPU, "limit_test_batches": limit}
    assert score(net, digits(batch_size=100), trainer=options).receipt is None


# Recording

SHA = "0123456789abcdef" * 4


def receipt(**changes: object) -> Receipt:
    fields = {"data_sha256": SHA, "answers_sha256": SHA, "logits_sha256": SHA, "device": "cpu"}
    net = ResNet("cifar_resnet20", in_channels=1)
    known = {"preprocess": net.preprocess, "precision": "32-true", "versions": {"torch": "2.9"}}
    return Receipt(**{**fields, **known, **changes})


def scored(**changes: object) -> Score:
    fields = {"data": "Digits test", "top1": 0.5, "top5": 0.9, "n": 360, "receipt": receipt()}
    return Score(**{**fields, **changes})


PUBLISHED = scored(top1=0.6, receipt=None)


@pytest.fixture
def folder(net: ResNet, tmp_path: Path) -> Path:
    net.save_pretrained(tmp_path / "model", provenance=Provenance(scores=(PUBLISHED,)))
    return tmp_path / "model"


def scores(folder: Path) -> tuple[Score, ...]:
    return read_card(folder).provenance.scores


def test_a_score_goes_into_card_and_readme_and_leaves_the_weights_alone(folder: Path):
    weights = folder / "model.safetensors"
    before = (weights.stat().st_mtime_ns, weights.stat().st_ino, read_card(folder))
    record(folder, scored())
    after = read_card(folder)
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == before[:2]
    assert after.provenance == replace(before[2].provenance, scores=(PUBLISHED, scored()))
    assert replace(after, provenance=before[2].provenance) == before[2]
    assert "| Digits test | 50.00% | 90.00% | 360 | here," in (folder / "README.md").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    ResNet.from_pretrained(folder)


def test_the_same_images_at_the_same_precision_take_the_earlier_scores_place(folder: Path):
    record(folder, scored())
    bf16 = scored(receipt=receipt(precision="bf16-mixed"))
    record(folder, bf16)
    other = scored(receipt=receipt(data_sha256="f" * 64))
    record(folder, other)
    again = scored(top1=0.4)
    record(folder, again)
    assert scores(folder) == (PUBLISHED, again, bf16, other)


def test_a_score_that_is_there_already_rewrites_nothing(folder: Path):
    record(folder, scored())
    before = [(folder / name).stat().st_ino for name in ("config.json", "README.md")]
    record(folder, scored())
    assert before == [(folder / name).stat().st_ino for name in ("config.json", "README.md")]


RECORD = """
import sys
from pathlib import Path
from resnet_hub.evaluation.receipts import record
from resnet_hub.weights.provenance import Score
folder, number = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(5):
    record(folder, Score(data=f"{number}.{turn}", top1=0.5, top5=0.9, n=360))
"""


def test_processes_that_record_at_once_lose_no_score(folder: Path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RECORD, folder, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    expected = {"Digits test", *(f"{number}.{turn}" for number in range(3) for turn in range(5))}
    assert {score.data for score in scores(folder)} == expected
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]


def test_a_persons_own_words_at_the_end_of_the_readme_are_kept(folder: Path):
    readme = folder / "README.md"
    before = readme.read_text()
    readme.write_text(before + "\nTrained on a rainy day.\n")
    record(folder, scored())
    after = readme.read_text()
    assert after.endswith(f"{MARK}\nTrained on a rainy day.\n")
    assert "| 50.00% |" in after
    assert after.count(MARK) == 1


def test_a_readme_that_this_package_did_not_write_stays(folder: Path):
    (folder / "README.md").write_text("# All mine\n")
    record(folder, scored())
    assert (folder / "README.md").read_text() == "# All mine\n"
    assert scores(folder) == (PUBLISHED, scored())


def test_a_readme_that_is_no_text_is_named_and_nothing_is_recorded(folder: Path):
    (folder / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFile, match=r"README\.md: not text"):
        record(folder, scored())
    assert scores(folder) == (PUBLISHED,)


def test_a_missing_readme_is_written(folder: Path):
    (folder / "README.md").unlink()
    record(folder, scored())
    assert "| 50.00% |" in (folder / "README.md").read_text()


# Comparing


def test_a_measurement_is_compared_at_a_recorded_precision():
    full, half = scored(), scored(receipt=receipt(precision="bf16-mixed"))
    known = (PUBLISHED, half, full, scored(data="Folder val"))
    assert recorded_scores(known, "Digits test") == [full]
    assert recorded_scores((half,), "Digits test") == [half]
    assert recorded_scores(known, "Digits test", precision="bf16-mixed") == [half]


@pytest.mark.parametrize(
    ("data", "precision", "message"),
    [
        ("Digits val", None, "no receipt of Digits val to compare with"),
        ("Digits test", "64-true", "no receipt of Digits test at 64-true to compare with"),
    ],
)
def test_without_a_receipt_there_is_nothing_to_compare_with(data, precision, message):
    with pytest.raises(DataMissing, match=message):
        recorded_scores((PUBLISHED, scored()), data, precision=precision)


def test_equal_logits_are_the_same_bits_whatever_measured_them():
    found = scored(receipt=receipt(device="cuda", versions={"torch": "3.0"}))
    assert compare([scored()], found).verdict == "same bits"


def test_equal_answers_of_other_logits_are_told_apart():
    found = scored(receipt=receipt(logits_sha256="f" * 64))
    comparison = compare([scored()], found)
    assert (comparison.verdict, comparison.differences) == ("same answers, other bits", ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"receipt": receipt(data_sha256="f" * 64)}, "other images, labels or order (SHA-256 0123"),
        ({"receipt": receipt(answers_sha256="f" * 64)}, "other answers for some images"),
        ({"n": 359}, "n 360 recorded, 359 found"),
        ({"top1": 0.25}, "top1 0.5 recorded, 0.25 found"),
        ({"top5": 1.0}, "top5 0.9 recorded, 1 found"),
        (
            {"receipt": receipt(preprocess=ResNet("resnet18").preprocess.with_channels(1))},
            "other preprocessing",
        ),
    ],
)
def test_each_difference_is_named(changes, words):
    comparison = compare([scored()], scored(**changes))
    assert comparison.verdict == "differs"
    (difference,) = comparison.differences
    assert difference.startswith(words)


def test_what_read_other_images_is_named_where_it_has_another_version():
    recorded = scored(
        receipt=receipt(versions={"pillow": "12.0", "torch": "3.0", "lightning": "2"})
    )
    versions = {"pillow": "12.0", "torch": "3.1", "simplejpeg": "1.9.0"}
    found = scored(receipt=receipt(data_sha256="f" * 64, versions=versions))
    assert compare([recorded], found).differences[1:] == (
        "other software read them (torch 3.0 recorded, 3.1 found; simplejpeg none recorded, "
        "1.9.0 found)",
    )


def test_what_decodes_pictures_is_part_of_the_software():
    assert software()["pillow"] == metadata.version("pillow")
    assert set(software()) >= {"torch", "torchvision", "pillow"}


def test_of_several_scores_the_one_on_the_same_images_is_compared_with():
    other = scored(top1=0.1, receipt=receipt(data_sha256="f" * 64))
    known = (PUBLISHED, other, scored())
    comparison = compare(known, scored())
    assert (comparison.recorded, comparison.verdict) == (scored(), "same bits")
    assert comparison.unmeasured == (PUBLISHED, other)


def test_each_of_several_scores_of_the_same_images_has_to_be_true():
    for known in ((scored(), scored(top1=0.9)), (scored(top1=0.9), scored())):
        comparison = compare(known, scored())
        assert comparison.verdict == "differs"
        assert comparison.differences == ("top1 0.9 recorded, 0.5 found",)
        assert comparison.unmeasured == ()
