"""The engines that n2n is measured against: each loads the same model and returns what to time.

An engine of `INFER` takes (model, images, threads): the folder of model files that `model.py` made,
the images [n, c, h, w] in float32, the number of threads. It returns (version, run); `run()` denoises
the images, from an array in memory to an array in memory. An engine of `TRAIN` takes (model, noisy,
pairs, threads) and returns the same; there, `run()` takes one step and returns its loss.

Each engine has its fastest settings that keep the full precision of float32. A package is imported by
the engine that needs it, so that no process holds another engine's memory.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))

# As `n2n bench train` has them.
LAMBDAS = {"lambda1": 1.0, "lambda2": 1.0, "lambda_": 1.0}


def n2n_python(model, images, threads):
    import n2n

    network = n2n.Model.load(model / "model.safetensors")
    [image] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def run():
        return n2n.denoise(
            image, network, axes="YXS", range=(0.0, 1.0), threads=threads, progress=False
        )

    return f"n2n {n2n.__version__} for Python", lambda: run().transpose(2, 0, 1)[None]


def torch_network(model, threads, layout):
    import torch
    from n2n_torch import UNet
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    network = UNet()
    network.load_state_dict(load_file(model / "model.safetensors"))
    return network.to(memory_format=getattr(torch, layout))


def torch_infer(layout, compiled):
    def load(model, images, threads):
        import torch

        network = torch_network(model, threads, layout).eval()
        images = torch.from_numpy(images).contiguous(memory_format=getattr(torch, layout))
        if compiled:
            network = torch.compile(network)

        def run():
            with torch.inference_mode():
                return network(images).numpy()

        return f"torch {torch.__version__}", run

    return load


def torch_train(layout, compiled):
    def load(model, noisy, pairs, threads):
        import torch
        from n2n_torch import losses

        network = torch_network(model, threads, layout).train()
        noisy = torch.from_numpy(noisy).contiguous(memory_format=getattr(torch, layout))
        pairs = torch.from_numpy(pairs)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, eps=1e-8, fused=True)
        loss_of = torch.compile(losses) if compiled else losses

        def run():
            optimizer.zero_grad()
            loss = loss_of(network, noisy, pairs, **LAMBDAS)[-1]
            loss.backward()
            optimizer.step()
            return loss.item()

        return f"torch {torch.__version__}", run

    return load


def onnxruntime(model, images, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        str(model / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return (
        f"onnxruntime {ort.__version__}",
        lambda: session.run(["output"], {"input": images})[0],
    )


def openvino(model, images, threads):
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(str(model / "model.onnx"))
    graph.reshape(list(images.shape))
    # By default, it computes in bf16 where the processor can.
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    version = ov.__version__.split("-")[0]
    return f"openvino {version}", lambda: request.infer([images], share_inputs=True)[0]


def mnn(model, images, threads):
    import MNN

    interpreter = MNN.Interpreter(converted(model / "model.mnn"))
    session = interpreter.createSession(
        {"backend": "CPU", "numThread": threads, "precision": "high", "memory": "normal"}
    )
    source = interpreter.getSessionInput(session)
    interpreter.resizeTensor(source, images.shape)
    interpreter.resizeSession(session)
    target = interpreter.getSessionOutput(session)
    layout = MNN.Tensor_DimensionType_Caffe

    def run():
        given = MNN.Tensor(images.shape, MNN.Halide_Type_Float, images, layout)
        source.copyFrom(given)
        interpreter.runSession(session)
        result = MNN.Tensor(images.shape, MNN.Halide_Type_Float, np.empty_like(images), layout)
        target.copyToHostTensor(result)
        return np.array(result.getNumpyData()).reshape(images.shape)

    return f"MNN {MNN.version()}", run


def ncnn(model, images, threads):
    import ncnn as library

    network = library.Net()
    network.opt.num_threads = threads
    network.load_param(converted(model / "model.ncnn.param"))
    network.load_model(converted(model / "model.ncnn.bin"))
    [image] = images

    def run():
        with network.create_extractor() as extractor:
            extractor.input("in0", library.Mat(image))
            _, output = extractor.extract("out0")
            return np.array(output)[None]

    return f"ncnn {library.__version__}", run


def converted(path):
    """The name of a file that a converter made; these engines would go on without it."""
    if not path.exists():
        raise FileNotFoundError(f"{path.name}: the converter is not installed, or failed")
    return str(path)


INFER = {
    "n2n.denoise in Python": n2n_python,
    "PyTorch": torch_infer("contiguous_format", compiled=False),
    "PyTorch, channels last": torch_infer("channels_last", compiled=False),
    "torch.compile": torch_infer("contiguous_format", compiled=True),
    "torch.compile, channels last": torch_infer("channels_last", compiled=True),
    "ONNX Runtime": onnxruntime,
    "OpenVINO": openvino,
    "MNN": mnn,
    "ncnn": ncnn,
}

TRAIN = {
    "PyTorch": torch_train("contiguous_format", compiled=False),
    "PyTorch, channels last": torch_train("channels_last", compiled=False),
    "torch.compile": torch_train("contiguous_format", compiled=True),
    "torch.compile, channels last": torch_train("channels_last", compiled=True),
}
