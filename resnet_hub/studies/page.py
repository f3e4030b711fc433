"""Studies' pages in Markdown: the frame that all share, and that of trained nets."""

from collections.abc import Iterable, Mapping
from typing import Any


def framed(
    finding: Mapping[str, Any],
    *,
    numbers: str,
    figure: str,
    body: Iterable[str],
    provenance: Iterable[str],
) -> str:
    """Return a study's page in Markdown.

    Args:
        finding: Has a ``title``, ``paper``, ``sentences``, ``limits`` and the ``command`` of its
            ``provenance``.
        numbers: What is said of the numbers, after whose question it is.
        figure: What ``figure.png`` shows.
        body: Lines below it.
        provenance: What the finding rests on, beside the command.
    """
    lines = [
        f"# {finding['title']}",
        "",
        f"Asked in {finding['paper']}. {numbers}",
        "",
        *(f"- {sentence}" for sentence in finding["sentences"]),
        "",
        f"![{figure}](figure.png)",
        "",
        *body,
        "",
        "## What cannot be said",
        "",
        *(f"- {limit}" for limit in finding["limits"]),
        "",
        "## Provenance",
        "",
        f"- Command: `{finding['provenance']['command']}`",
        *(f"- {line}" for line in provenance),
    ]
    return "\n".join(lines) + "\n"


def page(finding: Mapping[str, Any]) -> str:
    """Return the page of a study of trained nets: finding, figure, errors, what they rest on."""
    origin = finding["provenance"]
    steps, whole = origin["steps"], origin["paper_steps"]
    parts = [f"{s:,} of the paper's {w:,} ({s / w:.2%})" for s in steps for w in whole]
    return framed(
        finding,
        numbers="All numbers are computed from the runs in this folder.",
        figure=f"{finding['title']}: training error dashed, test error solid",
        body=[
            "| net | training error | test error | seeds |",
            "| --- | --- | --- | --- |",
            *(_row(net) for net in finding["nets"]),
            "",
            "Errors are top-1, after the last step; no step was chosen on the test set. ± is the "
            "standard deviation over seeds, brackets hold 95% intervals (Wilson's) of the images.",
        ],
        provenance=[
            f"Recipes: {_listed(origin['recipes'])}; optimizer steps: {', '.join(parts)}",
            f"Data: {_listed(origin['data'])}; n = {_listed(origin['n'])}; "
            f"SHA-256 {_listed(d[:12] + '…' for d in origin['data_sha256'])}",
            f"Code: {_listed(c[:12] for c in origin['commits'])}; {_listed(origin['versions'])}",
            f"Precision {_listed(origin['precision'])} on {_listed(origin['devices'])}",
        ],
    )


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
