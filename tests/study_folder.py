"""A study's folder for tests of its page: files as `resnet-hub study` writes them."""

import json
from pathlib import Path
from typing import Any

DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><script>alert(1)</script>'
    '<rect width="40" height="20" fill="#0072b2"/></svg>'
)


def finding() -> dict[str, Any]:
    """Return what finding.json holds of two nets, one of which is not finished."""
    error = {"error": 0.25, "std": 0.01, "n": 360, "interval": [0.2, 0.3], "seeds": 2}
    difference = {"split": "test", "of": "deep <b>", "minus": "flat", "difference": 0.031}
    return {
        "format": 1,
        "study": "degradation",
        "title": "Deep against flat",
        "paper": "1512.03385 §4.2",
        "sentences": ["The deeper net is worse by 3.1 points."],
        "limits": ["One length."],
        "nets": [
            {"label": "deep <b>", "train": error, "test": error, "runs": _runs(2)},
            {"label": "flat", "runs": [{"seed": 0, "state": "missing"}]},
        ],
        "differences": [
            {**difference, "interval": [0.01, 0.05], "seeds": [1, 1], "verdict": "higher"}
        ],
        "provenance": {"command": "resnet-hub study degradation", "steps": [4000], "commits": []},
    }


def write_study(folder: Path, content: dict[str, Any]) -> Path:
    """Write a study's files into a folder, which may hold its runs; return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"study": "degradation", "title": "Asked"}))
    (folder / "finding.json").write_text(json.dumps(content))
    (folder / "figure.svg").write_text(DRAWING)
    return folder


def _runs(n: int) -> list[dict[str, Any]]:
    return [{"seed": seed, "state": "finished"} for seed in range(n)]
