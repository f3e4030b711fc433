"""``resnet-hub cache``: what was fetched or computed, and kept."""

import json

from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import DataMissing, printable


def cache_command(arguments: list[str]) -> int:
    """Run ``resnet-hub cache``."""
    parser = Arguments("cache", "List fetched weights and what nets answered, or remove them.")
    parser.add_argument("action", choices=("list", "clear"))
    parser.add_argument(
        "source",
        nargs="?",
        help="this alone: its name, repository or URL; outputs: all that nets answered",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    chosen = parser.parse_args(arguments)

    from resnet_hub.weights import cache, outputs

    listing = chosen.action == "list"
    found = [
        entry
        for kind in (cache, outputs)
        for entry in (kind.entries if listing else kind.clear)(chosen.source)
    ]
    if chosen.source is not None and not found:
        raise DataMissing(f"{chosen.source}: not cached (`resnet-hub cache list` shows what is)")
    if chosen.json:
        facts = [
            {
                "source": entry.source,
                "revisions": entry.revisions,
                "folder": str(entry.folder),
                "bytes": entry.size,
                "about": entry.about,
            }
            for entry in found
        ]
        print(json.dumps(facts))
        return 0
    for entry in found:
        told = ", ".join(entry.revisions) or entry.about
        told = f"  ({told})" if told else ""
        print(printable(f"{entry.size / 1e6:10,.1f} MB  {entry.source}{told}"))
    total = sum(entry.size for entry in found) / 1e6
    print(printable(f"{total:10,.1f} MB  {'' if listing else 'freed '}in {cache.root()}"))
    return 0
