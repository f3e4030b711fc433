import gc
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from pictures import cut, pattern, save
from torch import Tensor
from torchvision.transforms import v2

from resnet_hub.data.batches import Batch, BatchSampler, Selection
from resnet_hub.data.crops import Transform, resized_crop_flip, scale_crop_flip, with_policy
from resnet_hub.data.files import ImageFiles
from resnet_hub.data.images import read_image
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.pixels import read_pixels
from resnet_hub.errors import BadData, InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import keyed_generator, sample_keys

SIZE = 16
EVALUATION = Preprocess(size=SIZE, resize=20).crop
RANDOM = resized_crop_flip(SIZE, interpolation="bilinear")

forks = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def with_marks(test: Callable[..., None]) -> Callable[..., None]:
    for mark in forks:
        test = mark(test)
    return test


@pytest.fixture
def samples(tmp_path: Path) -> list[tuple[str, int]]:
    """Twelve distinct pictures, wide and tall, of three classes."""
    sizes = [(40, 30), (30, 41), (SIZE, SIZE), (7, 90)]
    return [
        (str(save(tmp_path / f"{n}.png", pattern(*sizes[n % 4], seed=n))), n % 3) for n in range(12)
    ]


def files(
    samples: list[tuple[str, int]],
    transform: Transform = RANDOM,
    *,
    skip: bool = False,
    fill: bool = False,
    balanced: bool = False,
) -> ImageFiles:
    policy: Literal["raise", "skip"] = "skip" if skip else "raise"
    how = {"on_bad_image": policy, "fill": fill, "balanced": balanced}
    return ImageFiles(samples, transform, classes=3, size=SIZE, seed=5, **how)


def chosen(*indices: int, epoch: int = 0) -> Selection:
    return Selection(epoch, torch.tensor(indices, dtype=torch.int64))


def same(one: Batch, other: Batch) -> bool:
    return one.skipped == other.skipped and all(
        torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True)
    )


def test_a_batch_holds_images_labels_indices_and_keys(samples: list[tuple[str, int]]) -> None:
    batch = files(samples)[chosen(7, 0, 4, epoch=2)]
    assert (batch.images.shape, batch.images.dtype) == ((3, 3, SIZE, SIZE), torch.uint8)
    assert batch.labels.tolist() == [1, 0, 1]
    assert batch.indices.tolist() == [7, 0, 4]
    assert torch.equal(batch.keys, sample_keys(5, 2, batch.indices))
    assert batch.skipped == 0
    assert batch.images.is_contiguous()


def test_evaluation_images_are_what_the_preprocessing_makes_of_the_picture(
    samples: list[tuple[str, int]],
) -> None:
    batch = files(samples, EVALUATION)[chosen(*range(12))]
    for image, (path, _) in zip(batch.images, samples, strict=True):
        assert torch.equal(image, EVALUATION(read_pixels(path)))
        assert (image.int() - EVALUATION(read_image(path)).int()).abs().max() <= 1


def test_a_random_crop_is_torchvisions_under_the_samples_key(
    samples: list[tuple[str, int]],
) -> None:
    reference = v2.Compose([v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()])
    batch = files(samples)[chosen(*range(12), epoch=3)]
    for image, key, (path, _) in zip(batch.images, batch.keys, samples, strict=True):
        pixels = torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1)
        with keyed_generator(int(key)):
            assert torch.equal(image, reference(pixels))


def test_an_image_depends_on_seed_epoch_and_index_alone(samples: list[tuple[str, int]]) -> None:
    whole = files(samples)[chosen(*range(12), epoch=1)]
    torch.manual_seed(99)
    for index in (0, 5, 11):
        alone = files(samples)[chosen(index, epoch=1)]
        assert torch.equal(alone.images[0], whole.images[index])
    assert not torch.equal(files(samples)[chosen(*range(12), epoch=2)].images, whole.images)


def test_reading_leaves_the_default_generator_as_it_was(samples: list[tuple[str, int]]) -> None:
    before = torch.get_rng_state()
    files(samples)[chosen(*range(12))]
    assert torch.equal(torch.get_rng_state(), before)


