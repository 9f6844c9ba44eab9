"""Takes an exported model.safetensors to PyTorch and back.

    python tests/deploy/torch_roundtrip.py output/model.safetensors model.pth

Loads it into the module of tests/golden/n2n_torch.py, every name and shape as in the reference's
state dict, denoises an image, and saves the module's state dict with `torch.save`. `n2n info --model-path
model.pth` and `n2n val --model-path model.pth` read that.
"""

import argparse
import pathlib
import sys

import torch
from safetensors import safe_open

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
from n2n_torch import UNet  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("safetensors")
    parser.add_argument("pth")
    args = parser.parse_args()

    with safe_open(args.safetensors, framework="pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    net = UNet(int(metadata["n_feature"]), int(metadata["n_channel"]))
    print(net.load_state_dict(state, strict=True))
    print(f"{len(state)} tensors, {sum(t.numel() for t in net.parameters())} parameters")

    # A gray ramp with noise from the middle of the default model's range: the result is nearer to the ramp.
    noise = torch.Generator().manual_seed(7)
    clean = torch.linspace(0.2, 0.8, 128).expand(1, net.nin_c.out_channels, 96, 128)
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=noise)
    with torch.no_grad():
        denoised = net(noisy)
    for name, image in [("noisy", noisy), ("denoised", denoised)]:
        print(f"{name}: {-10 * torch.log10(torch.mean((image - clean) ** 2)):.2f} dB")
    torch.save(net.state_dict(), args.pth)
    print(f"saved {args.pth}")


if __name__ == "__main__":
    main()
