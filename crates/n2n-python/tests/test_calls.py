"""Calls: interrupts, progress, threads, processes, pickles."""

import concurrent.futures
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import n2n
from conftest import of_dtype, scene

NOISY = of_dtype(scene(96, 96), np.uint8)

INTERRUPTED = """
import signal, threading, time
import numpy as np, n2n
noisy = np.zeros((6000, 6000), np.uint8)  # a minute
n2n.denoise(noisy[:32, :32])
def interrupt():
    global sent
    time.sleep(1)
    sent = time.monotonic()
    signal.raise_signal(signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    n2n.denoise(noisy)
except KeyboardInterrupt:
    print(time.monotonic() - sent)
# The pool is still good.
print(n2n.denoise(noisy[:32, :32]).shape)
"""


def test_ctrl_c_ends_a_call():
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    seconds, shape = done.stdout.splitlines()
    # A twentieth of a second, and what a machine that is busy takes.
    assert float(seconds) < 3 and shape == "(32, 32)"


def test_progress_is_told_and_its_exception_ends_the_call(model):
    stack = np.broadcast_to(NOISY, (20, 96, 96))
    told = []
    model.denoise(stack, axes="ZYX", progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and 0 <= told[0]

    def refuse(fraction):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        model.denoise(np.zeros((2000, 2000), np.uint8), progress=refuse)


def test_long_calls_show_a_line_on_a_terminal(model, monkeypatch, capsys):
    monkeypatch.setattr(n2n._progress, "PATIENCE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    model.denoise(np.broadcast_to(NOISY, (3, 96, 96)), axes="ZYX")
    assert "n2n: 100%, 0 s left" in capsys.readouterr().err
    model.denoise(NOISY, progress=False)
    assert capsys.readouterr().err == ""


def test_threads_run_at_once_and_get_the_same(model):
    stack = np.broadcast_to(NOISY, (40, 96, 96))
    want = model.denoise(NOISY)
    both = threading.Barrier(2)

    def call(_):
        met = []

        def meet(fraction):
            # Only if the other call is under way does this one get past here.
            if not met:
                both.wait(timeout=60)
                met.append(True)

        return model.denoise(stack, axes="ZYX", progress=meet, range=(0, 255))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for clean in pool.map(call, range(2)):
            assert np.array_equal(clean, np.broadcast_to(want, stack.shape))


def test_other_python_threads_run_during_a_call(model):
    ticks = []
    ended = threading.Event()

    def tick():
        while not ended.wait(0.01):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    model.denoise(np.zeros((600, 600), np.uint8))
    seconds = time.monotonic() - begin
    ended.set()
    thread.join()
    assert len(ticks) > 5 * seconds


def test_the_number_of_threads_changes_no_result(model):
    noisy = scene(100, 130).astype(np.float32)
    want = model.denoise(noisy, threads=1)
    for threads in (2, 3, None):
        assert np.array_equal(model.denoise(noisy, threads=threads), want)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_denoise_after_their_parent_has(model, method, tmp_path):
    model.save(tmp_path / "mine.safetensors")
    mine = n2n.Model.load(tmp_path / "mine.safetensors")
    want = mine.denoise(NOISY)
    busy = threading.Thread(
        target=model.denoise, args=(np.broadcast_to(NOISY, (10, 96, 96)), "ZYX")
    )
    busy.start()
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for clean in pool.map(mine.denoise, [NOISY] * 2, timeout=120):
            assert np.array_equal(clean, want)
    busy.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_model_of_the_parent_works_in_its_fork(model):
    want = model.denoise(NOISY)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    # Not pickled: the very object.
    child = context.Process(target=lambda: theirs.send(model.denoise(NOISY)))
    child.start()
    assert ours.poll(60)
    assert np.array_equal(ours.recv(), want)
    child.join()


@pytest.mark.parametrize("module", ["zarr", "dask", "napari"])
def test_what_lacks_an_extra_says_which(module):
    lacking = f"import sys; sys.modules[{module!r}] = None; "
    code = lacking + f"import n2n; import n2n.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f': pip install "n2n[{module}]"')
    if module == "zarr":
        code = lacking + "from n2n.__main__ import main; sys.exit(main(['zarr', 'in', 'out']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith("n2n: n2n.zarr: ")


def test_pickles(model, tmp_path):
    named = pickle.dumps(model)
    assert len(named) < 200 and repr(pickle.loads(named)) == repr(model)
    model.save(tmp_path / "mine.safetensors")
    mine = n2n.Model.load(tmp_path / "mine.safetensors")
    again = pickle.loads(pickle.dumps(mine))
    assert np.array_equal(again.denoise(NOISY), model.denoise(NOISY))
    assert again.metadata == mine.metadata
    found = n2n.Range(0.5, 2.5, False)
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_interrupt_is_that_of_the_main_thread_alone(model):
    # As in a worker of dask, where no handler runs.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        clean = pool.submit(model.denoise, NOISY).result()
    assert clean.shape == NOISY.shape
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
