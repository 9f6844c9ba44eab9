"""Makes what every engine is given, in a folder: the model in each engine's form, images, pairs, and
the answers of PyTorch in float64.

    model.py files FOLDER N2N              model.safetensors, and from it model.onnx (by `n2n export`),
                                           model.mnn and model.ncnn.*, if their converters are installed
    model.py infer FOLDER NAME N H W       NAME.images and NAME.answer, the output
    model.py train FOLDER NAME N H W STEPS NAME.images, NAME.pairs and NAME.answer, the last step's loss

The weights are random with Kaiming's variance: outputs are of the order of 1, so that an engine that
computes something else is detected.
"""

import pathlib
import subprocess
import sys

import numpy as np
import torch
from safetensors.torch import save_file

import engines  # noqa: F401  finds the modules of tests/golden
import generator
import n2n_torch

SEED = 3

# The package's command `mnnconvert` without its report to the maker's server, for which it installs packages by itself.
MNNCONVERT = """
import sys
sys.modules["MNN.tools.utils.log"] = None
from MNN.tools.mnnconvert import main
main()
"""


def network():
    return generator.network(SEED, n_feature=48, n_channel=3)


def files(folder, n2n):
    save_file(network().float().state_dict(), folder / "model.safetensors")
    converters = pathlib.Path(sys.executable).parent
    for command in [
        [n2n, "export", "--model-path=model.safetensors", "--save-dir=.", "--format=onnx"],
        [sys.executable, "-c", MNNCONVERT, "-f", "ONNX", "--modelFile", "model.onnx"]
        + ["--MNNModel", "model.mnn", "--bizCode", "n2n"],
        # Two shapes: the sizes stay free.
        [converters / "pnnx", "model.onnx", "fp16=0"]
        + ["inputshape=[1,3,512,512]", "inputshape2=[1,3,256,256]"],
    ]:
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        except FileNotFoundError:
            print(f"{command[0]} is not installed", file=sys.stderr)
        else:
            if done.returncode:
                print(f"{command}: {done.stdout}{done.stderr}", file=sys.stderr)


def images(folder, name, n, h, w):
    """The images of a case [n, c, h, w] in float64, stored for the engines in float32."""
    values = generator.images(SEED, n, h, w, 3)
    store(folder, name, "images", values.permute(0, 2, 3, 1))
    return values


def store(folder, name, what, values):
    np.ascontiguousarray(values, np.float32).tofile(folder / f"{name}.{what}")


def infer(folder, name, n, h, w):
    with torch.no_grad():
        answer = network()(images(folder, name, n, h, w))
    store(folder, name, "answer", answer.permute(0, 2, 3, 1))


def train(folder, name, n, h, w, steps):
    net, noisy = network(), images(folder, name, n, h, w)
    pairs = generator.pairs(SEED, 1, n, h, w)
    pairs.numpy().tofile(folder / f"{name}.pairs")
    optimizer = n2n_torch.adam(net)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = n2n_torch.losses(net, noisy, pairs, **engines.LAMBDAS)[-1]
        loss.backward()
        optimizer.step()
    store(folder, name, "answer", loss.item())


def main():
    work, folder, *rest = sys.argv[1:]
    folder = pathlib.Path(folder)
    if work == "files":
        files(folder, *rest)
    else:
        name, *sizes = rest
        {"infer": infer, "train": train}[work](folder, name, *map(int, sizes))


if __name__ == "__main__":
    main()
