"""Runs an exported model.onnx in other engines and compares them with PyTorch.

    python tests/deploy/check_onnx.py output/model.onnx output/model.safetensors

The oracle is the module of tests/golden/n2n_torch.py in float64 with the weights of
model.safetensors. Engines that are not installed are skipped with a word. Exit status 1 if one of
those that ran differs by more than 1e-4 of the largest value.

requirements.txt pins everything with hashes.
"""

import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
from n2n_torch import UNet  # noqa: E402

TOLERANCE = 1e-4
# batch, height, width
SIZES = [(1, 64, 96), (2, 128, 128), (3, 32, 32), (1, 256, 320)]


def onnx_checker(path):
    """None; raises if the model breaks a rule of the standard."""
    import onnx

    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    print(f"onnx {onnx.__version__}: checked, {len(model.graph.node)} operations, "
          f"opset {model.opset_import[0].version}, IR {model.ir_version}, "
          f"producer {model.producer_name} {model.producer_version}")
    for entry in model.metadata_props:
        print(f"    {entry.key}: {entry.value}")


def onnxruntime_engine(path):
    """ONNX Runtime on the CPU: (its name, images -> images)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return (f"onnxruntime {onnxruntime.__version__}",
            lambda images: session.run(["output"], {"input": images})[0])


def openvino_engine(path):
    """OpenVINO on the CPU in float32, which it does not always choose by itself."""
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return (f"openvino {openvino.__version__.split('-')[0]}",
            lambda images: model({"input": images})["output"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx")
    parser.add_argument("safetensors")
    args = parser.parse_args()

    try:
        onnx_checker(args.onnx)
    except ModuleNotFoundError as missing:
        print(f"skipped: {missing}")

    state = load_file(args.safetensors)
    n_feature, n_channel = state["enc_conv0.weight"].shape[:2]
    oracle = UNet(n_feature, n_channel).double()
    oracle.load_state_dict({name: tensor.double() for name, tensor in state.items()}, strict=True)
    images = [np.random.default_rng(7).random((n, n_channel, h, w), np.float32) for n, h, w in SIZES]
    with torch.no_grad():
        expected = [oracle(torch.from_numpy(batch).double()).numpy() for batch in images]

    failed = False
    for make in [onnxruntime_engine, openvino_engine]:
        try:
            name, run = make(args.onnx)
        except ModuleNotFoundError as missing:
            print(f"skipped: {missing}")
            continue
        worst = 0.0
        for batch, want in zip(images, expected):
            found = run(batch)
            assert found.shape == want.shape, f"{name}: {found.shape} for {batch.shape}"
            worst = max(worst, np.abs(found - want).max() / np.abs(want).max())
        # Not a number is a failure too.
        good = worst <= TOLERANCE
        failed |= not good
        print(f"{name}: differs from PyTorch in float64 by at most {worst:.2e} of the largest value"
              + ("" if good else f", more than {TOLERANCE:.0e}"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
