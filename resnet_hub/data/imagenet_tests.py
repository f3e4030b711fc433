"""Other test sets for ImageNet's classes: V2, A, R and Sketch, in the folders they come in."""

from collections.abc import Sequence
from typing import ClassVar

from resnet_hub.data.files_module import ImageFilesDataModule
from resnet_hub.errors import BadData, DataMissing, did_you_mean
from resnet_hub.labels import imagenet_classes


class ImageNetTest(ImageFilesDataModule):
    """Test images in one folder a class, straight under the root; there is nothing to train on.

    Labels are ImageNet's, 0 to 999 in the official order, whichever folders are there. Only with
    :attr:`restricted` they are the classes that have a folder, in the same order. ``data.classes``
    leaves out images of the other class folders, and changes no label.

    Attributes:
        outputs: The official labels of the classes, in order, where a net is to choose among these
            alone; known once opened.
    """

    outputs: tuple[int, ...] | None = None

    official: ClassVar[int]
    """Images of the published set."""

    restricted: ClassVar[bool] = False
    """Whether a net chooses among the classes that have a folder alone, as the set's authors do."""

    @property
    def described(self) -> str:
        """What scores on this data are called: the set's name for all of its images alone."""
        whole = len(self.split("test")) == self.official
        return super().described if whole else f"{super().described} (other files)"

    @property
    def folders(self) -> Sequence[str]:
        """What a class folder of each of ImageNet's classes is called, in the order of labels."""
        return list(imagenet_classes())

    def read(self) -> None:
        """Find the images."""
        names, known = list(imagenet_classes().values()), self.folders
        found = self.tree.listing(self.root)[0] if self.tree.is_folder(self.root) else []
        if not found:
            raise DataMissing(
                f"{type(self).__name__}: no class folders in {self.root}; expected {self.layout}"
            )
        for name in found:
            if name not in known:
                raise BadData(
                    f"{self.root / name}: no class folder of {type(self).__name__}"
                    f"{did_you_mean(name, known)}; expected {self.layout}"
                )
        chosen = self.settings.classes
        for name in chosen or ():
            if name not in found:
                raise BadData(f"data.classes: no folder {name} in {self.root}")
        asked = sorted(known.index(name) for name in found)
        if self.restricted and len(asked) < len(known):
            self.outputs = tuple(asked)
        numbers = {known[number]: place for place, number in enumerate(self.outputs or range(1000))}
        self.labels = [names[number] for number in self.outputs or range(1000)]
        taken = found if chosen is None else sorted(set(chosen))
        images = self.tree.labelled(self.root, numbers, taken)
        self.splits = {"test": self.image_files(images, train=False)}


class ImageNetV2(ImageNetTest):
    """Ten new photographs of each class, collected as ImageNet's were (1902.10811).

    The root is the unpacked folder of one of its three samples, and a score is called by it where
    it has its published name: they differ by ten points.
    """

    official: ClassVar[int] = 10_000
    layout: ClassVar[str] = (
        "0/… to 999/…, as imagenetv2-matched-frequency.tar.gz holds them in "
        "imagenetv2-matched-frequency-format-val/"
    )

    @property
    def title(self) -> str:
        """The set's name, with that of the sample."""
        name = self.tree.name(self.root)
        if name.startswith("imagenetv2-") and name.endswith("-format-val"):
            return f"ImageNetV2 {name.removeprefix('imagenetv2-').removesuffix('-format-val')}"
        return "ImageNetV2"

    @property
    def folders(self) -> Sequence[str]:
        """The labels themselves."""
        return [str(number) for number in range(1000)]


class ImageNetA(ImageNetTest):
    """Photographs of 200 classes that a ResNet-50 was wrong about (1907.07174)."""

    official: ClassVar[int] = 7_500
    restricted: ClassVar[bool] = True
    layout: ClassVar[str] = "<wnid>/…, as imagenet-a.tar holds them in imagenet-a/"


class ImageNetR(ImageNetTest):
    """Art, cartoons, toys and other renditions of 200 classes (2006.16241)."""

    official: ClassVar[int] = 30_000
    restricted: ClassVar[bool] = True
    layout: ClassVar[str] = "<wnid>/…, as imagenet-r.tar holds them in imagenet-r/"


class ImageNetSketch(ImageNetTest):
    """Black and white sketches of every class (1905.13549)."""

    official: ClassVar[int] = 50_889
    layout: ClassVar[str] = "<wnid>/…, as ImageNet-Sketch.zip holds them in sketch/"
