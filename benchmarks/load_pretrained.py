"""A cached ResNet-152 loaded by from_pretrained, against torchvision's net built and a pickle read.

Each candidate runs in processes of its own, interleaved. Printed are medians and ratios of CPU
time: of the first load of a process and of those after it (warm); and the memory that a load adds
at its peak, every weight read, over the file's size. Our loads hash the file;
what that costs is shown apart.

    python benchmarks/load_pretrained.py [ROUNDS]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PREPARE = """
import sys, torch, torchvision
from resnet_hub import ResNet
net = ResNet("resnet152")
net.save_pretrained(sys.argv[1] + "/model")
torch.save(net.state_dict(), sys.argv[1] + "/resnet152.pth")
"""

OURS = """
from resnet_hub import ResNet
def load():
    return ResNet.from_pretrained(folder + "/model")
"""

TORCHVISION = """
import torch, torchvision
def load():
    net = torchvision.models.resnet152()
    net.load_state_dict(torch.load(folder + "/resnet152.pth", weights_only=True))
    return net.eval()
"""

HASHING = """
from pathlib import Path
from resnet_hub.weights.store import sha256_of
def load():
    return sha256_of(Path(folder, "model/model.safetensors"))
"""

MEASURE = """
import json, resource, sys, time
folder = sys.argv[1]
{candidate}
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, start = resident(), time.process_time()
net = load()
first = time.process_time() - start
if hasattr(net, "state_dict"):
    total = sum(float(tensor.sum()) for tensor in net.state_dict().values())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
warm = []
for _ in range(3):
    del net
    start = time.process_time()
    net = load()
    warm.append(time.process_time() - start)
print(json.dumps({{"first": first, "warm": sorted(warm)[1], "peak": peak}}))
"""

CANDIDATES = {"resnet_hub": OURS, "torchvision": TORCHVISION, "hashing alone": HASHING}


def measured(candidate: str, folder: str) -> dict[str, float]:
    """Run one candidate in a process of its own."""
    code = MEASURE.format(candidate=candidate)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", PREPARE, folder], check=True)
        size = Path(folder, "model/model.safetensors").stat().st_size
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
        for _ in range(rounds):
            for name, candidate in CANDIDATES.items():
                runs[name].append(measured(candidate, folder))
    print(f"ResNet-152, {size / 1e6:,.0f} MB, medians of {rounds} processes each, CPU seconds")
    middle = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    for name, found in middle.items():
        figures = "  ".join(f"{key} {found[key]:6.3f} s" for key in ("first", "warm"))
        print(f"{name:14}  {figures}  peak {found['peak'] / size:5.2f} x file")
    ours, theirs = middle["resnet_hub"], middle["torchvision"]
    for key in ("first", "warm"):
        bare = ours[key] - middle["hashing alone"][key]
        ratios = (ours[key] / theirs[key], bare / theirs[key])
        print("ratio, {}: {:.3f}; {:.3f} without hashing".format(key, *ratios))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
