"""A teacher's answers as targets, against the paper's formulas; and that it stays outside."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small_runs import checkpoint, failure, fit
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.settings import DistillationSettings, MixingSettings
from resnet_hub.learning.targets.distillation import Teacher, divergence
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess

LABELS = tuple("0123456789")
PIXELS = Preprocess(size=8, resize=None, mean=(0.3,), std=(0.4,))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # on so small images threads wait longer than they work


def net(seed: int = 0, *, classes: Any = LABELS, pixels: Preprocess | None = None) -> ResNet:
    torch.manual_seed(seed)
    own = ResNet("cifar_resnet20", classes=classes, in_channels=1)
    own.preprocess = pixels or Digits().preprocess
    with torch.no_grad():  # answers that differ from image to image, and from net to net
        own.fc.weight.mul_(20)
    return own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A teacher's model folder."""
    net(1).save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(4))


def teacher(own: ResNet, *, labels: Any = LABELS, pixels: Preprocess = PIXELS, **how: Any):
    return Teacher(own, DistillationSettings(teacher="x", **how), labels=labels, preprocess=pixels)


def logits(count: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    one, two = (3 * torch.randn(count, classes, generator=generator) for _ in range(2))
    return one.requires_grad_(), two


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_is_that_of_the_softened_answers(temperature: float):
    student, teachers = logits()
    p, q = ((x / temperature).softmax(1) for x in (teachers, student))
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    found = divergence(student, teachers, temperature=temperature)
    torch.testing.assert_close(found, expected)
    assert float(divergence(teachers, teachers, temperature=temperature)) == 0


def test_its_gradient_is_the_papers_and_at_high_temperature_that_of_matched_logits():
    student, teachers = logits()
    (found,) = torch.autograd.grad(divergence(student, teachers, temperature=3.0), student)
    # 1503.02531 §2, Eq. 2: (q - p) / T, times T², for the mean of 5 images.
    expected = 3.0 * ((student / 3).softmax(1) - (teachers / 3).softmax(1)) / 5
    torch.testing.assert_close(found, expected)
    (found,) = torch.autograd.grad(divergence(student, teachers, temperature=1e3), student)
    # §2.1, Eq. 4: of zero-mean logits v and z it is (z - v) / N.
    v, z = (x - x.mean(1, keepdim=True) for x in (teachers, student))
    torch.testing.assert_close(found, (z - v) / 4 / 5, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_losses_are_weighted_by_alpha(alpha: float):
    own = net(1, pixels=PIXELS)
    guide, student = teacher(own, alpha=alpha, temperature=2.0), torch.randn(6, 10)
    found = guide.guide(torch.tensor(5.0), student, images())
    soft = divergence(student, own(images()), temperature=2.0)
    assert float(found) == pytest.approx(float((1 - alpha) * 5 + alpha * soft), rel=1e-5)


def test_it_answers_in_evaluation_mode_and_takes_no_gradient():
    own = net(1, pixels=PIXELS).train()
    expected = net(1, pixels=PIXELS).eval()(images())
    found = teacher(own).logits(images().requires_grad_())
    assert torch.equal(found, expected.detach())
    assert not found.requires_grad


def test_classes_in_another_order_are_matched_by_their_names():
    own = net(1, pixels=PIXELS)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    labels = [LABELS[i] for i in order]
    assert torch.equal(teacher(own, labels=labels).logits(images()), own(images())[:, order])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (10, "its classes have no names to match the data's by"),
        (("zero", *LABELS[1:]), "10 classes, and the data 10 (missing in it: '0'; in it alone: 'z"),
        ((*LABELS, "ten"), "11 classes, and the data 10 (missing in it: none; in it alone: 'ten')"),
    ],
)
def test_other_classes_are_refused_in_one_line(classes: Any, message: str):
    with pytest.raises(InvalidSetting) as error:
        teacher(net(1, classes=classes, pixels=PIXELS))
    assert message in str(error.value)
    assert str(error.value).startswith("distillation.teacher: ")
    assert "\n" not in str(error.value)


def test_classes_of_one_name_are_not_told_apart_by_it():
    twice = ("crane", "crane", "ox")
    teacher(net(1, classes=twice, pixels=PIXELS), labels=twice)
    with pytest.raises(InvalidSetting, match="names of classes come twice"):
        teacher(net(1, classes=twice, pixels=PIXELS), labels=("crane", "ox", "crane"))


