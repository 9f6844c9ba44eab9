"""Writes the fixtures of network/: `python make_network.py`. README.md here says what each one holds.

Everything is computed in float64 and stored in float32 (losses in float64). The same is computed
again in float32; what is printed is how far PyTorch's own float32 lies from the fixture, the worst
tensor of each file, as the RMS of the difference over the RMS of the tensor. The tests ask for
1e-5.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

import conditioning
import generator
import n2n_torch

FOLDER = Path(__file__).parent / "network"


@dataclass
class Forward:
    """One batch through one network."""

    seed: int
    n_feature: int
    n_channel: int
    n: int
    h: int
    w: int


@dataclass
class Step:
    """Three training steps on one batch, each with a draw of its own."""

    seed: int
    n_feature: int
    n_channel: int
    n: int
    h: int
    w: int
    lambda1: float
    lambda2: float
    lambda_: float  # the Lambda that grows with the epoch
    whole: bool  # every gradient and weight, or the gradients of the small tensors only
    learning_rate: float = 3e-4


FORWARDS = {
    "forward_f4_c3": Forward(1, 4, 3, 3, 32, 32),
    "forward_f4_c1": Forward(2, 4, 1, 1, 32, 96),
    "forward_f5_c2": Forward(3, 5, 2, 2, 32, 64),
    "forward_f7_c3": Forward(4, 7, 3, 1, 96, 64),
    "forward_f48_c3": Forward(5, 48, 3, 1, 32, 32),
}
# The seeds are conditioning.py's choice.
STEPS = {
    "step": Step(133, 2, 3, 1, 128, 128, 1.0, 1.0, 1.3, whole=True),
    "step_factors": Step(28, 3, 1, 2, 64, 128, 0.7, 1.9, 0.6, whole=False),
    "step_lambda_0": Step(170, 4, 3, 1, 64, 64, 0.7, 1.9, 0.0, whole=False),
}
WEIGHTS_AFTER = (1, 3)
SMALL = 2048


def forward(case, dtype):
    """{"output": [n, h, w, c]}"""
    net = generator.network(case.seed, case.n_feature, case.n_channel).to(dtype)
    images = generator.images(case.seed, case.n, case.h, case.w, case.n_channel).to(dtype)
    with torch.no_grad():
        return {"output": net(images).permute(0, 2, 3, 1).contiguous()}


def step(case, dtype):
    """{"losses": [3 steps, 3], "gradient/<name>" of the first step, "weights_<k>/<name>"}"""
    net = generator.network(case.seed, case.n_feature, case.n_channel).to(dtype)
    noisy = generator.images(case.seed, case.n, case.h, case.w, case.n_channel).to(dtype)
    optimizer = n2n_torch.adam(net, case.learning_rate)
    losses, tensors = [], {}
    for k in range(1, max(WEIGHTS_AFTER) + 1):
        pairs = generator.pairs(case.seed, k, case.n, case.h, case.w)
        terms = n2n_torch.losses(net, noisy, pairs, case.lambda1, case.lambda2, case.lambda_)
        optimizer.zero_grad()
        terms[2].backward()
        optimizer.step()
        losses.append([term.item() for term in terms])
        for name, parameter in net.named_parameters():
            if k == 1 and (case.whole or parameter.numel() <= SMALL):
                tensors[f"gradient/{name}"] = parameter.grad.clone()
            if k in WEIGHTS_AFTER and case.whole:
                tensors[f"weights_{k}/{name}"] = parameter.detach().clone()
    return {"losses": torch.tensor(losses, dtype=torch.float64)} | tensors


def relative_rms(got, expected):
    scale = expected.double().norm()
    difference = (got.double() - expected.double()).norm()
    return (difference / scale).item() if scale > 0 else difference.item()


def write(name, case, compute):
    exact, rounded = compute(case, torch.float64), compute(case, torch.float32)
    worst = max(exact, key=lambda key: relative_rms(rounded[key], exact[key]))
    stored = {key: value if key == "losses" else value.float() for key, value in exact.items()}
    save_file(stored, FOLDER / f"{name}.safetensors", {"case": json.dumps(asdict(case))})
    print(f"{name}: float32 lies within {relative_rms(rounded[worst], exact[worst]):.1e} ({worst})")
    return exact


def write_initialization():
    """The standard deviation of each tensor before training: Kaiming normal, fan-in, times 0.1."""
    spread = {}
    for name, tensor in n2n_torch.UNet().named_parameters():
        if name.endswith(".weight"):
            fan_in, _ = torch.nn.init._calculate_fan_in_and_fan_out(tensor)
            spread[name] = 0.1 * (2 / fan_in) ** 0.5
        else:
            spread[name] = 0.0
    facts = {"n_feature": 48, "n_channel": 3, "standard_deviation": spread}
    (FOLDER / "initialization.json").write_text(json.dumps(facts, indent=2) + "\n")


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, case in FORWARDS.items():
        output = write(name, case, forward)["output"]
        print(f"  output RMS {output.square().mean().sqrt():.2f}")
    for name, case in STEPS.items():
        losses = write(name, case, step)["losses"]
        branches = conditioning.branches(case, case.seed)
        gradients = conditioning.gradients(case, case.seed)
        print(f"  losses {losses[0].tolist()}")
        print(f"  nearest branch {branches:.1e}, least gradient {gradients:.1e}")
    write_initialization()


if __name__ == "__main__":
    main()
