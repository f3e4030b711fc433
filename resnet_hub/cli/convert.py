"""``resnet-hub convert``: other projects' checkpoints into model folders, and back."""

import argparse
from dataclasses import replace

from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import CorruptFile, InvalidSetting, printable
from resnet_hub.paths import expanded

_EPILOG = """\
  resnet-hub convert resnet50.pth FOLDER --net resnet50     theirs into ours
  resnet-hub convert FOLDER resnet50.pth --to torchvision   ours into theirs

The logits are compared with those of the other library's net, where it is installed, and a CIFAR
checkpoint's with the paper's equations on its tensors.
"""


def convert_command(arguments: list[str]) -> int:
    """Run ``resnet-hub convert``."""
    description = "Turn another project's checkpoint into a model folder, or the other way round."
    parser = Arguments("convert", description, epilog=_EPILOG)
    parser.add_argument(
        "source", help="a .pth, .th, .ckpt or .safetensors, no code of which runs; or a model"
    )
    parser.add_argument("out", help="the model folder, or with --to the .safetensors or .pth")
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--net", help="the net that a checkpoint is for, by its name")
    direction.add_argument("--to", choices=["torchvision", "timm"], help="whose names to write")
    parser.add_argument("--licence", help="SPDX name of a checkpoint's licence")
    parser.add_argument(
        "--image", nargs="+", metavar="IMAGE", default=[], help="pictures to compare on"
    )
    chosen = parser.parse_args(arguments)
    return _export(chosen) if chosen.to else _import(chosen)


def _import(chosen: argparse.Namespace) -> int:
    import torch

    from resnet_hub.evaluation.parity import Inputs, compare_converted
    from resnet_hub.nets.resnet import ResNet
    from resnet_hub.weights.convert import convert, read_checkpoint
    from resnet_hub.weights.licences import canonical_licence
    from resnet_hub.weights.match import matched
    from resnet_hub.weights.provenance import Provenance
    from resnet_hub.weights.store import sha256_of
    from resnet_hub.zoo import find_row

    # What is mistyped is said before a long read.
    licence = None if chosen.licence is None else canonical_licence(chosen.licence)
    architecture, origin = find_row(chosen.net).architecture, Provenance(licence=licence)
    path, folder = expanded(chosen.source), expanded(chosen.out)
    found = convert(read_checkpoint(path), where=str(path))
    try:
        with torch.device("meta"):  # however many classes the file has: nothing is allocated
            net = ResNet(architecture, classes=found.classes)
    except InvalidSetting as error:
        raise CorruptFile(f"{path}: holds no {chosen.net} ({error})") from error
    net.load_state_dict(matched(found.tensors, net.state_dict(), str(path)), assign=True)
    net.preprocess = found.preprocess or net.preprocess
    net.labels = found.labels
    net.eval()
    inputs = Inputs.for_net(net, [expanded(image) for image in chosen.image])
    parity = compare_converted(net, found, inputs=inputs, where=str(path))
    source = f"{path.name} ({found.form}), SHA-256 {sha256_of(path)}"
    net.save_pretrained(folder, provenance=replace(origin, source=source, parity=parity))
    proof = parity or "parity not proven (no library here builds this net from such a file)"
    print(printable(f"{chosen.out}: {chosen.net}, {found.form}, {proof}"))
    return 0


def _export(chosen: argparse.Namespace) -> int:
    if chosen.licence:
        raise InvalidSetting("--licence: goes with --net; --to writes tensors alone")

    from resnet_hub.evaluation.parity import Inputs, compare_with_peer, find_peer
    from resnet_hub.nets.resnet import ResNet
    from resnet_hub.weights.convert import write_checkpoint
    from resnet_hub.weights.peers import peer_name, peer_tensors

    out = expanded(chosen.out)
    net = ResNet.from_pretrained(chosen.source)
    tensors = peer_tensors(net.state_dict(), net.architecture, chosen.to)
    proof = f"parity not proven ({chosen.to} is not installed)"
    if peer := find_peer(net.architecture, [chosen.to]):
        inputs = Inputs.for_net(net, [expanded(image) for image in chosen.image])
        parity = compare_with_peer(net, peer, tensors=tensors, inputs=inputs, where=chosen.source)
        proof = str(parity)
    write_checkpoint(out, tensors)
    name = peer_name(net.architecture, chosen.to)
    print(printable(f"{chosen.out}: {name} for {chosen.to}, {proof}"))
    return 0
