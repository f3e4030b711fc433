"""``resnet-hub cache``: what was fetched and kept."""

import json

from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import DataMissing, printable


def cache_command(arguments: list[str]) -> int:
    """Run ``resnet-hub cache``."""
    parser = Arguments("cache", "List the fetched weights, or remove them.")
    parser.add_argument("action", choices=("list", "clear"))
    parser.add_argument("source", nargs="?", help="this one alone: its name, repository or URL")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    chosen = parser.parse_args(arguments)

    from resnet_hub.weights import cache

    listing = chosen.action == "list"
    found = cache.entries(chosen.source) if listing else cache.clear(chosen.source)
    if chosen.source is not None and not found:
        raise DataMissing(f"{chosen.source}: not cached (`resnet-hub cache list` shows what is)")
    if chosen.json:
        facts = [
            {
                "source": entry.source,
                "revisions": entry.revisions,
                "folder": str(entry.folder),
                "bytes": entry.size,
            }
            for entry in found
        ]
        print(json.dumps(facts))
        return 0
    for entry in found:
        revisions = f"  ({', '.join(entry.revisions)})" if entry.revisions else ""
        print(printable(f"{entry.size / 1e6:10,.1f} MB  {entry.source}{revisions}"))
    total = sum(entry.size for entry in found) / 1e6
    print(printable(f"{total:10,.1f} MB  {'' if listing else 'freed '}in {cache.root()}"))
    return 0
