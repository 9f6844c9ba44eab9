"""Numbers that every language can make again, so that no fixture stores weights or inputs.

Value i of stream s under a seed is SplitMix64's output number i + 1 from the state
`seed << 32 | s`:

    z = (seed << 32 | s) + (i + 1) * 0x9E3779B97F4A7C15        (all modulo 2^64)
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
    z = (z ^ z >> 27) * 0x94D049BB133111EB
    z = z ^ z >> 31

Its 24 highest bits divided by 2^24 are u, exact in 0..1; a uniform value is `u * (high - low) + low`
in float64 without fused multiply-add, rounded once to float32. Its 3 highest bits are the index of
a pair of neighbours.

A network takes stream t for its tensor t, counted from 0 in the order of `state_dict()` (the same
as that of `UNet::tensors` in Rust): weights between minus and plus `sqrt(6 / fan_in)`, which has
the variance of Kaiming's initialization, biases between minus and plus 0.1. Images are filled in
the order n, h, w, c with values of -0.2..1.2, because noisy pixels can lie outside 0..1.
"""

import math

import numpy as np
import torch
from torch import nn

from n2n_torch import UNet

IMAGES = 100  # the stream of an input batch
PAIRS = 200  # step k, counted from 1, takes stream PAIRS + k


def bits(seed, stream, count):
    """The first `count` values of a stream, as 64-bit integers."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed << 32 | stream)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def uniform(seed, stream, shape, low, high):
    """float32 values of [low, high)."""
    u = (bits(seed, stream, math.prod(shape)) >> np.uint64(40)).astype(np.float64) / 2**24
    return (u * (high - low) + low).astype(np.float32).reshape(shape)


def images(seed, n, h, w, c):
    """A batch [n, c, h, w] in float64."""
    batch = uniform(seed, IMAGES, (n, h, w, c), -0.2, 1.2).astype(np.float64)
    return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()


def pairs(seed, step, n, h, w):
    """The draw of a step for images of h x w: [n, h/2, w/2] indices below 8."""
    shape = (n, h // 2, w // 2)
    index = bits(seed, PAIRS + step, math.prod(shape)) >> np.uint64(61)
    return torch.from_numpy(index.astype(np.uint8).reshape(shape))


def network(seed, n_feature, n_channel):
    """A network in float64 whose weights are float32 values."""
    net = UNet(n_feature, n_channel).double()
    with torch.no_grad():
        for stream, (name, tensor) in enumerate(net.named_parameters()):
            if name.endswith(".weight"):
                fan_in, _ = nn.init._calculate_fan_in_and_fan_out(tensor)
                scale = math.sqrt(6.0 / fan_in)
            else:
                scale = 0.1
            tensor.copy_(torch.from_numpy(uniform(seed, stream, tensor.shape, -scale, scale)))
    return net
