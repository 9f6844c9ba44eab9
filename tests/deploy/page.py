"""Runs the programs that docs/deploy.md shows, and compares their pictures with that of `n2n predict`.

    python tests/deploy/page.py [--rust] [--browser [SCREENSHOT]]

The Python programs run when what they import is installed. --rust builds the Rust one, --browser
opens the page in Chromium; both fetch packages. N2N names the program [default: target/release/n2n].
"""

import argparse
import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
N2N = Path(os.environ.get("N2N", ROOT / "target/release/n2n")).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rust", action="store_true")
    parser.add_argument("--browser", nargs="?", const="", metavar="SCREENSHOT")
    args = parser.parse_args()
    page = (ROOT / "docs/deploy.md").read_text()

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copy(ROOT / "docs/demo/noisy.png", folder)
        shutil.copy(ROOT / "tests/golden/n2n_torch.py", folder)
        run(N2N, "export", "--save-dir", ".", cwd=folder)
        expected = predict(folder, "model.safetensors")

        snippets = blocks(page, "python")
        assert len(snippets) == 2, "the page has lost a program"
        for snippet in snippets:
            run_python(snippet, folder, expected)
        if args.rust:
            run_rust(page, folder, expected)
        else:
            print("skipped: Rust; ask for it with --rust")
        if args.browser is not None:
            run_browser(folder, expected, args.browser)
        else:
            print("skipped: browser; ask for it with --browser")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def run(*command, cwd, env=None):
    subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, check=True)


def predict(folder, model):
    """What the program itself makes of the picture."""
    save_dir = folder / f"predicted with {model}"
    run(N2N, "predict", "noisy.png", "--model-path", model, "--save-dir", save_dir, cwd=folder)
    return save_dir / "noisy_denoise.png"


def run_python(snippet, folder, expected):
    packages = set()
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.Import):
            packages |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add(node.module)
    packages = {name.split(".")[0] for name in packages} - {"n2n_torch"}
    missing = sorted(p for p in packages if importlib.util.find_spec(p) is None)
    title = "Python with " + ", ".join(sorted(packages))
    if missing:
        print(f"skipped: {title}; not installed: {', '.join(missing)}")
        return
    run(sys.executable, "-c", snippet, cwd=folder)
    compare(title, folder / "denoised.png", expected)
    if (folder / "model.pth").exists():
        pictures = [path.read_bytes() for path in (predict(folder, "model.pth"), expected)]
        assert pictures[0] == pictures[1], "model.pth is another model"
        print("ok: n2n with model.pth, the same bytes")


def run_rust(page, folder, expected):
    [manifest], [program] = blocks(page, "toml"), blocks(page, "rust")
    (folder / "src").mkdir()
    (folder / "Cargo.toml").write_text(manifest)
    (folder / "src/main.rs").write_text(program)
    env = {}
    if "ORT_DYLIB_PATH" not in os.environ:
        package = importlib.util.find_spec("onnxruntime")
        assert package, "--rust needs ORT_DYLIB_PATH, or the Python package onnxruntime"
        [library] = Path(package.origin).parent.glob("capi/libonnxruntime.so.*")
        env["ORT_DYLIB_PATH"] = str(library)
    run("cargo", "run", "--release", "--quiet", cwd=folder, env=env)
    compare("Rust with ort", folder / "denoised.png", expected)


def run_browser(folder, expected, screenshot):
    page = folder / "browser"
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(ROOT / "docs/deploy/browser", page, ignore=ignored)
    for name in ["model.onnx", "noisy.png"]:
        shutil.copy(folder / name, page)
    run("npm", "ci", "--silent", cwd=page)
    target = [Path(screenshot).resolve()] if screenshot else []
    run("node", "test.mjs", expected, *target, cwd=page)
    print("ok: browser")


def compare(title, path, expected):
    import numpy as np
    from PIL import Image

    pictures = [np.asarray(Image.open(name).convert("RGB"), int) for name in (path, expected)]
    largest = np.abs(pictures[0] - pictures[1]).max()
    path.unlink()
    assert largest <= 1, f"{title}: differs from n2n predict by {largest} of 255"
    print(f"ok: {title}, differs from n2n predict by at most {largest} of 255")


if __name__ == "__main__":
    main()
