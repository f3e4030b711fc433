"""Several looks at a picture, against torchvision's crops and loops over every position."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pictures import pattern, save
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from resnet_hub.data.cifar import Cifar10
from resnet_hub.data.digits import Digits
from resnet_hub.data.folder import Folder
from resnet_hub.data.imagenet import ImageNet
from resnet_hub.data.images import read_image
from resnet_hub.data.module import DataModule
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, InvalidSetting
from resnet_hub.evaluation.cached import logits
from resnet_hub.evaluation.ensemble import ensemble
from resnet_hub.evaluation.views import Views, averaged
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.convert import convert, read_checkpoint
from resnet_hub.weights.match import matched
from resnet_hub.zoo import find_row

pytestmark = pytest.mark.usefixtures("own_cache")

CPU = {"accelerator": "cpu"}
SIZE, RESIZE, SIZES = 16, 21, (16, 19, 26)
ASPECTS = [(40, 30), (30, 41), (30, 30), (57, 23), (24, 64), (33, 31)]

Picture = Image.Image | Tensor
"""Of a file, or of a set in memory: torch and PIL resize to other bytes."""

Looks = Callable[[ResNet, Preprocess, Picture], list[list[Tensor]]]
"""A picture's answers ``(classes,)``, in groups that weigh alike."""


def colourful(name: str = "cifar_resnet20", **options: object) -> ResNet:
    """A fresh net whose answers to several looks differ visibly."""
    torch.manual_seed(3)
    net = ResNet(name, **options).eval()
    channels = net.architecture.in_channels
    pixels = [v2.functional.pil_to_tensor(pattern(32, 32, seed=n))[:channels] for n in range(9)]
    with torch.no_grad():
        answers = net(Preprocess.default_for(net.architecture).normalise(torch.stack(pixels)))
        net.fc.weight /= answers.std()
        net.fc.bias.copy_(net.fc.bias - answers.mean(0) / answers.std())
    return exact(net)


def exact(net: ResNet) -> ResNet:
    """Let a net compute in float64: batches of other shapes differ in float32's last bits."""
    net.double().conv1.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    return net


@pytest.fixture
def pictures(tmp_path: Path) -> Folder:
    """Wide, tall and square pictures of two classes, in files."""
    for number, (width, height) in enumerate(ASPECTS):
        path = tmp_path / "val" / ("ant", "bee")[number % 2] / f"{number}.png"
        save(path, pattern(width, height, seed=number))
    return folder(tmp_path)


def folder(root: Path, **settings: object) -> Folder:
    own = {"name": "Folder", "root": str(root), "eval_size": SIZE, "eval_resize": RESIZE}
    data = Folder(DataSettings(**{**own, "batch_size": 4, **settings}))
    data.open()
    return data


def digits(**settings: object) -> Digits:
    data = Digits(DataSettings(name="Digits", **settings))
    data.open()
    return data


def opened(data: Folder | ImageNet) -> list[Tensor]:
    files = data.split("val")
    paths = map(files.path, range(len(files)))
    return [v2.functional.pil_to_tensor(read_image(path)) for path in paths]  # resized as bytes


def resized(image: Picture, side: int) -> Picture:
    return v2.functional.resize(image, [side], antialias=True)


def answer(net: ResNet, preprocess: Preprocess, image: Picture) -> Tensor:
    """Return the net's answer to one image as it is."""
    if isinstance(image, Image.Image):
        image = v2.functional.pil_to_tensor(image)
    pixels = v2.functional.to_dtype(image, scale=True)
    return net(v2.functional.normalize(pixels, preprocess.mean, preprocess.std)[None])[0]


def flip(net: ResNet, preprocess: Preprocess, image: Picture) -> list[list[Tensor]]:
    crop = v2.functional.center_crop(resized(image, preprocess.resize), [preprocess.size] * 2)
    return [[answer(net, preprocess, look) for look in (crop, v2.functional.horizontal_flip(crop))]]


def ten_crop(net: ResNet, preprocess: Preprocess, image: Picture) -> list[list[Tensor]]:
    crops = v2.TenCrop(preprocess.size)(resized(image, preprocess.resize))
    return [[answer(net, preprocess, crop) for crop in crops]]


def dense(sizes: Sequence[int], *, mirrors: bool) -> Looks:
    """Return the answers at each position, in a plain loop over what the net itself pools."""

    def looks(net: ResNet, preprocess: Preprocess, image: Picture) -> list[list[Tensor]]:
        maps: list[Tensor] = []
        hook = net.avgpool.register_forward_pre_hook(lambda _, given: maps.append(given[0][0]))
        own = (preprocess.channels, preprocess.size, preprocess.size)
        answer(net, preprocess, torch.zeros(own, dtype=torch.uint8))
        window = maps.pop().shape[-1]
        groups = []
        for side in sizes:
            whole = resized(image, side)
            for look in [whole, v2.functional.horizontal_flip(whole)] if mirrors else [whole]:
                answer(net, preprocess, look)
            parts = []
            for found in maps:
                for y in range(found.shape[1] - window + 1):
                    for x in range(found.shape[2] - window + 1):
                        part = found[:, y : y + window, x : x + window]
                        parts.append(net.fc(part.mean((1, 2))[None])[0])
            maps.clear()
            groups.append(parts)
        hook.remove()
        return groups

    return looks


