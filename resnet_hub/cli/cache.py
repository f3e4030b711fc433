"""``resnet-hub cache``: what was fetched and kept."""

import json

from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import DataMissing, printable


def cache_command(arguments: list[str]) -> int:
    """Run ``resnet-hub cache``."""
    parser = Arguments("cache", "List the fetched weights, or remove them.")
    parser.add_argument("action", choices=("list", "clear"))
    parser.add_argument("source", nargs="?", help="clear this one alone, as the list calls it")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    chosen = parser.parse_args(arguments)

    from resnet_hub.weights import cache

    listing = chosen.action == "list"
    found = cache.entries(chosen.source) if listing else cache.clear(chosen.source)
    if chosen.source is not None and not found:
        raise DataMissing(f"{chosen.source}: not cached (`resnet-hub cache list` shows what is)")
    if chosen.json:
        facts = [{"source": e.source, "folder": str(e.folder), "bytes": e.size} for e in found]
        print(json.dumps(facts))
        return 0
    for entry in found:
        print(printable(f"{entry.size / 1e6:10,.1f} MB  {entry.source}"))
    total = sum(entry.size for entry in found) / 1e6
    print(printable(f"{total:10,.1f} MB  {'' if listing else 'freed '}in {cache.root()}"))
    return 0
