"""Calls: interrupts, progress, threads, processes, pickles."""

import concurrent.futures
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import sysconfig
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


def test_threads_share_a_model_in_different_calls(model):
    photo = scene(70, 90, 3)
    depth = of_dtype(photo, np.uint16)
    part = np.s_[40:70, 20:60]
    clean = model.denoise(NOISY)
    calls = [
        lambda: model.denoise(NOISY, threads=5),
        lambda: model.denoise(photo, "YXS", threads=1),
        lambda: model.denoise(depth.astype(">i4"), "YXS", threads=2),
        lambda: model.denoise_block(depth, (0, 0), (70, 90), part, "YXS", range=(0, 60_000)),
        lambda: model.measure_range(depth, "YXS"),
        lambda: n2n.denoise(NOISY, "gauss5_50_fast"),
        lambda: n2n.Model.load("poisson30").denoise(NOISY, threads=3),
        lambda: pickle.loads(pickle.dumps(model)).denoise(NOISY, threads=7),
        lambda: n2n.psnr(NOISY, clean),
        lambda: n2n.ssim(NOISY, clean),
        lambda: str(n2n.diagnose(NOISY)),
    ]
    together = threading.Barrier(len(calls))

    def rotated(first):
        order = [(first + i) % len(calls) for i in range(len(calls))]
        together.wait(timeout=60)
        return [(i, calls[i]()) for i in order]

    # The threads run first, so that what calls set up once, such as a pool, is set up by several of them at once.
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        found = list(itertools.chain(*pool.map(rotated, range(len(calls)))))
    want = [call() for call in calls]
    for i, result in found:
        assert np.array_equal(result, want[i]), i


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs free threading")
def test_the_import_leaves_the_gil_disabled():
    code = "import sys, n2n; print(sys._is_gil_enabled())"
    # It would keep the GIL disabled whatever the module says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n"


def test_other_python_threads_run_during_a_call(model):
    ticks = []
    ended = threading.Event()

    def tick():
        # Not ended.wait(0.01): without the GIL it yields to other threads forty times before it sleeps.
        while not ended.is_set():
            time.sleep(0.01)
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


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_while_threads_begin_calls(model):
    tiny = NOISY[:16, :16]
    want = model.denoise(tiny)
    ended = threading.Event()

    def begin_calls():
        for threads in itertools.cycle(range(1, 5)):
            model.denoise(tiny, threads=threads)
            if ended.is_set():
                return

    busy = [threading.Thread(target=begin_calls) for _ in range(3)]
    for thread in busy:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(10):
            ours, theirs = context.Pipe()
            child = context.Process(target=lambda: theirs.send(model.denoise(tiny)))  # noqa: B023
            child.start()
            # A lock that a thread of the parent held would be held in the child forever.
            answered = ours.poll(60)
            child.kill()
            child.join()
            assert answered and np.array_equal(ours.recv(), want)
    finally:
        ended.set()
        for thread in busy:
            thread.join()


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
