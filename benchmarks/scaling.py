"""What several GPUs should reach: a formula for given numbers, none of them measured here.

    python benchmarks/scaling.py [--step S] [--parameters N] [--bandwidth GB/S ...] ...

A ring all-reduce sends 2 (n − 1) / n of the gradients' bytes over each link, and takes 2 (n − 1)
messages' latency. As the gradients of late layers are there first, DDP sends them during the rest
of the backward pass: so much of that as `--overlap` says hides sending, and what is left is waited
for. A step of n GPUs then takes that of one and the wait. Loaders, batch statistics, stragglers and
clocks that fall under load are left out: the figures are bounds, and published ones lie below.

The defaults are assumptions: ResNet-50, 256 images a GPU, at the 2,470 images a second that
NVIDIA's DeepLearningExamples publish for one A100 (AMP); gradients in float32; 200 GB/s a GPU
within a node of 8, 25 GB/s between nodes (one link of 200 Gb/s a GPU).
"""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """What one GPU does in a step.

    Attributes:
        seconds: Of a step of one GPU.
        bytes: Of its gradients.
        backward: Share of the step that is its backward pass.
        overlap: Share of the backward pass that sending may hide behind.
    """

    seconds: float
    bytes: float
    backward: float = 2 / 3
    overlap: float = 0.8


def ring_seconds(gpus: int, size: float, *, bandwidth: float, latency: float) -> float:
    """Return the seconds of a ring all-reduce.

    Args:
        gpus: In the ring; of a single one there is nothing to send.
        size: Bytes that each has.
        bandwidth: Bytes a second of the slowest link.
        latency: Seconds of a message.
    """
    return 2 * (gpus - 1) / gpus * size / bandwidth + 2 * (gpus - 1) * latency


def efficiency(training: Training, gpus: int, *, bandwidth: float, latency: float) -> float:
    """Return a GPU's images a second among ``gpus``, as a share of those that it has alone."""
    sending = ring_seconds(gpus, training.bytes, bandwidth=bandwidth, latency=latency)
    hidden = training.overlap * training.backward * training.seconds
    return training.seconds / (training.seconds + max(0.0, sending - hidden))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", type=float, default=256 / 2470, help="seconds on one GPU")
    parser.add_argument("--images", type=int, default=256, help="a GPU and step")
    parser.add_argument("--parameters", type=float, default=25_557_032)
    parser.add_argument("--bytes", type=float, default=4, help="a gradient's number")
    parser.add_argument("--overlap", type=float, default=0.8, help="share of the backward pass")
    parser.add_argument("--backward", type=float, default=2 / 3, help="share of the step")
    parser.add_argument("--latency", type=float, default=1e-5, help="seconds a message")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64])
    parser.add_argument(
        "--bandwidth", type=float, nargs="+", default=[200, 25], help="GB/s, for each of --gpus"
    )
    chosen = parser.parse_args()
    if len(chosen.gpus) != len(chosen.bandwidth):
        parser.error("give one --bandwidth for each of --gpus")
    size = chosen.parameters * chosen.bytes
    overlaps = {"overlapped": chosen.overlap, "not overlapped": 0.0}
    print(f"predicted, not measured: {1000 * chosen.step:.1f} ms a step, {size / 1e6:.0f} MB")
    for gpus, gigabytes in zip(chosen.gpus, chosen.bandwidth, strict=True):
        link = {"bandwidth": 1e9 * gigabytes, "latency": chosen.latency}
        sending = ring_seconds(gpus, size, **link)
        print(f"{gpus} GPUs, {gigabytes:g} GB/s: all-reduce {1000 * sending:.2f} ms")
        for name, overlap in overlaps.items():
            training = Training(chosen.step, size, chosen.backward, overlap)
            share = efficiency(training, gpus, **link)
            rate = gpus * chosen.images / chosen.step * share
            print(f"  {name:15} {share:7.1%} of {gpus} times one GPU, {rate:,.0f} images/s")


if __name__ == "__main__":
    main()
