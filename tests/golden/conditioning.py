"""How far a training step is from a branch that rounding could take the other way.

Two things in a step are not continuous. A LeakyReLU's slope and a max-pooling's choice jump, and
the first step of Adam is the sign of each gradient. A case whose values come closer to a jump than
an engine's rounding would test luck; so the seeds of make_network.py are those, among many, that stay
farthest away. Run as a program it ranks seeds:

    python conditioning.py [number of seeds, default 400]
"""

import sys

import torch

import generator
import n2n_torch


def branch_margin(net, images):
    """The least distance from a jump in a forward pass, relative to the RMS of its layer."""
    margins = []

    def near(distance, x):
        margins.append((distance.min() / x.square().mean().sqrt()).item())

    def activate(x):
        near(x.abs(), x)
        return type(net).activate(net, x)

    def pool(x):
        cells = torch.nn.functional.pixel_unshuffle(x, 2).unflatten(1, (-1, 4))
        best = cells.topk(2, dim=2).values
        near(best[:, :, 0] - best[:, :, 1], x)
        return type(net).pool(net, x)

    net.activate, net.pool = activate, pool
    with torch.no_grad():
        net(images)
    del net.activate, net.pool
    return min(margins)


def gradient_margin(net):
    """The smallest magnitude of a nonzero gradient, relative to the RMS of its tensor."""
    gradients = [parameter.grad for parameter in net.parameters()]
    return min((g[g != 0].abs().min() / g.square().mean().sqrt()).item() for g in gradients)


def branches(case, seed):
    """branch_margin of the first step of a case."""
    net = generator.network(seed, case.n_feature, case.n_channel)
    noisy = generator.images(seed, case.n, case.h, case.w, case.n_channel)
    pairs = generator.pairs(seed, 1, case.n, case.h, case.w)
    return branch_margin(net, n2n_torch.sub_sample(noisy, pairs)[0])


def gradients(case, seed):
    """gradient_margin of the first step of a case."""
    net = generator.network(seed, case.n_feature, case.n_channel)
    noisy = generator.images(seed, case.n, case.h, case.w, case.n_channel)
    pairs = generator.pairs(seed, 1, case.n, case.h, case.w)
    n2n_torch.losses(net, noisy, pairs, case.lambda1, case.lambda2, case.lambda_)[2].backward()
    return gradient_margin(net)


def main():
    from make_network import STEPS

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    for name, case in STEPS.items():
        print(name)
        # Gradients cost more and matter only where the weights after Adam are stored.
        best = sorted(((branches(case, seed), seed) for seed in range(count)), reverse=True)
        best = best[: max(5, count // 50)]
        if case.whole:
            best = sorted(((min(m, gradients(case, seed)), seed) for m, seed in best), reverse=True)
        for margin, seed in best[:5]:
            print(f"  seed {seed}: {margin:.1e}")


if __name__ == "__main__":
    main()
