"""``resnet-hub study``: questions to several nets at once."""

from importlib import import_module

from resnet_hub.errors import UnknownName, did_you_mean

_TRAINED = "resnet_hub.cli.study_runs"

# study: (module, one line); the module's function `study` takes the name and the arguments.
STUDIES = {
    "degradation": (_TRAINED, "plain nets against residual nets, deep against shallow"),
    "shortcuts": (_TRAINED, "shortcut options A, B and C"),
    "units": (_TRAINED, "the order of normalisation, activation and addition"),
    "gates": (_TRAINED, "scales, gates, convolutions and dropout on shortcuts"),
    "depth": (_TRAINED, "residual nets from 20 layers to 1202"),
    "gradients": ("resnet_hub.cli.study_gradients", "gradients and activations layer by layer"),
    "responses": ("resnet_hub.cli.study_responses", "how strongly the layers of any nets answer"),
}


def study_command(arguments: list[str]) -> int:
    """Run ``resnet-hub study``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, *rest = arguments
    if name not in STUDIES:
        hint = did_you_mean(name, STUDIES) or "; `resnet-hub study --help` shows them"
        raise UnknownName(f"no study is called {name!r}{hint}")
    module, _ = STUDIES[name]
    code: int = import_module(module).study(name, rest)
    return code


def _overview() -> str:
    width = max(map(len, STUDIES))
    lines = [f"  {name:{width}}  {line}" for name, (_, line) in STUDIES.items()]
    return "\n".join(
        [
            "usage: resnet-hub study NAME ...",
            "",
            *lines,
            "",
            "`resnet-hub study NAME --help` explains one.",
        ]
    )