@with_marks
def test_workers_change_nothing_and_epochs_differ(samples: list[tuple[str, int]]) -> None:
    def epochs(workers: int) -> list[list[Batch]]:
        sampler = BatchSampler(12, 4, seed=5)
        loader = BatchLoader(files(samples), sampler, workers=workers)
        passes = []
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            passes.append(list(loader))
        return passes

    alone, shared = epochs(0), epochs(2)
    for one, other in zip(alone, shared, strict=True):
        assert len(one) == 3
        assert all(map(same, one, other))
    assert all(map(same, alone[0], alone[2]))
    assert alone[0][0].indices.tolist() != alone[1][0].indices.tolist()


@with_marks
def test_sizes_follow_the_epoch_in_workers_that_live_on_and_where_a_pass_is_resumed(
    samples: list[tuple[str, int]],
) -> None:
    knots = ((1, 8), (2, 12))
    transforms = {size: resized_crop_flip(size, interpolation="bilinear") for size in (8, 12)}
    data = ImageFiles(samples, transforms, classes=3, sizes=knots, seed=5)

    def epochs(workers: int, begin: int = 0) -> list[list[Batch]]:
        sampler = BatchSampler(12, 4, seed=5)
        loader = BatchLoader(data, sampler, workers=workers)
        loader.load_state_dict({"epoch": begin, "batches": 2 if begin else 0})
        passes = []
        for epoch in range(begin, 4):
            sampler.set_epoch(epoch)
            passes.append(list(loader))
        return passes

    alone, shared, resumed = epochs(0), epochs(2), epochs(2, begin=1)
    assert [{batch.images.shape[2:] for batch in batches} for batches in alone] == [
        {(8, 8)}, {(8, 8)}, {(12, 12)}, {(12, 12)}
    ]  # fmt: skip
    assert [batch.epoch for batches in alone for batch in batches] == [0] * 3 + [1] * 3 + [
        2] * 3 + [3] * 3  # fmt: skip
    for one, other in zip(alone, shared, strict=True):
        assert all(map(same, one, other))
    for one, other in zip([alone[1][2:], *alone[2:]], resumed, strict=True):
        assert all(map(same, one, other))
    assert len(resumed[0]) == 1


@with_marks
@pytest.mark.parametrize("workers", [0, 2])
def test_repeats_of_an_image_are_augmented_apart(
    samples: list[tuple[str, int]], workers: int
) -> None:
    sampler = BatchSampler(12, 6, seed=5, repeats=3)
    batches = list(BatchLoader(files(samples), sampler, workers=workers))
    images = torch.cat([batch.images for batch in batches])
    indices = torch.cat([batch.indices for batch in batches])
    assert len(indices.unique()) == 4
    for index in indices.unique():
        views = images[indices == index]
        assert len(views.flatten(1).unique(dim=0)) == len(views) == 3
        assert torch.equal(views[0], files(samples)[chosen(int(index))].images[0])


@with_marks
def test_a_policy_comes_after_crop_and_flip_and_workers_change_nothing(
    samples: list[tuple[str, int]],
) -> None:
    policy = v2.TrivialAugmentWide()
    data = files(samples, with_policy(RANDOM, policy))
    batch = data[chosen(*range(12), epoch=3)]
    reference = v2.Compose(
        [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip(), v2.ToPILImage(),
         policy, v2.PILToTensor()]
    )  # fmt: skip
    for image, key, (path, _) in zip(batch.images, batch.keys, samples, strict=True):
        pixels = torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1)
        with keyed_generator(int(key)):
            assert torch.equal(image, reference(pixels))
    loader = BatchLoader(data, BatchSampler(12, 4, seed=5), workers=2)
    alone = BatchLoader(data, BatchSampler(12, 4, seed=5))
    assert all(map(same, loader, alone))
    grey = ImageFiles(
        samples, with_policy(RANDOM, policy), classes=3, channels=1, size=SIZE, seed=5
    )
    assert grey[chosen(0, 1)].images.shape == (2, 1, SIZE, SIZE)