def test_images_are_brought_to_the_teachers_own_normalisation():
    other = Preprocess(size=8, resize=None, mean=(0.1,), std=(0.8,))
    own = net(1, pixels=other)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 1, 8, 8), generator=generator, dtype=torch.uint8)
    found = teacher(own).logits(PIXELS.normalise(pixels))
    torch.testing.assert_close(found, own(other.normalise(pixels)), rtol=1e-4, atol=1e-4)
    mixed = PIXELS.normalise(pixels).lerp(PIXELS.normalise(pixels.flip(0)), 0.3)
    expected = other.normalise(pixels).lerp(other.normalise(pixels.flip(0)), 0.3)
    torch.testing.assert_close(teacher(own).logits(mixed), own(expected), rtol=1e-4, atol=1e-4)


def test_another_mean_image_or_other_channels_are_refused():
    image = Preprocess(size=8, resize=None, mean=(0.1,) * 64, std=(0.8,))
    teacher(net(1, pixels=image), pixels=image)
    with pytest.raises(InvalidSetting, match=r"teacher: was trained with another mean"):
        teacher(net(1, pixels=image))
    three = ResNet("cifar_resnet20", classes=LABELS)
    with pytest.raises(InvalidSetting, match="takes 3 image channels, and the data have 1"):
        teacher(three)


class Steps(Callback):
    """Keeps what the teacher and the student were given, and the losses."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.losses: list[float] = []

    def on_train_start(self, trainer: L.Trainer, module: Classifier) -> None:
        self.teacher = module.teacher.net
        self.before = {n: t.clone() for n, t in self.teacher.state_dict().items()}
        inputs: list[Tensor] = []
        module.net.register_forward_pre_hook(lambda net, given: inputs.append(given[0]))
        self.teacher.register_forward_pre_hook(
            lambda net, given: self.seen.append((inputs[-1], given[0]))
        )

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.losses.append(float(arguments[2]["loss"]))


def fitted(folder: Path, steps: Steps, **how: Any) -> Classifier:
    trainer = make_trainer(
        {
            **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
            **{"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1},
            **{"limit_train_batches": 2, "limit_val_batches": 0, "callbacks": [steps]},
        }
    )
    settings = DistillationSettings(teacher=str(folder), alpha=0.5)
    classifier = Classifier(net(), distillation=settings, **how)
    trainer.fit(classifier, Digits(DataSettings(name="Digits", batch_size=32, pad=1)))
    return classifier


def test_a_teacher_sees_the_mixed_batch_and_is_neither_trained_nor_kept(folder: Path):
    steps = Steps()
    classifier = fitted(folder, steps, mixing=MixingSettings(mixup=1.0))
    assert len(steps.seen) == 2
    for students, teachers in steps.seen:
        assert torch.equal(students, teachers)
    for name, tensor in steps.teacher.state_dict().items():
        assert torch.equal(tensor, steps.before[name]), name
    assert all(p.grad is None and not p.requires_grad for p in steps.teacher.parameters())
    assert not [name for name in classifier.state_dict() if "teacher" in name]
    assert not [m for m in classifier.modules() if m is steps.teacher]
    assert classifier.teacher is None


def test_a_students_loss_is_its_labels_and_the_teachers(folder: Path):
    steps = Steps()
    fitted(folder, steps)
    own = ResNet.from_pretrained(folder)
    students = net().train()(steps.seen[0][0]).detach()
    batch = next(iter(Digits(DataSettings(name="Digits", batch_size=32, pad=1)).train_dataloader()))
    hard = F.cross_entropy(students, batch.labels)
    soft = divergence(students, own(steps.seen[0][1]).detach(), temperature=1.0)
    assert steps.losses[0] == pytest.approx(float(0.5 * hard + 0.5 * soft), rel=1e-4)


def test_a_teacher_that_is_not_there_is_refused_before_any_step(tmp_path: Path):
    with pytest.raises(DataMissing):
        fitted(tmp_path / "nothing", Steps())


def test_a_recipes_teacher_is_in_no_checkpoint_and_no_export(tmp_path: Path, folder: Path, capsys):
    flags = ("--distillation.teacher", folder, "--distillation.temperature=2")
    run = fit(tmp_path / "run", *flags)
    content = checkpoint(run)
    assert not [name for name in content["state_dict"] if "teacher" in name]
    assert content["settings"]["distillation"]["temperature"] == 2
    model = ResNet.from_pretrained(run / "model")
    assert model.state_dict().keys() == net().state_dict().keys()
    newest = max((run / "checkpoints").glob("step-*"))
    again = Classifier.load_from_checkpoint(newest)
    assert again.recipe.distillation.teacher == str(folder)
    assert again.teacher is None
    net(1, classes=tuple("abcdefghij")).save_pretrained(tmp_path / "other")
    flags = ("--out", tmp_path / "second", "--distillation.teacher", tmp_path / "other")
    line = failure(capsys, "fit", "quickstart", *flags)
    assert line.startswith("resnet-hub: distillation.teacher: has 10 classes, and the data 10 (mis")