@torch.no_grad()
def direct(
    net: ResNet,
    preprocess: Preprocess,
    images: Sequence[Picture],
    looks: Looks,
    average: str = "probabilities",
) -> Tensor:
    """Return each picture's probabilities, float64 ``(N, classes)``."""
    rows = []
    for image in images:
        groups = [torch.stack(x).double() for x in looks(net, preprocess, image)]
        if average == "probabilities":
            groups = [x.softmax(1) for x in groups]
        mean = torch.stack([x.mean(0) for x in groups]).mean(0)
        rows.append(mean if average == "probabilities" else mean.softmax(0))
    return torch.stack(rows)


def probabilities(net: ResNet, data: DataModule, views: Views) -> Tensor:
    return logits(net, data, views, trainer=CPU).values.double().softmax(1)


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


CASES = [
    (Views(kind="flip"), flip),
    (Views(kind="ten_crop"), ten_crop),
    (Views(kind="dense", sizes=(SIZE,), flip=False), dense((SIZE,), mirrors=False)),
    (Views(kind="dense", sizes=(23,)), dense((23,), mirrors=True)),
    (Views(kind="dense", sizes=SIZES), dense(SIZES, mirrors=True)),
    (Views(kind="dense", sizes=SIZES, flip=False), dense(SIZES, mirrors=False)),
]
NAMES = ["flip", "ten_crop", "dense-own-plain", "dense-one", "dense-many", "dense-many-plain"]


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize(("views", "looks"), CASES, ids=NAMES)
def test_views_of_files_of_every_aspect_equal_a_direct_computation(
    pictures: Folder, views: Views, looks: Looks, average: str
):
    net = colourful(classes=2)
    expected = direct(net, pictures.preprocess, opened(pictures), looks, average)
    found = probabilities(net, pictures, replace(views, average=average))
    assert_near(found, expected)
    assert (found - probabilities(net, pictures, Views())).abs().max() > 1e-3


def test_the_two_averages_are_not_one(pictures: Folder):
    net = colourful(classes=2)
    for kind in ("flip", "ten_crop", "dense"):
        one = probabilities(net, pictures, Views(kind=kind))
        other = probabilities(net, pictures, Views(kind=kind, average="logits"))
        assert (one - other).abs().max() > 1e-5


def test_one_look_is_the_nets_answer_to_the_central_crop(pictures: Folder):
    net, preprocess = colourful(classes=2), pictures.preprocess
    images = torch.stack([preprocess(image) for image in opened(pictures)])
    with torch.no_grad():
        expected = net(images)
    found = logits(net, pictures, trainer=CPU)
    torch.testing.assert_close(found.values, expected.float(), atol=1e-6, rtol=1e-6)
    assert found.labels.tolist() == pictures.split("val").labels.tolist()
    assert found.indices.tolist() == list(range(6))


@pytest.mark.parametrize("name", ["cifar_preact_resnet20", "resnet18", "cifar_plain20"])
def test_dense_pools_what_each_net_pools(pictures: Folder, name: str):
    net = colourful(name, classes=2)
    looks = dense((40,), mirrors=True)
    data = folder(Path(pictures.settings.root), eval_size=32, eval_resize=32)
    found = probabilities(net, data, Views(kind="dense", sizes=(40,)))
    assert_near(found, direct(net, data.preprocess, opened(data), looks))


def test_dense_at_the_nets_own_size_is_the_net_on_square_pictures():
    net, data = colourful(in_channels=1), digits()
    one = logits(net, data, trainer=CPU)
    other = logits(net, data, Views(kind="dense", sizes=(8,), flip=False), trainer=CPU)
    torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("views", "looks"),
    [
        (Views(kind="flip"), flip),
        (Views(kind="ten_crop"), ten_crop),
        (Views(kind="dense", sizes=(8, 11)), dense((8, 11), mirrors=True)),
    ],
    ids=["flip", "ten_crop", "dense"],
)
def test_views_of_a_set_in_memory_equal_a_direct_computation(views: Views, looks: Looks):
    net, data = colourful(in_channels=1), digits(eval_resize=11, batch_size=50)
    test = data.split("test")
    found = probabilities(net, data, views)
    assert_near(found[:12], direct(net, data.preprocess, test.images[:12], looks))
    assert len(found) == len(test) == 360


