"""Probes of whole nets, with scikit-learn as the reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import class_folders
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from resnet_hub.data.cifar import Cifar10
from resnet_hub.data.digits import Digits
from resnet_hub.data.folder import Folder
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing, InvalidSetting
from resnet_hub.evaluation import linear
from resnet_hub.evaluation.cached import one_device, outputs
from resnet_hub.evaluation.probe import Accuracy, Probe, probe
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.convert import convert, read_checkpoint
from resnet_hub.weights.match import matched
from resnet_hub.zoo import find_row

CPU = {"accelerator": "cpu"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def few_steps(monkeypatch) -> None:
    """For tests that the optimum is no matter to."""
    monkeypatch.setattr(linear, "_STEPS", 20)


def digits(*, seed: int = 0) -> Digits:
    data = Digits(DataSettings(name="Digits"), seed=seed)
    data.open()
    return data


def folder(root: Path, *, seed: int = 0, **settings: object) -> Folder:
    own = {"name": "Folder", "root": str(root), "eval_size": 16, "batch_size": 4, **settings}
    data = Folder(DataSettings(**own), seed=seed)
    data.open()
    return data


def of_digits(net: ResNet, **more: object) -> Probe:
    return probe(net, digits(), trainer=CPU, **more)


def test_digits_are_answered_as_scikit_learn_answers_them(net: ResNet):
    found, data = of_digits(net, k=7, temperature=0.2), digits()
    train, test = (outputs(net, data, s, trainer=one_device(CPU)) for s in ("train", "test"))
    assert (found.data, found.n, found.training_n) == ("Digits test", 360, 1257)
    assert (found.features, found.classes) == (64, tuple("0123456789"))
    assert (found.k, found.temperature, found.from_cache) == (7, 0.2, False)

    scaler = StandardScaler().fit(train.values.double().numpy())
    rows = [scaler.transform(x.values.double().numpy()) for x in (train, test)]
    linear = LogisticRegression(C=1 / (found.l2.l2 * 1257), max_iter=5000, tol=1e-8)
    expected = linear.fit(rows[0], train.labels).score(rows[1], test.labels)
    assert found.linear.top1 == pytest.approx(expected, abs=1.5 / 360)

    def weights(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance) / 0.2)

    for kind, accuracy in ((weights, found.knn), ("uniform", found.knn_plain)):
        model = KNeighborsClassifier(7, metric="cosine", algorithm="brute", weights=kind)
        expected = model.fit(train.values, train.labels).score(test.values, test.labels)
        assert accuracy.top1 == pytest.approx(expected, abs=1.5 / 360)
    # Even random filters tell digits apart.
    assert min(found.linear.top1, found.knn.top1, found.knn_plain.top1) > 0.6
    assert found.linear.top1 < found.linear.top5 <= 1


def test_an_accuracy_counts_the_first_and_any_answer():
    given = torch.tensor([[1, 2, -1], [0, 1, 2], [2, 0, 1], [0, -1, -1]])
    found = Accuracy.of(given, torch.tensor([1, 1, 2, 2]))
    assert (found.top1, found.top5) == (0.5, 0.75)
    assert found.top1_interval == pytest.approx((0.15, 0.85), abs=0.005)


def test_the_same_seed_gives_the_same_and_a_second_probe_takes_no_pass(
    net: ResNet, few_steps, monkeypatch
):
    first = of_digits(net)

    def refuse(net: ResNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(ResNet, "features", refuse)
    second = of_digits(net)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert {**vars(first), "from_cache": True} == vars(second)
    other = probe(net, digits(), seed=1, trainer=CPU)
    assert other.l2.tried != first.l2.tried
    assert other.knn == first.knn


def test_the_penalty_is_not_chosen_on_the_tested_images(net: ResNet, few_steps):
    first, data = of_digits(net), digits()
    labels = data.split("test").labels
    data.split("test").labels = (labels + 1) % 10  # all of them wrong
    found = probe(net, data, trainer=CPU)
    assert found.l2 == first.l2
    assert found.linear.top1 < 0.1 < first.linear.top1


def test_the_head_and_its_classes_are_not_used(net: ResNet, few_steps):
    three = ResNet("cifar_resnet20", classes=["a", "b", "c"], in_channels=1)
    body = {n: x for n, x in net.state_dict().items() if not n.startswith("fc.")}
    three.load_state_dict(body, strict=False)
    assert vars(of_digits(three)) == vars(of_digits(net))


def test_two_classes_of_a_folder_and_its_val_split(tmp_path: Path):
    class_folders(tmp_path / "data/train", {"ant": 9, "bee": 6})
    class_folders(tmp_path / "data/val", {"ant": 3, "bee": 2})
    torch.manual_seed(0)
    found = probe(ResNet("cifar_resnet20", classes=5), folder(tmp_path / "data"), trainer=CPU)
    assert (found.data, found.n, found.training_n) == ("Folder val", 5, 15)
    assert found.classes == ("ant", "bee")
    assert found.k == 15  # of 20, for there are no more
    assert (found.linear.top5, found.knn.top5) == (1.0, 1.0)
    assert found.l2.n == 3


def test_a_class_with_a_single_training_image_is_answered(tmp_path: Path):
    class_folders(tmp_path / "data/train", {"ant": 6, "bee": 1, "cat": 6})
    class_folders(tmp_path / "data/val", {"ant": 1, "bee": 1, "cat": 1})
    one = tmp_path / "data/train/bee/0.png"
    (tmp_path / "data/val/bee/0.png").write_bytes(one.read_bytes())
    torch.manual_seed(0)
    found = probe(ResNet("cifar_resnet20"), folder(tmp_path / "data"), k=1, trainer=CPU)
    assert (found.n, found.training_n) == (3, 13)
    assert found.knn.top1 >= 1 / 3  # its own picture is the nearest
    assert found.linear.top5 == 1.0


def test_two_training_images_are_enough(tmp_path: Path):
    class_folders(tmp_path / "data/train", {"ant": 1, "bee": 1})
    class_folders(tmp_path / "data/val", {"ant": 1, "bee": 1})
    found = probe(ResNet("cifar_resnet20"), folder(tmp_path / "data"), trainer=CPU)
    assert (found.k, found.l2.n) == (2, 1)


def test_training_images_of_one_class_are_refused(tmp_path: Path):
    class_folders(tmp_path / "data/train", {"ant": 3, "bee": 1})
    class_folders(tmp_path / "data/val", {"ant": 1, "bee": 1})
    (tmp_path / "data/train/bee/0.png").write_bytes(b"broken")
    data = folder(tmp_path / "data", on_bad_image="skip")
    with pytest.raises(BadData, match="Folder train: all 3 images are of one class"):
        probe(ResNet("cifar_resnet20"), data, trainer=CPU)


def test_data_without_training_images_are_refused_before_any_pass(tmp_path: Path, monkeypatch):
    class_folders(tmp_path / "data/val", {"ant": 1, "bee": 1})
    monkeypatch.setattr(ResNet, "features", None)
    with pytest.raises(DataMissing, match="Folder: no train images"):
        probe(ResNet("cifar_resnet20"), folder(tmp_path / "data"), trainer=CPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: 0 neighbours cannot vote"),
        ({"temperature": 0.0}, "temperature: 0 is not above 0"),
        ({"temperature": float("nan")}, "temperature: nan is not above 0"),
        ({"temperature": float("inf")}, "temperature: inf is not above 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(net: ResNet, options: dict, message: str):
    with pytest.raises(InvalidSetting, match=message):
        of_digits(net, **options)


@pytest.mark.data
def test_features_of_published_weights_are_as_good_as_their_own_head(
    real_data: Path, lossless_cifar10: Path
):
    path = real_data / "published-weights/resnet20-12fca82f.th"
    converted = convert(read_checkpoint(path))
    net = ResNet(find_row("cifar_resnet20").architecture)
    net.load_state_dict(matched(converted.tensors, net.state_dict(), str(path)))
    settings = DataSettings(root=str(lossless_cifar10), download=False)
    data = Cifar10(settings, preprocess=converted.preprocess)
    data.open()
    found = probe(net, data, trainer=CPU)
    assert (found.n, found.training_n) == (1017, 5085)
    published = 0.9173  # the author's, of all 10,000 test images
    for accuracy in (found.linear, found.knn, found.knn_plain):
        low, high = accuracy.top1_interval
        assert low < published < high
