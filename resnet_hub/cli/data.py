"""``resnet-hub data``: look through a data set before a run is trained on it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from resnet_hub.cli.layers import Layer, read_flags
from resnet_hub.cli.recipes import check
from resnet_hub.errors import InvalidSetting, UnknownName, did_you_mean
from resnet_hub.learning.settings import Recipe

if TYPE_CHECKING:
    from resnet_hub.data.check import Finding, Report

HELP = """usage: resnet-hub data check NAME [--data.root DIR] [--data.KEY X] [--seed N] [--json]
       resnet-hub data pack NAME [--data.root DIR] --out DIR [--short-side N] [--quality Q]

check reads every sample of every split of a data set and reports what is damaged: a line a
finding, then a summary. The exit code is 1 if anything is damaged.

  resnet-hub data check Folder --data.root ~/pictures
  resnet-hub data check ImageNet --data.root /data/imagenet --data.workers 16 --json

NAME is Folder, ImageNet (or its V2, A, R, Sketch), Cifar10, Cifar100 or Digits. Found are

  in image files     what cannot be read; PNGs whose checksums do not fit; JPEGs that the decoder
                     warns of
  in packs           tar files that are gone, cut or other than they were written; images whose
                     checksum does not fit
  in CIFAR's files   checksums that are not the official ones; labels that no class has

Warnings, which leave the exit code as it is, tell of classes of which no image is sound, and of a
picture that is in two splits or under two classes, byte for byte. Files are decoded in
--data.workers processes, by default one a core.

What cannot be found: a changed bit in a JPEG that decodes without a warning only gives other
pixels, and a BMP or PPM has nothing to hold its pixels against. Only checksums that you took when
the files were whole can tell, as a pack has them.

pack writes a set of image files as tar files in WebDataset's form, for storage that is slow to open
files; --data.root is then the pack, with the same NAME. Broken off, it goes on where it was.

  resnet-hub data pack ImageNet --data.root /data/imagenet --out /data/imagenet-pack
  resnet-hub data pack ImageNet --data.root /data/imagenet --out /data/imagenet-256 --short-side 256

  --out DIR            the pack, a folder of its own
  --short-side N       make pictures whose shorter side is over N pixels that small, as JPEGs;
                       scores on them say so. Without it every byte is kept
  --quality Q          of these JPEGs, 1 to 100 (90)
  --shard-images N     images a tar file; by default so many that it has about 256 MiB
  --data.workers N     processes that read and write (one a core)
  --data.on_bad_image  raise: name the first that cannot be read, and stop; skip: leave them out
"""


def data_command(arguments: list[str]) -> int:
    """Run ``resnet-hub data``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    action, *rest = arguments
    if action == "pack":
        from resnet_hub.cli.pack import pack_command

        return pack_command(rest)
    if action != "check":
        hint = did_you_mean(action, ["check", "pack"]) or " (see `resnet-hub data --help`)"
        raise UnknownName(f"data: {action!r} is nothing to do with data{hint}")
    recipe = recipe_of("check", [argument for argument in rest if argument != "--json"])
    return _check(recipe, as_json="--json" in rest)


def recipe_of(action: str, arguments: list[str]) -> Recipe:
    """Return the recipe that a data set's name and ``--data.KEY`` flags make.

    Raises:
        InvalidSetting: Other flags, or not one data set.
    """
    flags, names = read_flags(arguments)
    for section in flags.values:
        if section not in ("data", "seed"):
            known = "--data.KEY, --seed and --json" if action == "check" else "--data.KEY, --seed"
            raise InvalidSetting(f"--{section}: data {action} takes {known}")
    if len(names) != 1:
        raise InvalidSetting(f"data {action}: needs one data set (see `resnet-hub data --help`)")
    named = Layer({"data": {"name": names[0]}}, {("data", "name"): f"data {action}"})
    return check(named.over(flags))


def _check(recipe: Recipe, *, as_json: bool) -> int:
    from resnet_hub.cli.console import files_bar, quiet, say, shows_bar
    from resnet_hub.data.check import check_data
    from resnet_hub.data.module import open_data

    def tell(finding: "Finding") -> None:
        if not as_json:
            say(_line(finding))

    quiet()
    with files_bar(shown=shows_bar() and not as_json) as advance:
        data = open_data(recipe.data, seed=recipe.seed)
        report = check_data(data, tell=tell, advance=advance)
    say(json.dumps(_facts(report), allow_nan=False) if as_json else _summary(report))
    return 1 if report.damaged else 0


def _line(finding: "Finding") -> str:
    return f"{finding.path}: {'' if finding.damage else 'warning: '}{finding.reason}"


def _summary(report: "Report") -> str:
    samples = ", ".join(f"{name} {count:,}" for name, count in report.samples.items())
    warnings = len(report.findings) - report.damaged
    verdict = f"damaged: {report.damaged:,}" if report.damaged else "nothing damaged"
    if warnings:
        verdict += f", warnings: {warnings:,}"
    if report.official:
        verdict += f", official files: {len(report.official)}"
    return f"{report.data} ({samples}): {verdict}"


def _facts(report: "Report") -> dict[str, object]:
    warnings = len(report.findings) - report.damaged
    return {**asdict(report), "damaged": report.damaged, "warnings": warnings}