@pytest.mark.fault("D1")
def test_a_bad_image_stops_by_name(samples: list[tuple[str, int]]) -> None:
    path = cut(Path(samples[4][0]))
    with pytest.raises(BadData) as caught:
        files(samples)[chosen(3, 4, 5)]
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.fault("D1")
@with_marks
def test_a_bad_image_met_by_a_worker_stops_in_the_same_one_line(
    samples: list[tuple[str, int]],
) -> None:
    cut(Path(samples[4][0]))

    def said(workers: int) -> str:
        try:
            list(BatchLoader(files(samples), BatchSampler(12, 4, seed=None), workers=workers))
        except BadData as error:
            return str(error)
        return "nothing"

    began = time.perf_counter()
    assert said(2) == said(0)
    assert "\n" not in said(2)
    gc.collect()
    assert time.perf_counter() - began < 8  # else torch waited 5 s for each worker, then killed it


@pytest.mark.fault("D1")
def test_skipped_images_are_left_out_and_counted(samples: list[tuple[str, int]]) -> None:
    whole = files(samples)[chosen(3, 4, 5, 6)]
    cut(Path(samples[4][0]))
    Path(samples[6][0]).unlink()
    batch = files(samples, skip=True)[chosen(3, 4, 5, 6)]
    assert batch.skipped == 2
    assert batch.indices.tolist() == [3, 5]
    assert torch.equal(batch.images, whole.images[[0, 2]])
    assert torch.equal(batch.labels, whole.labels[[0, 2]])
    assert torch.equal(batch.keys, whole.keys[[0, 2]])


def test_a_batch_of_bad_images_alone_is_empty_in_evaluation(samples: list[tuple[str, int]]) -> None:
    for index in (4, 6):
        cut(Path(samples[index][0]))
    batch = files(samples, skip=True)[chosen(4, 6)]
    assert batch.images.shape == (0, 3, SIZE, SIZE)
    assert (batch.indices.tolist(), batch.labels.tolist(), batch.skipped) == ([], [], 2)


def test_a_batch_of_bad_images_alone_is_filled_in_training(samples: list[tuple[str, int]]) -> None:
    whole = files(samples)[chosen(1, epoch=2)]
    for index in (0, 10, 11):
        cut(Path(samples[index][0]))
    data = files(samples, skip=True, fill=True)
    batch = data[chosen(0, 10, epoch=2)]  # behind 10 are 11, 0, both bad, and 1
    assert batch.skipped == 2
    assert same(batch._replace(skipped=0), whole)
    assert data[chosen(10, 3)].indices.tolist() == [3]  # what has an image is not filled
    assert len(data[chosen()].labels) == 0


def test_where_classes_are_balanced_one_of_the_same_class_stands_in(
    samples: list[tuple[str, int]],
) -> None:
    labels = [label for _, label in samples]
    first, second, *rest = (index for index, label in enumerate(labels) if label == labels[4])
    cut(Path(samples[second][0]))
    cut(Path(samples[rest[-1]][0]))
    data = files(samples, skip=True, balanced=True)
    selection = chosen(second, rest[-1], first)
    batch = data[selection]
    assert batch.indices.tolist() == [rest[0], first, first]  # the next, around the end
    assert batch.labels.tolist() == [labels[4]] * 3
    assert batch.skipped == 2
    assert torch.equal(batch.keys, selection.keys(5))  # no two draws are alike
    for index in (first, *rest[:-1]):
        cut(Path(samples[index][0]))
    assert (len(data[selection].labels), data[selection].skipped) == (0, 3)


def test_training_images_of_which_none_can_be_read_stop(samples: list[tuple[str, int]]) -> None:
    for path, _ in samples:
        cut(Path(path))
    with pytest.raises(BadData, match=r"none of the 12 training images can be read, .*/0\.png am"):
        files(samples, skip=True, fill=True)[chosen(4)]