def test_a_batch_of_crops_goes_through_the_net_in_parts(pictures: Folder, passes: list[int]):
    net = colourful(classes=2)
    passes.clear()
    probabilities(net, pictures, Views(kind="ten_crop"))
    assert sum(passes) == 60
    assert max(passes) == 4  # data.batch_size


def test_the_papers_sizes_are_taken_in_proportion():
    assert Views(kind="dense").resolved(Preprocess()).sizes == (224, 256, 384, 480, 640)
    own = Preprocess(size=32, resize=None)
    assert Views(kind="dense").resolved(own).sizes == (32, 37, 55, 69, 91)
    assert Views(kind="dense", sizes=(40,)).resolved(own).sizes == (40,)
    assert Views(kind="flip").resolved(own) == Views(kind="flip")


@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_an_average_of_looks_is_softmax_and_mean_in_whole_precision(spread: float):
    torch.manual_seed(0)
    looks = torch.randn(5, 7, 4) * spread
    expected = looks.double().softmax(2).mean(1)
    found = averaged(looks, "probabilities").double()
    assert_near(found.softmax(1), expected)
    assert_near(found.exp(), expected)
    torch.testing.assert_close(averaged(looks, "logits"), looks.mean(1))
    assert averaged(looks, "probabilities").dtype == torch.float32
    assert averaged(looks[:0], "probabilities").shape == (0, 4)


def test_one_look_keeps_its_logits_bit_for_bit():
    looks = torch.randn(5, 1, 4)
    assert torch.equal(averaged(looks, "probabilities"), looks[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "ten_crops"}, "views: 'ten_crops' is none of .*; did you mean 'ten_crop'"),
        ({"average": "logit"}, "average: 'logit' is none of probabilities, logits"),
        ({"sizes": (224,)}, "sizes: are for dense views; these are center"),
        ({"kind": "ten_crop", "sizes": (224,)}, "for dense views; these are ten_crop"),
        ({"kind": "dense", "sizes": ()}, r"sizes: \(\) are no sides"),
        ({"kind": "dense", "sizes": (224, 224)}, "are no sides of a picture, each once"),
        ({"kind": "dense", "sizes": (0, 224)}, "are no sides of a picture, each once"),
    ],
)
def test_views_that_cannot_be_are_refused(options: dict, message: str):
    with pytest.raises(InvalidSetting, match=message) as error:
        Views(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("views", "preprocess", "message"),
    [
        ({"kind": "ten_crop"}, {"size": 32, "resize": None}, "such as 37"),
        ({"kind": "ten_crop"}, {"size": 224, "resize": 224}, "larger --data.eval_resize, such as"),
        ({"kind": "dense", "sizes": (256, 200)}, {}, "sizes: 200 is below the 224 pixels"),
        ({"kind": "dense", "sizes": (224, 5000)}, {}, "5000 is not 1 to 4,096 pixels"),
    ],
)
def test_views_that_the_preprocessing_has_no_room_for_are_refused(
    views: dict, preprocess: dict, message: str
):
    with pytest.raises(InvalidSetting, match=message) as error:
        Views(**views).resolved(Preprocess(**preprocess))
    assert "\n" not in str(error.value)


def test_refusals_come_before_any_pass(pictures: Folder, passes: list[int]):
    grey, coloured = colourful(in_channels=1), colourful(classes=2)
    passes.clear()
    with pytest.raises(InvalidSetting, match="ten_crop needs pictures larger than the crop of 8"):
        probabilities(grey, digits(), Views(kind="ten_crop"))
    with pytest.raises(InvalidSetting, match="5000"):
        probabilities(coloured, pictures, Views(kind="dense", sizes=(16, 5000)))
    assert passes == []


def test_a_mean_image_has_one_size_but_may_be_mirrored():
    mean = tuple(i / 100 for i in range(64))
    preprocess = Preprocess(size=8, resize=None, mean=mean, std=(0.3,))
    data = Digits(DataSettings(name="Digits"), preprocess=preprocess)
    data.open()
    net = colourful(in_channels=1)
    with pytest.raises(InvalidSetting, match="dense takes pictures of other sizes than 8 pixels"):
        probabilities(net, data, Views(kind="dense"))
    images = data.split("test").images
    with torch.no_grad():
        looks = [net(preprocess.normalise(x)) for x in (images, images.flip(3))]
    expected = torch.stack(looks).double().softmax(2).mean(0)
    assert_near(probabilities(net, data, Views(kind="flip")), expected)


