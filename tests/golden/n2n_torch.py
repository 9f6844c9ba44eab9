"""The network and the training step of Neighbor2Neighbor in plain PyTorch: the oracle of the tests.

Written from the paper (Huang et al., CVPR 2021) to be read beside it, and run in float64, so that
what it gives is the answer and not another rounding of it. Every random choice is an argument.
"""

import torch
import torch.nn.functional as F
from torch import nn

# The ordered pairs of edge-adjacent pixels of a 2x2 cell, numbered 0 1 / 2 3.
PAIRS = [(0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2)]

# The width of the last layers, whatever n_feature is.
HEAD = 96


class Up(nn.Module):
    """Doubles height and width, then appends the skip's channels."""

    def __init__(self, channels):
        super().__init__()
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, stride=2)

    def forward(self, x, skip):
        return torch.cat([self.deconv(x), skip], dim=1)


class UNet(nn.Module):
    """The denoiser: [n, n_channel, h, w] to the same shape; h and w multiples of 32.

    The order in which the layers are made is the order of the tensors in `state_dict()`.
    """

    def __init__(self, n_feature=48, n_channel=3):
        super().__init__()
        f, c = n_feature, n_channel

        def conv3x3(inputs, outputs):
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        self.enc_conv0 = conv3x3(c, f)
        self.enc_conv1 = conv3x3(f, f)
        self.enc_conv2 = conv3x3(f, f)
        self.enc_conv3 = conv3x3(f, f)
        self.enc_conv4 = conv3x3(f, f)
        self.enc_conv5 = conv3x3(f, f)
        self.enc_conv6 = conv3x3(f, f)
        self.up5 = Up(f)
        self.dec_conv5a = conv3x3(2 * f, 2 * f)
        self.dec_conv5b = conv3x3(2 * f, 2 * f)
        self.up4 = Up(2 * f)
        self.dec_conv4a = conv3x3(3 * f, 2 * f)
        self.dec_conv4b = conv3x3(2 * f, 2 * f)
        self.up3 = Up(2 * f)
        self.dec_conv3a = conv3x3(3 * f, 2 * f)
        self.dec_conv3b = conv3x3(2 * f, 2 * f)
        self.up2 = Up(2 * f)
        self.dec_conv2a = conv3x3(3 * f, 2 * f)
        self.dec_conv2b = conv3x3(2 * f, 2 * f)
        self.up1 = Up(2 * f)
        self.dec_conv1a = conv3x3(2 * f + c, HEAD)
        self.dec_conv1b = conv3x3(HEAD, HEAD)
        self.nin_a = nn.Conv2d(HEAD, HEAD, 1)
        self.nin_b = nn.Conv2d(HEAD, HEAD, 1)
        self.nin_c = nn.Conv2d(HEAD, c, 1)

    def forward(self, image):
        act = self.activate
        x = act(self.enc_conv0(image))
        pool1 = self.pool(act(self.enc_conv1(x)))
        pool2 = self.pool(act(self.enc_conv2(pool1)))
        pool3 = self.pool(act(self.enc_conv3(pool2)))
        pool4 = self.pool(act(self.enc_conv4(pool3)))
        pool5 = self.pool(act(self.enc_conv5(pool4)))
        x = act(self.enc_conv6(pool5))
        x = act(self.dec_conv5b(act(self.dec_conv5a(self.up5(x, pool4)))))
        x = act(self.dec_conv4b(act(self.dec_conv4a(self.up4(x, pool3)))))
        x = act(self.dec_conv3b(act(self.dec_conv3a(self.up3(x, pool2)))))
        x = act(self.dec_conv2b(act(self.dec_conv2a(self.up2(x, pool1)))))
        x = act(self.dec_conv1b(act(self.dec_conv1a(self.up1(x, image)))))
        return self.nin_c(act(self.nin_b(act(self.nin_a(x)))))

    def activate(self, x):
        return F.leaky_relu(x, 0.2)

    def pool(self, x):
        return F.max_pool2d(x, 2)


def sub_sample(images, pairs):
    """The neighbours (g1, g2), each [n, c, h/2, w/2], of images [n, c, h, w].

    `pairs` [n, h/2, w/2] gives for each 2x2 cell the index of its pair in PAIRS.
    """
    n, c, h, w = images.shape
    cells = F.pixel_unshuffle(images, 2).view(n, c, 4, h // 2, w // 2)
    first, second = torch.tensor(PAIRS)[pairs.long()].unbind(-1)

    def pick(index):
        return cells.gather(2, index[:, None, None].expand(-1, c, -1, -1, -1)).squeeze(2)

    return pick(first), pick(second)


def losses(net, noisy, pairs, lambda1, lambda2, lambda_):
    """(Loss1, Loss2, Loss_Full) of one step; `lambda_` is the Lambda that grows with the epoch."""
    with torch.no_grad():
        denoised1, denoised2 = sub_sample(net(noisy), pairs)
    noisy1, noisy2 = sub_sample(noisy, pairs)
    diff = net(noisy1) - noisy2
    exp_diff = denoised1 - denoised2
    loss1 = torch.mean(diff**2)
    loss2 = lambda_ * torch.mean((diff - exp_diff) ** 2)
    return loss1, loss2, lambda1 * loss1 + lambda2 * loss2


def adam(net, learning_rate=3e-4):
    """The paper's optimiser."""
    return torch.optim.Adam(net.parameters(), lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)