@pytest.mark.fault("D1")
@with_marks
@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_reported_once_a_pass(
    samples: list[tuple[str, int]], workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (0, 5, 6):
        cut(Path(samples[index][0]))
    data = files(samples, skip=True)
    loader = BatchLoader(data, BatchSampler(12, 4, seed=None), workers=workers)
    for _ in range(2):
        assert sum(len(batch.labels) for batch in loader) == 9
    assert [r.getMessage() for r in caplog.records if r.name == "resnet_hub"] == [
        "3 images that could not be read left out of this pass (data.on_bad_image: skip)"
    ] * 2


@with_marks
@pytest.mark.parametrize("workers", [0, 2])
def test_a_split_of_bad_images_alone_is_an_error(
    samples: list[tuple[str, int]], workers: int
) -> None:
    for path, _ in samples[:11]:
        cut(Path(path))
    some = BatchLoader(files(samples, skip=True), BatchSampler(12, 5, seed=None), workers=workers)
    assert [len(batch.labels) for batch in some] == [0, 0, 1]
    cut(Path(samples[11][0]))
    with pytest.raises(BadData, match=r"^none of the 12 images of a split can be read$"):
        list(BatchLoader(files(samples, skip=True), some.order, workers=workers))
    part = BatchSampler(12, 5, seed=None, rank=1, ranks=2)  # the other rank may have read some
    assert sum(len(batch.labels) for batch in BatchLoader(files(samples, skip=True), part)) == 0


def test_no_samples_make_an_empty_batch(samples: list[tuple[str, int]]) -> None:
    batch = files(samples)[chosen()]
    assert batch.images.shape == (0, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.uint8
    assert len(batch.labels) == 0


@pytest.mark.fault("D9")
@pytest.mark.parametrize("label", [-1, 3, -100])
def test_a_label_out_of_range_is_refused_with_its_image(
    samples: list[tuple[str, int]], label: int
) -> None:
    samples[7] = samples[7][0], label
    with pytest.raises(BadData, match=rf"7\.png: label {label} is not 0 to 2"):
        files(samples)


def test_paths_of_any_script_and_length_come_back(tmp_path: Path) -> None:
    names = ["ä ö{}.png", "長い" * 20 + ".png", "a::b.png", "x" * 200 + ".png"]
    paths = [str(save(tmp_path / name)) for name in names]
    data = files([(path, 0) for path in paths])
    assert [data.path(index) for index in range(4)] == paths
    assert len(data[chosen(0, 1, 2, 3)].labels) == 4


def test_one_channel_reads_grey(samples: list[tuple[str, int]]) -> None:
    grey = ImageFiles(samples, RANDOM, classes=3, channels=1, size=SIZE)
    assert grey[chosen(0, 1)].images.shape == (2, 1, SIZE, SIZE)
    with pytest.raises(InvalidSetting, match="1 or 3 channels; the net takes 4"):
        ImageFiles(samples, RANDOM, classes=3, channels=4)


def keyed(transform: Transform, path: Path, keys: int) -> list[Tensor]:
    results = []
    for key in range(keys):
        with keyed_generator(key):
            results.append(transform(read_pixels(path)))
    return results


def test_scale_crop_flip_at_the_pictures_own_scale_is_a_window_or_its_mirror(
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "a.png", pattern(40, 30))
    transform = scale_crop_flip(SIZE, scale=(30, 30), interpolation="bilinear")
    pixels = torch.from_numpy(np.array(pattern(40, 30))).permute(2, 0, 1)
    windows = pixels.unfold(1, SIZE, 1).unfold(2, SIZE, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    mirrored = 0
    places = set()
    for crop in keyed(transform, path, 60):
        straight = (windows == crop).flatten(1).all(1)
        mirror = (windows == crop.flip(2)).flatten(1).all(1)
        assert straight.sum() + mirror.sum() == 1
        mirrored += int(mirror.sum())
        places.add(int((straight | mirror).nonzero()))
    assert 15 < mirrored < 45
    assert len(places) > 40


def test_scale_crop_flip_draws_both_ends_of_its_scale(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", pattern(20, 20))
    wide = scale_crop_flip(SIZE, scale=(SIZE, SIZE + 1), interpolation="bilinear")
    least = scale_crop_flip(SIZE, scale=(SIZE, SIZE), interpolation="bilinear")
    whole = keyed(least, path, 1)[0]
    hits = [torch.equal(crop, whole) or torch.equal(crop.flip(2), whole)
            for crop in keyed(wide, path, 40)]  # fmt: skip
    assert 5 < sum(hits) < 35


@pytest.mark.parametrize("width", [31, 37, 53, 61, 97, 375])
def test_scale_crop_flip_never_falls_a_pixel_short(tmp_path: Path, width: int) -> None:
    for size in ((width, 500), (500, width)):
        path = save(tmp_path / "a.png", pattern(*size))
        for side in (17, 29, 30):
            transform = scale_crop_flip(side, scale=(side, side), interpolation="bicubic")
            assert keyed(transform, path, 1)[0].shape == (3, side, side)


@pytest.mark.parametrize(
    "transform",
    [RANDOM, EVALUATION, scale_crop_flip(SIZE, scale=(SIZE, 20), interpolation="bicubic")],
)
def test_a_data_set_can_be_sent_to_a_fresh_worker(
    samples: list[tuple[str, int]], transform: Transform
) -> None:
    data = files(samples, transform)
    assert same(pickle.loads(pickle.dumps(data))[chosen(2, 9)], data[chosen(2, 9)])


def test_reading_in_a_fresh_worker_imports_no_lightning() -> None:
    code = (
        "import sys, resnet_hub.data.files, resnet_hub.data.loader\n"
        "sys.exit(any(name in sys.modules for name in ('lightning', 'torchmetrics')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_the_same_images_as_evaluation_reads_them(samples: list[tuple[str, int]]) -> None:
    preprocess = Preprocess(size=SIZE, resize=20)
    sizes = {8: resized_crop_flip(8, interpolation="bilinear"), SIZE: RANDOM}
    training = ImageFiles(
        samples, sizes, classes=3, sizes=((0, 8), (1, 16)), on_bad_image="skip", fill=True
    )
    plain = training.as_evaluated(preprocess)
    expected = ImageFiles(samples, EVALUATION, classes=3, size=SIZE)
    assert same(plain[chosen(2, 9)], expected[chosen(2, 9)])
    assert same(pickle.loads(pickle.dumps(plain))[chosen(2)], plain[chosen(2)])
    assert plain.stamp() == training.stamp()
    Path(samples[5][0]).write_bytes(b"broken")
    assert len(plain[chosen(5)].labels) == 0  # no other image stands in
    assert training[chosen(5)].indices.tolist() == [6]  # and of the training split nothing changed


def test_whole_images_keep_their_aspect_and_come_one_by_one(samples: list[tuple[str, int]]) -> None:
    preprocess = Preprocess(size=SIZE, resize=20)
    training = ImageFiles(samples, RANDOM, classes=3, size=SIZE, on_bad_image="skip", fill=True)
    whole = training.as_resized(preprocess)
    assert (training.uniform, training.as_evaluated(preprocess).uniform) == (True, True)
    assert not whole.uniform
    for index, shape in enumerate([(20, 26), (27, 20), (20, 20), (257, 20)]):
        batch = whole[chosen(index)]
        assert batch.images.shape == (1, 3, *shape)
        pixels = read_pixels(samples[index][0])
        assert torch.equal(batch.images[0], preprocess.resized(pixels))
        assert batch.labels.tolist() == [index % 3]
    assert whole.stamp() == training.stamp()
    Path(samples[5][0]).write_bytes(b"broken")
    assert whole[chosen(5)].images.shape == (0, 3, SIZE, SIZE)
    assert whole[chosen(5)].skipped == 1


def test_a_stamp_tells_other_files_labels_and_readings(samples: list[tuple[str, int]]) -> None:
    own = files(samples)
    stamps = {own.stamp(), files(samples, skip=True).stamp(), files(samples[:-1]).stamp()}
    stamps.add(files([(path, 0) for path, _ in samples]).stamp())
    stamps.add(ImageFiles(samples, RANDOM, classes=3, size=SIZE, exif="apply").stamp())
    assert len(stamps) == 5
    assert files(samples, EVALUATION).stamp() == own.stamp()
    picture = Path(samples[3][0])
    before = picture.stat().st_mtime_ns
    os.utime(picture, ns=(before, before + 1))
    assert own.stamp() not in stamps
    os.utime(picture, ns=(before, before))
    assert own.stamp() in stamps
    picture.write_bytes(picture.read_bytes() + b" ")
    os.utime(picture, ns=(before, before))
    assert own.stamp() not in stamps
    picture.unlink()
    with pytest.raises(BadData, match=r"3\.png: No such file"):
        own.stamp()
