"""Write the catalog of published weights from the installed torchvision and timm.

    python tools/make_catalog.py [FILE]

Without FILE the package's own is replaced, and its page of the documents. Review the difference:
published weights never change, so a line that does is a mistake here or there.
"""

import csv
import io
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torchvision

from resnet_hub.zoo import ARCHITECTURES

CHECKOUT = Path(__file__).parents[1]
CATALOG_FILE = CHECKOUT / "resnet_hub" / "weights" / "catalog.csv"
PAGE_FILE = CHECKOUT / "docs" / "catalog.md"

TORCHVISION_TAGS = {"IMAGENET1K_V1": "tv_v1", "IMAGENET1K_V2": "tv_v2"}
TIMM_TAGS = ("a1", "a2", "a3")
DTYPES = {2: "float16", 4: "float32"}
LICENCES = {"apache-2.0": "Apache-2.0"}
SIZE = 224  # pixels that 2110.00476 tests all three of its recipes at

# timm ships no scores: these are of results/results-imagenet.csv of its repository, at commit
# 7479d451a6dfd8af27f941b8e82a7402461fae80, the rows of 224 pixels, crop 0.95, bicubic.
TIMM_SCORES = {
    "resnet18": {"a1": (71.488, 90.076), "a2": (70.634, 89.486), "a3": (68.246, 88.158)},
    "resnet34": {"a1": (76.414, 92.886), "a2": (75.516, 92.456), "a3": (72.982, 91.116)},
    "resnet50": {"a1": (80.382, 94.598), "a2": (79.828, 94.560), "a3": (78.052, 93.780)},
    "resnet101": {"a1": (81.494, 95.164), "a2": (81.344, 95.198), "a3": (79.820, 94.614)},
    "resnet152": {"a1": (81.998, 95.294), "a2": (81.764, 95.270), "a3": (80.548, 95.004)},
    "resnext50_32x4d": {"a1": (80.526, 94.458), "a2": (80.444, 94.630), "a3": (79.252, 94.290)},
}

PAGE = """# Published weights

`ResNet.from_pretrained("resnet50.a1")` fetches the file that upstream publishes, checks its hash,
turns it into a model folder in the cache, and loads that from then on. A net's bare name means its
**default**, which is torchvision's. The scores are upstream's own, measured on ImageNet's 50,000
validation images by the central crop; where the licence is unstated, upstream states none for its
weights.

| weights | top-1 | top-5 | pixels | licence | recipe |
|---|---|---|---|---|---|
{rows}
`python tools/make_catalog.py` makes this page and the catalog from the installed torchvision and
timm. timm's scores are of its `results/results-imagenet.csv` at commit 7479d45.
"""


def rows() -> Iterator[dict[str, Any]]:
    """Yield each published weight of each net of the table."""
    for net in ARCHITECTURES:
        yield from timm_rows(net)
        yield from torchvision_rows(net)


def torchvision_rows(net: str) -> Iterator[dict[str, Any]]:
    """Yield torchvision's weights of a net."""
    if net not in torchvision.models.list_models():
        return
    published = torchvision.models.get_model_weights(net)
    for weights in published:
        pixels, facts = weights.transforms(), weights.meta
        scores = facts["_metrics"]["ImageNet-1K"]
        width = facts["_file_size"] * 2**20 / facts["num_params"]  # bytes a number
        yield {
            "name": f"{net}.{TORCHVISION_TAGS[weights.name]}",
            "url": weights.url,
            "sha256": stated_hash(weights.url),
            "dtype": DTYPES[round(width)],
            "licence": "unstated",
            "recipe": facts["recipe"],
            "size": pixels.crop_size[0],
            "resize": pixels.resize_size[0],
            "interpolation": pixels.interpolation.value,
            "mean": spaced(pixels.mean),
            "std": spaced(pixels.std),
            "top1": fraction(scores["acc@1"]),
            "top5": fraction(scores["acc@5"]),
            "default": "yes" if weights is published.DEFAULT else "no",
        }


def timm_rows(net: str) -> Iterator[dict[str, Any]]:
    """Yield timm's weights of "ResNet strikes back" (2110.00476) of a net."""
    if net not in TIMM_SCORES:
        return  # timm has weights of more nets; a row of the catalog states their scores too
    published = timm.list_pretrained(f"{net}.*")
    for tag in TIMM_TAGS:
        if f"{net}.{tag}_in1k" not in published:
            continue
        facts = timm.get_pretrained_cfg(f"{net}.{tag}_in1k")
        # A3 is trained at 160 pixels and tested at 224; A1 and A2 are trained at 224.
        tested = facts.input_size[1] == SIZE
        crop = facts.crop_pct if tested else facts.test_crop_pct
        top1, top5 = TIMM_SCORES[net][tag]
        yield {
            "name": f"{net}.{tag}",
            "url": facts.url,
            "sha256": stated_hash(facts.url),
            "dtype": "",
            "licence": LICENCES[facts.license] if facts.license else "unstated",
            "recipe": f"{facts.paper_ids} {tag.upper()}",
            "size": SIZE,
            "resize": math.floor(SIZE / crop),
            "interpolation": facts.interpolation,
            "mean": spaced(facts.mean),
            "std": spaced(facts.std),
            "top1": fraction(top1),
            "top5": fraction(top5),
            "default": "no",
        }


def stated_hash(url: str) -> str:
    """Return the beginning of the SHA-256 that both projects write into a file's name."""
    found = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    if found is None:
        raise SystemExit(f"{url}: states no hash")
    return found[1]


def spaced(numbers: Any) -> str:
    """Return numbers in one cell."""
    return " ".join(map(str, numbers))


def fraction(percent: float) -> str:
    """Return percent as a fraction, without the noise of dividing."""
    return f"{percent / 100:.5f}"


def page(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the catalog as a page of the documents.

    Args:
        rows: The catalog's.
    """
    return PAGE.format(rows="".join(map(_page_row, rows)))


def _page_row(row: Mapping[str, str]) -> str:
    name = f"`{row['name']}`" + (" **default**" if row["default"] == "yes" else "")
    scores = (f"{float(row[score]):.2%}" for score in ("top1", "top5"))
    pixels = f"{row['resize']} → {row['size']}, {row['interpolation']}"
    paper, _, recipe = row["recipe"].removeprefix("arXiv:").partition(" ")
    link = f"[{recipe}](https://arxiv.org/abs/{paper})" if recipe else f"[recipe]({paper})"
    return f"| {' | '.join((name, *scores, pixels, row['licence'], link))} |\n"


def main() -> None:
    """Write the file, and the page beside the package's own."""
    found = list(rows())
    text = io.StringIO()
    versions = (f"{name} {version(name).partition('+')[0]}" for name in ("torchvision", "timm"))
    text.write(f"# {', '.join(versions)}\n")
    table = csv.DictWriter(text, found[0], lineterminator="\n")
    table.writeheader()
    table.writerows(found)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text.getvalue(), encoding="utf-8")
    else:
        CATALOG_FILE.write_text(text.getvalue(), encoding="utf-8")
        PAGE_FILE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