@pytest.mark.parametrize(
    "views", [Views(), Views(kind="ten_crop"), Views(kind="dense", sizes=(16, 20))], ids=str
)
def test_pictures_left_out_have_no_row(tmp_path: Path, pictures: Folder, views: Views):
    net = colourful(classes=2)
    whole = logits(net, pictures, views, trainer=CPU)
    for name in ("ant/0", "bee/3"):
        (tmp_path / f"val/{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    data = folder(tmp_path, on_bad_image="skip", batch_size=1)
    broken = [pictures.split("val").path(i)[-9:-4] in ("ant/0", "bee/3") for i in range(6)]
    left = [number for number, is_broken in enumerate(broken) if not is_broken]
    found = logits(net, data, views, trainer=CPU)
    assert found.indices.tolist() == left
    assert found.labels.tolist() == whole.labels[left].tolist()
    torch.testing.assert_close(found.values, whole.values[left], atol=1e-5, rtol=1e-5)
    with pytest.raises(BadData, match=r"ant/0\.png"):
        logits(net, folder(tmp_path), views, trainer=CPU)


@pytest.mark.parametrize("kind", ["center", "dense"])
def test_where_no_picture_can_be_read_it_is_one_line(tmp_path: Path, pictures: Folder, kind: str):
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(BadData) as error:
        probabilities(colourful(classes=2), folder(tmp_path, on_bad_image="skip"), Views(kind=kind))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (Views(), "central crop"),
        (Views(kind="flip"), "central crop and mirror, probabilities averaged"),
        (Views(kind="ten_crop", average="logits"), "ten crops, logits averaged"),
        (
            Views(kind="dense", sizes=(224, 256)),
            "dense at 224, 256, mirrored too, probabilities averaged",
        ),
        (
            Views(kind="dense", sizes=(224,), flip=False),
            "dense at 224, probabilities averaged",
        ),
    ],
)
def test_views_say_what_they_are(views: Views, words: str):
    assert str(views) == words


@pytest.fixture(scope="module")
def photographs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real pictures of ImageNet: wide, tall, square, and of odd sides."""
    chosen: dict[str, Path] = {}
    for path in sorted((real_data / "imagenet-sample/val").rglob("*.JPEG")):
        with Image.open(path) as picture:
            width, height = picture.size
        kind = "square" if width == height else "wide" if width > height else "tall"
        if max(width, height) <= 500:
            chosen.setdefault(kind, path)
            if (128 * max(width, height) // min(width, height)) % 2:
                chosen.setdefault(f"odd {kind}", path)
    assert {"wide", "tall", "square", "odd wide", "odd tall"} <= set(chosen)
    root = tmp_path_factory.mktemp("photographs")
    for path in chosen.values():
        copy = root / "val" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return root


@pytest.mark.data
@pytest.mark.parametrize(
    ("views", "looks"),
    [
        (Views(kind="ten_crop"), ten_crop),
        (Views(kind="dense", sizes=(112, 128)), dense((112, 128), mirrors=True)),
        (Views(kind="dense", sizes=(112, 128), average="logits"), dense((112, 128), mirrors=True)),
    ],
    ids=["ten_crop", "dense", "dense-logits"],
)
def test_on_real_photographs_views_equal_a_direct_computation(
    photographs: Path, views: Views, looks: Looks
):
    net = colourful("resnet18")
    sizes = {"eval_size": 112, "eval_resize": 128}
    data = ImageNet(DataSettings(name="ImageNet", root=str(photographs), **sizes))
    data.open()
    found = probabilities(net, data, views)
    assert_near(found, direct(net, data.preprocess, opened(data), looks, views.average))


@pytest.mark.data
def test_of_published_weights_on_real_images_views_and_ensembles_equal_a_direct_computation(
    real_data: Path, lossless_cifar10: Path
):
    nets = []
    for file, name in (
        ("resnet20-12fca82f.th", "cifar_resnet20"),
        ("resnet44-014dd654.th", "cifar_resnet44"),
    ):
        converted = convert(read_checkpoint(real_data / "published-weights" / file))
        net = ResNet(find_row(name).architecture).eval()
        net.load_state_dict(matched(converted.tensors, net.state_dict(), file))
        nets.append(exact(net))
    settings = DataSettings(root=str(lossless_cifar10), download=False, eval_resize=36)
    data = Cifar10(settings, preprocess=converted.preprocess)
    data.open()
    test = data.split("test")
    test.rows = torch.arange(10)
    for views, looks in (
        (Views(kind="ten_crop"), ten_crop),
        (Views(kind="dense", sizes=(32, 41)), dense((32, 41), mirrors=True)),
    ):
        expected = [direct(net, data.preprocess, test.images[:10], looks) for net in nets]
        parts = [logits(net, data, views, trainer=CPU) for net in nets]
        for part, own in zip(parts, expected, strict=True):
            assert_near(part.values.double().softmax(1), own)
            assert (part.values.argmax(1) == test.targets).float().mean() > 0.8
        together = ensemble(parts).values.double().softmax(1)
        assert_near(together, torch.stack(expected).mean(0))
