"""A study's page in Markdown."""

from collections.abc import Mapping
from typing import Any


def page(finding: Mapping[str, Any]) -> str:
    """Return a study's page in Markdown: finding, figure, numbers, and what they rest on."""
    origin = finding["provenance"]
    steps, whole = origin["steps"], origin["paper_steps"]
    parts = [f"{s:,} of the paper's {w:,} ({s / w:.2%})" for s in steps for w in whole]
    rows = [_row(net) for net in finding["nets"]]
    lines = [
        f"# {finding['title']}",
        "",
        f"Asked in {finding['paper']}. All numbers are computed from the runs in this folder.",
        "",
        *(f"- {sentence}" for sentence in finding["sentences"]),
        "",
        f"![{finding['title']}: training error dashed, test error solid](figure.png)",
        "",
        "| net | training error | test error | seeds |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "Errors are top-1, after the last step; no step was chosen on the test set. ± is the "
        "standard deviation over seeds, brackets hold 95% intervals (Wilson's) of the images.",
        "",
        "## What cannot be said",
        "",
        *(f"- {limit}" for limit in finding["limits"]),
        "",
        "## Provenance",
        "",
        f"- Command: `{origin['command']}`",
        f"- Recipes: {_listed(origin['recipes'])}; optimizer steps: {', '.join(parts)}",
        f"- Data: {_listed(origin['data'])}; n = {_listed(origin['n'])}; "
        f"SHA-256 {_listed(d[:12] + '…' for d in origin['data_sha256'])}",
        f"- Code: {_listed(c[:12] for c in origin['commits'])}; {_listed(origin['versions'])}",
        f"- Precision {_listed(origin['precision'])} on {_listed(origin['devices'])}",
    ]
    return "\n".join(lines) + "\n"


def _row(net: Mapping[str, Any]) -> str:
    cells = [_cell(net.get(split)) for split in ("train", "test")]
    seeds = [str(run["seed"]) for run in net["runs"] if run["state"] == "finished"]
    return f"| {net['label']} | {cells[0]} | {cells[1]} | {', '.join(seeds) or 'none yet'} |"


def _cell(error: Mapping[str, Any] | None) -> str:
    if error is None:
        return "unmeasured"
    low, high = error["interval"]
    spread = "" if error["std"] is None else f" ± {100 * error['std']:.2f}"
    return f"{100 * error['error']:.2f}{spread} % ({100 * low:.2f} to {100 * high:.2f})"


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) or "none yet"
