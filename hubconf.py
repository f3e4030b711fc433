"""Entry points for torch.hub: one for each named net, all with the same arguments."""

from resnet_hub.nets.entrypoints import entry_points as _entry_points

dependencies = ["torch", "safetensors", "numpy"]

globals().update(_entry_points())
