"""``resnet-hub export``: a run, a checkpoint or a model folder, in the form that is asked for."""

import argparse
from importlib.metadata import version

from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import InvalidSetting, printable
from resnet_hub.paths import expanded

_EPILOG = """\
onnx and torch-export write one file: preprocessed images in, logits out, any number at once;
config.json's text lies in it. Before it is written, its logits are compared with the net's.
onnx needs `pip install 'resnet-hub[onnx]'`.
"""


def export_command(arguments: list[str]) -> int:
    """Run ``resnet-hub export``."""
    description = "Turn a run, one of its checkpoints, or a model into a folder or file to use."
    parser = Arguments("export", description, epilog=_EPILOG)
    parser.add_argument(
        "source", help="a run's folder, a checkpoint in one, a model folder, or published weights"
    )
    parser.add_argument("out", help="the model folder, or the file, to write")
    parser.add_argument(
        "--format",
        choices=["folder", "onnx", "torch-export"],
        default="folder",
        help="a model folder (default), an .onnx file, or torch.export's .pt2",
    )
    parser.add_argument(
        "--image", nargs="+", metavar="IMAGE", default=[], help="pictures to compare on"
    )
    chosen = parser.parse_args(arguments)
    if chosen.format == "folder":
        return _export_folder(chosen)
    return _export_file(chosen)


def _export_folder(chosen: argparse.Namespace) -> int:
    if chosen.image:
        raise InvalidSetting("--image: goes with --format onnx or torch-export")

    from resnet_hub.cli.console import quiet
    from resnet_hub.learning.export import export

    quiet()
    card = export(chosen.source, chosen.out)
    print(printable(f"{chosen.out}: {card.name}, {card.provenance.source}"))
    return 0


def _export_file(chosen: argparse.Namespace) -> int:
    from resnet_hub.cli.console import quiet
    from resnet_hub.evaluation.parity import Inputs, compare
    from resnet_hub.learning.export import read_net
    from resnet_hub.nets.exporting import find_exporter
    from resnet_hub.weights.store import write_file

    quiet()
    exporter, out = find_exporter(chosen.format), expanded(chosen.out)
    if out.suffix != exporter.suffix:
        raise InvalidSetting(f"{chosen.out}: a name for {chosen.format} ends in {exporter.suffix}")
    net, origin = read_net(chosen.source)
    inputs = Inputs.for_net(net, [expanded(path) for path in chosen.image])
    content = exporter.write(net, origin)
    against = f"{chosen.format} by {exporter.runtime} {version(exporter.runtime)}"
    parity = compare(
        net, exporter.read(content), inputs=inputs, against=against, where=chosen.source
    )
    write_file(out, lambda file: file.write(content))
    print(printable(f"{chosen.out}: {chosen.format}, {parity}"))
    return 0
