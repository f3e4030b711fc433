"""The order of training where images lie in shards that are fetched one after the other."""

import numpy as np
import torch
from torch import Tensor

from resnet_hub.randomness import permutation

_FINE = 1 << 20  # places within a shard's share of the order


def shard_order(shards: Tensor, window: int, seed: int, epoch: int) -> Tensor:
    """Return each image once, in a keyed order in which few shards are in use at a time.

    Shards begin one after the other, in a keyed order, and the images of each are spread at random
    over the next ``window`` of them: whoever follows the order has images of no more than
    ``window + 1`` shards before it at any place, and of a shard that is done none comes again.

    Args:
        shards: int64 ``(N,)``, the number of each image's shard.
        window: Shards that an image may be mixed over, at least 1.
        seed: Key of the order.
        epoch: Another key.

    Returns:
        A permutation of the images, int64 ``(N,)``.
    """
    known, own = np.unique(shards.numpy(), return_inverse=True)
    place = permutation(len(known), seed, epoch, "shards").argsort()[torch.from_numpy(own)]
    count = len(shards)
    drawn = permutation(count, seed, epoch).argsort()  # 0 to count - 1, each once
    return torch.argsort(place * _FINE + drawn * (window * _FINE) // count, stable=True)
