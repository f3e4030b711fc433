"""``resnet-hub data pack``: a set of image files as tar files."""

from resnet_hub.cli.arguments import Arguments
from resnet_hub.cli.data import recipe_of
from resnet_hub.errors import InvalidSetting
from resnet_hub.paths import check_place, expanded


def pack_command(arguments: list[str]) -> int:
    """Run ``resnet-hub data pack``."""
    parser = Arguments("data pack", "Write a set of image files as tar files.")
    parser.add_argument("--out", required=True)
    parser.add_argument("--short-side", type=int)
    parser.add_argument("--quality", type=int)
    parser.add_argument("--shard-images", type=int)
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.quality is not None and chosen.short_side is None:
        raise InvalidSetting("--quality: is of the JPEGs that --short-side makes; name that too")
    recipe, out = recipe_of("pack", rest), expanded(chosen.out)
    check_place(out / "x")

    from resnet_hub.cli.console import files_bar, quiet, say, shows_bar
    from resnet_hub.data.files_module import ImageFilesDataModule
    from resnet_hub.data.module import open_data
    from resnet_hub.data.pack_index import Prepared
    from resnet_hub.data.packing import pack

    prepared = None
    if chosen.short_side is not None:
        quality = Prepared.quality if chosen.quality is None else chosen.quality
        prepared = Prepared(chosen.short_side, quality)
    quiet()
    data = open_data(recipe.data, seed=recipe.seed)
    if not isinstance(data, ImageFilesDataModule):
        raise InvalidSetting(f"data pack: {recipe.data.name} is held in memory; it needs no pack")
    with files_bar(shown=shows_bar()) as advance:
        made = pack(data, out, prepared=prepared, shard_images=chosen.shard_images, advance=advance)
    for line in made.refused:
        say(f"{line}; left out")
    splits = ", ".join(f"{split} {count:,}" for split, count in made.images.items())
    shards = "1 shard" if made.shards == 1 else f"{made.shards:,} shards"
    changed = f", {prepared}" if prepared else ""
    say(f"{out}: {recipe.data.name} ({splits}) in {shards}, {made.size / 1e9:.3g} GB{changed}")
    say(f"next: resnet-hub data check {recipe.data.name} --data.root {out}")
    return 0
