"""Writes tests/golden/weights/: small files by PyTorch, Paddle and safetensors, and what they hold.

    python tests/golden/weights.py

Made with torch 2.15.0, paddlepaddle 3.3.1, numpy 2.4.6, safetensors 0.8.0. The stream form names
storages by their addresses, so its bytes differ from run to run; the values do not.
"""

import collections
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import paddle
import safetensors.torch
import torch

from n2n_torch import UNet

OUT = Path(__file__).parent / "weights"
expected = {}


def expect(name, tensors):
    expected[name] = {
        key: {"shape": list(value.shape), "data": np.asarray(value, np.float32).ravel().tolist()}
        for key, value in tensors.items()
    }


def numpy_values(tensors):
    return {key: value.detach().to(torch.float32).numpy() for key, value in tensors.items()}


def torch_state():
    """Every type, and views of every sort."""
    base = torch.arange(20, dtype=torch.float32) / 8 - 1
    state = collections.OrderedDict()
    state["conv.weight"] = (torch.arange(24, dtype=torch.float32) / 8 - 1).reshape(2, 3, 2, 2)
    state["conv.bias"] = torch.nn.Parameter(torch.tensor([0.1, -0.0]))
    state["transposed"] = torch.arange(12, dtype=torch.float32).reshape(4, 3).t()
    state["channels_last"] = state["conv.weight"].contiguous(memory_format=torch.channels_last)
    state["sliced"] = base.reshape(4, 5)[1:3, 2:4]
    state["shares_the_storage_of_sliced"] = base[3::5]
    state["scalar"] = torch.tensor(-7.25)
    state["half"] = torch.tensor([0.1, -65504.0, 6e-8, 6.1e-5], dtype=torch.float16)
    state["bfloat16"] = torch.tensor([[0.1], [3e38]], dtype=torch.bfloat16)
    state["double"] = torch.tensor([0.1, 1e-300, -1e38], dtype=torch.float64)
    return state


def torch_files():
    state = torch_state()
    for name, zipped in [("torch_zip.pth", True), ("torch_stream.pth", False)]:
        torch.save(state, OUT / name, _use_new_zipfile_serialization=zipped)
        expect(name, numpy_values(state))

    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ConvTranspose2d(2, 1, 2))
    values = numpy_values(net.state_dict())
    parallel = torch.nn.DataParallel(net).state_dict()
    assert all(key.startswith("module.") for key in parallel)
    for name, zipped in [("torch_parallel_zip.pth", True), ("torch_parallel_stream.pth", False)]:
        torch.save(parallel, OUT / name, _use_new_zipfile_serialization=zipped)
        expect(name, values)
    torch.save(parallel, OUT / "torch_protocol4.pth", pickle_protocol=4)
    expect("torch_protocol4.pth", values)

    # A training checkpoint, with the state that Adam has after a step.
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 1, 4, 4)).sum().backward()
    values = numpy_values({key: value.clone() for key, value in net.state_dict().items()})
    checkpoint = {"epoch": 3, "state_dict": net.state_dict()}
    checkpoint["optimizer"] = adam.state_dict()
    torch.save(checkpoint, OUT / "torch_checkpoint.pth")
    expect("torch_checkpoint.pth", values)
    old = {"model": collections.OrderedDict(a=torch.ones(3)), "mean": [torch.zeros(2)], "lr": 1e-3}
    torch.save(old, OUT / "torch_checkpoint_stream.pth", _use_new_zipfile_serialization=False)
    expect("torch_checkpoint_stream.pth", {"a": np.ones(3)})


def paddle_files():
    values = {
        "conv.weight": (np.arange(24, dtype=np.float32) / 8 - 1).reshape(2, 3, 2, 2),
        "conv.bias": np.array([0.1, -0.0], np.float32),
        # Every byte value, because protocol 2 writes bytes as text.
        "bytes": np.arange(256, dtype=np.uint8).reshape(64, 4)[:, ::-1].copy().view(np.float32),
        "half": np.array([[0.1, -65504.0]], np.float16),
        "double": np.array([0.1, 1e-300, -1e38], np.float64),
    }
    assert all(np.isfinite(value).all() for value in values.values())
    state = {key: paddle.to_tensor(value) for key, value in values.items()}
    for protocol in (2, 3, 4):
        name = f"paddle_{protocol}.pdparams"
        paddle.save(state, str(OUT / name), protocol=protocol)
        expect(name, values)
    fortran = {"a": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))}
    paddle.save(fortran, str(OUT / "paddle_fortran.pdparams"))
    expect("paddle_fortran.pdparams", fortran)
    paddle.seed(1)
    net = paddle.nn.Conv2D(1, 2, 3)
    paddle.save({"model": net.state_dict(), "epoch": 3}, str(OUT / "paddle_pairs.pdparams"))
    expect("paddle_pairs.pdparams", {key: value.numpy() for key, value in net.state_dict().items()})


def safetensors_file():
    state = {key: value.detach().clone().contiguous() for key, value in torch_state().items()}
    path = OUT / "python.safetensors"
    safetensors.torch.save_file(state, path, metadata={"noise": "gauss25", "epochs": "100"})
    expect("python.safetensors", numpy_values(state))


def network_files():
    """One whole network, as small as it gets (F = 1), in every form. Halves keep the files small."""
    torch.manual_seed(5)
    state = collections.OrderedDict()
    for name, value in UNet(n_feature=1).float().state_dict().items():
        random = torch.rand_like(value) * 2 - 1
        fan_in = value[0].numel() if value.dim() == 4 else 100
        state[name] = (random * (6 / fan_in) ** 0.5).half()
    folder = OUT / "network"
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "zip.pth")
    parallel = collections.OrderedDict(("module." + name, value) for name, value in state.items())
    torch.save(parallel, folder / "stream.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(dict(state), folder / "python.safetensors")
    tensors = {name: paddle.to_tensor(value.numpy()) for name, value in state.items()}
    paddle.save(tensors, str(folder / "paddle.pdparams"))


def hostile_files():
    """Files that run a command when Python reads them. It is harmless: `true`."""

    class Command:
        def __reduce__(self):
            return os.system, ("true",)

    for protocol in (2, 4):
        data = pickle.dumps({"a": Command()}, protocol=protocol)
        (OUT / f"hostile_{protocol}.pdparams").write_bytes(data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # Without the time of the day.
        entry = zipfile.ZipInfo("hostile/data.pkl")
        archive.writestr(entry, pickle.dumps({"a": Command()}, protocol=2))
    (OUT / "hostile.pth").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    torch_files()
    paddle_files()
    safetensors_file()
    network_files()
    hostile_files()
    (OUT / "expected.json").write_text(json.dumps(expected, indent=None) + "\n")
