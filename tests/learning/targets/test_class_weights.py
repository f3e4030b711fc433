"""Weights of classes: the formulas, the loss against torch's, and a run over skewed classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import save
from PIL import Image
from rank_tasks import weighted
from ranks import Ranks
from sklearn.utils.class_weight import compute_class_weight
from small_runs import checkpoint, command, failure, fit
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import MixingSettings, ModelSettings
from resnet_hub.learning.targets.class_weights import named, resolved, worded
from resnet_hub.learning.targets.mixing import Mix, mixed_targets, one_hot
from resnet_hub.learning.targets.objective import training_loss
from resnet_hub.nets.resnet import ResNet

LABELS = ("ant", "bee", "fly")
TARGETS = torch.tensor([0] * 7 + [2] + [1] * 2)
WEIGHTS = torch.tensor([0.5, 1.5, 4.0])


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # on so small images threads wait longer than they work


def weights(**settings: object) -> Tensor:
    found = resolved(ModelSettings(**settings), TARGETS, LABELS)
    assert found is not None
    assert found.dtype is torch.float32
    return found


def test_balanced_weights_are_scikit_learns():
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS.numpy())
    np.testing.assert_allclose(weights(class_weights="balanced").numpy(), theirs, rtol=1e-6)


def test_effective_weights_go_from_none_to_balanced_by_the_papers_formula():
    found = weights(class_weights="effective", effective_beta=0.9)
    raw = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in (7, 2, 1)])
    torch.testing.assert_close(found, raw * 3 / raw.sum())
    assert weights(class_weights="effective", effective_beta=0.0).tolist() == [1, 1, 1]
    even, balanced = (weights(class_weights=rule) for rule in ((1, 1, 1), "balanced"))
    near = weights(class_weights="effective", effective_beta=1 - 1e-9)
    torch.testing.assert_close(near / near[0], balanced / balanced[0])
    assert even.tolist() == [1, 1, 1]


def test_given_weights_are_taken_as_they_are_and_none_are_none():
    assert weights(class_weights=(3, 0.25, 1)).tolist() == [3, 0.25, 1]
    assert resolved(ModelSettings(), TARGETS, LABELS) is None


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("balanced", "balanced needs training images of every class, and 'bee' has none"),
        ("effective", "effective needs training images of every class, and 'bee' has none"),
        ((1.0, 2.0), "2 weights for 3 classes; give one for each, in the order of ant, bee, fly"),
    ],
)
def test_weights_that_do_not_go_with_the_classes_are_refused_in_one_line(rule, message: str):
    with pytest.raises(InvalidSetting, match=message) as error:
        resolved(ModelSettings(class_weights=rule), TARGETS[TARGETS != 1], LABELS)
    assert str(error.value).startswith("model.class_weights: ")
    assert "\n" not in str(error.value)


def test_few_weights_are_each_told_and_of_many_the_ends():
    assert worded(named(torch.tensor([1 / 3, 2, 1e-3]), LABELS)) == "ant 0.3333, bee 2, fly 0.001"
    many = named(torch.arange(1.0, 13.0).flip(0), list("abcdefghijkl"))
    assert worded(many) == "from 1 (l) to 12 (a) over 12 classes"


def outputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(9, 3, generator=generator)
    return logits, torch.randint(3, (9,), generator=generator)


def loss(logits: Tensor, targets: Tensor, labels: Tensor, **settings: object) -> Tensor:
    return training_loss(
        logits, targets, ModelSettings(**settings), WEIGHTS / WEIGHTS[labels].mean()
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_of_labels_is_torchs(smoothing: float):
    logits, labels = outputs()
    theirs = F.cross_entropy(logits, labels, WEIGHTS, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels, labels, label_smoothing=smoothing), theirs)
    dense = loss(logits, one_hot(labels, 3), labels, label_smoothing=smoothing)
    torch.testing.assert_close(dense, theirs)
    half = loss(logits.bfloat16(), labels, labels, label_smoothing=smoothing)
    assert half.dtype is torch.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("partner", ["flip", "roll"])
def test_of_a_mixture_it_is_torchs_sum_over_the_weights_of_its_labels(
    smoothing: float, partner: str
):
    logits, labels = outputs()
    targets = mixed_targets(labels, 3, Mix(0.3), MixingSettings(mixup=1, partner=partner))
    total = F.cross_entropy(logits, targets, WEIGHTS, label_smoothing=smoothing, reduction="sum")
    found = loss(logits, targets, labels, label_smoothing=smoothing)
    torch.testing.assert_close(found, total / (targets @ WEIGHTS).sum())


@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("sums", [False, True])
def test_weighted_binary_cross_entropy_has_the_weight_of_its_images_class(
    threshold: float | None, sums: bool
):
    logits, labels = outputs()
    how = {"loss": "bce", "target_threshold": threshold, "bce_sum": sums, "label_smoothing": 0.1}
    alone = [
        training_loss(logits[i : i + 1], labels[i : i + 1], ModelSettings(**how)) for i in range(9)
    ]
    own = WEIGHTS[labels]
    torch.testing.assert_close(
        loss(logits, labels, labels, **how), (torch.stack(alone) * own).sum() / own.sum()
    )


def test_ranks_and_accumulation_leave_the_weighted_step_as_it_is(tmp_path: Path):
    def together(ranks: int, *arguments: int) -> list:
        with Ranks(ranks, weighted, *arguments, cwd=tmp_path) as started:
            return started.results()

    (expected,) = together(1, 12, 1)
    for ranks, size, accumulate in ((1, 6, 2), (2, 6, 1), (3, 2, 2)):
        for found in together(ranks, size, accumulate):
            for name, weight in found.items():
                scale = np.abs(expected[name]).max()
                assert np.abs(weight - expected[name]).max() <= 1e-5 * scale, name


BLACK, WHITE = 0, 255
FOLDERS = {("many", BLACK): 30, ("many", WHITE): 6, ("few", WHITE): 3}
"""White pictures are of either class, and only three of them of the rare one."""


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("skewed")
    for (name, grey), count in FOLDERS.items():
        for number in range(count):
            picture = Image.new("RGB", (16, 16), (grey,) * 3)
            save(home / "train" / name / f"{grey}-{number}.png", picture)
    save(home / "test/many/0.png", Image.new("RGB", (16, 16), (BLACK,) * 3))
    save(home / "test/few/0.png", Image.new("RGB", (16, 16), (WHITE,) * 3))
    recipe = (
        "net: {name: cifar_resnet20}\n"
        f"data: {{name: Folder, root: {home}, batch_size: 39, size: 16, eval_size: 16, "
        "held_out: 0, augment: none}\n"
        "model: {precise_bn: 39}\n"
        "optimizer: {lr: 0.01, weight_decay: 0}\n"
        "schedule: {name: constant}\n"
        "trainer: {max_epochs: 12, accelerator: cpu, log_every_n_steps: 1}\n"
    )
    (home / "skewed.yaml").write_text(recipe)
    return home


@pytest.mark.parametrize(
    ("flags", "share"),
    [
        ((), 1 / 3),
        (
            ("--model.class_weights=balanced",),
            36 / 42,
        ),  # 3 / 3 of it and 6 / 36
        (("--data.sampling=balanced",), 6 / 7),
    ],
)
def test_a_net_answers_the_rare_class_where_it_is_the_likelier_one_as_weighted(
    tmp_path: Path, skewed: Path, flags: tuple[str, ...], share: float
):
    run = tmp_path / "run"
    assert command("fit", skewed / "skewed.yaml", *flags, "--out", run) == 0
    net = ResNet.from_pretrained(run / "model").eval()
    assert net.labels == ("few", "many")
    white = torch.full((1, 3, 16, 16), WHITE, dtype=torch.uint8)
    with torch.inference_mode():
        found = float(net(net.preprocess.normalise(white)).softmax(1)[0, 0])
    assert found == pytest.approx(share, abs=0.1)
    assert (found > 0.5) == (share > 0.5)  # the recall of the rare class, 0 or 1


def test_the_weights_are_in_the_log_the_dry_run_and_the_checkpoint(
    tmp_path: Path, skewed: Path, capsys
):
    flags = (skewed / "skewed.yaml", "--model.class_weights=balanced", "--trainer.max_epochs=1")
    assert command("fit", *flags, "--out", tmp_path / "run") == 0
    assert "; class weights: few 6.5, many 0.5417\n" in capsys.readouterr().out
    situation = checkpoint(tmp_path / "run")["situation"]
    assert situation["class weights"] == {"few": 6.5, "many": 0.541667}
    assert command("fit", *flags, "--dry-run") == 0
    assert "class weights  few 6.5, many 0.5417\n" in capsys.readouterr().out


def test_a_list_of_another_length_ends_the_run_before_anything_is_trained(
    tmp_path: Path, skewed: Path, capsys
):
    flags = (skewed / "skewed.yaml", "--model.class_weights=[1, 2, 3]", "--out", tmp_path / "run")
    assert "3 weights for 2 classes; give one for each, in the order of few, many" in failure(
        capsys, "fit", *flags
    )
    assert not (tmp_path / "run").exists()


def test_evaluation_is_not_weighted(tmp_path: Path):
    still = ("--optimizer.lr=1e-30", "--optimizer.weight_decay=0", "--trainer.max_epochs=1")
    rows = [
        (fit(tmp_path / name, *still, *flags) / "metrics.csv").read_text().splitlines()
        for name, flags in (
            ("plain", ()),
            ("weighted", ("--model.class_weights=[9, 1, 1, 1, 1, 1, 1, 1, 1, 1]",)),
        )
    ]
    plain, own = (dict(zip(r[0].split(","), r[-1].split(","), strict=True)) for r in rows)
    assert own["val/loss"] == plain["val/loss"]
    assert own["train/epoch_loss"] != plain["train/epoch_loss"]
