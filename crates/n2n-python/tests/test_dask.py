"""Dask arrays: the whole image's result in chunks of any size, on workers that may die."""

import os
import signal
import time

import dask
import dask.array as da
import numpy as np
import pytest

import n2n
import n2n.dask
from conftest import of_dtype, scene


@pytest.mark.parametrize("chunks", [(304, 272), (331, 300), (77, 300), ((1, 330), (170, 1, 129))])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_chunks_of_any_size_give_the_whole_images_result(chunks, dtype):
    noisy = of_dtype(scene(331, 300), dtype)
    if dtype == "float32":
        noisy = noisy * np.float32(5000) + np.float32(100)  # the range has to be measured
    array = da.from_array(noisy, chunks=chunks)
    clean = n2n.dask.denoise(array, "gauss25")
    assert clean.chunks == array.chunks and clean.dtype == array.dtype
    whole = n2n.denoise(noisy, "gauss25")
    difference = np.abs(clean.compute().astype(float) - whole).max()
    assert difference <= (1e-6 * np.ptp(whole) if dtype == "float32" else 1)
    found = n2n.dask.measure_range(array, "gauss25").compute()
    assert found == n2n.Model.load("gauss25").measure_range(noisy)


@pytest.mark.parametrize("shape", [(1025, 300), (300, 1025), (1025, 1025), (1, 1025), (1025, 1)])
def test_a_last_odd_row_or_column_has_no_part_in_the_range(shape):
    noisy = of_dtype(scene(*shape), np.uint16) // 15
    if shape[0] > 1:
        noisy[-1] = 65535
    if shape[1] > 1:
        noisy[:, -1] = 65535
    array = da.from_array(noisy, chunks=(200, 300))
    found = n2n.dask.measure_range(array, "gauss25").compute()
    assert found == n2n.Model.load("gauss25").measure_range(noisy)


def test_stacks_channels_and_options(model):
    noisy = of_dtype(scene(300, 200, 3), np.uint8)
    stack = np.stack([noisy, noisy[::-1]])
    array = da.from_array(stack, chunks=(1, 150, 130, 2))
    options = {"axes": "ZYXS", "strength": 0.5, "threads": 1}
    clean = n2n.dask.denoise(array, model, **options).compute()
    whole = model.denoise(stack, **options)
    assert np.abs(clean.astype(int) - whole).max() <= 1
    planar = da.from_array(stack.transpose(0, 3, 1, 2), chunks=(2, 1, 200, 200))
    clean = n2n.dask.denoise(planar, model, axes="ZCYX").compute()
    whole = model.denoise(stack.transpose(0, 3, 1, 2), axes="ZCYX")
    assert np.abs(clean.astype(int) - whole).max() <= 1


def test_nothing_is_computed_before_it_is_asked_for(model):
    def fail(block):
        raise AssertionError("computed")

    array = da.zeros((64, 64), dtype=np.float32, chunks=32).map_blocks(
        fail, dtype=np.float32, meta=np.zeros((0, 0), np.float32)
    )
    clean = n2n.dask.denoise(array, model)
    with pytest.raises(AssertionError, match="computed"):
        clean.compute()


def test_refusals(model):
    with pytest.raises(TypeError, match="expected a dask array, found ndarray"):
        n2n.dask.denoise(np.zeros((8, 8)), model)
    with pytest.raises(TypeError, match="n2n.dask.denoise"):
        n2n.denoise(da.zeros((8, 8)))
    with pytest.raises(ValueError, match="axes: expected 3 letters"):
        n2n.dask.denoise(da.zeros((2, 8, 8)), model)
    with pytest.raises(ValueError, match="at least one pixel"):
        n2n.dask.denoise(da.zeros((0, 8)), model)
    with pytest.raises(TypeError, match="dtype bool"):
        n2n.dask.denoise(da.zeros((8, 8), dtype=bool), model)
    unknown = da.zeros((8, 8), chunks=4)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        n2n.dask.denoise(unknown[unknown[:, 0] > 1], model)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_costs_no_result(model):
    distributed = pytest.importorskip("distributed")
    noisy = of_dtype(scene(400, 300), np.float32)
    with dask.config.set({"distributed.worker.daemon": True}):
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
    with cluster, distributed.Client(cluster) as client:
        pids = client.run(os.getpid)
        array = da.from_array(noisy, chunks=(100, 100))
        future = client.compute(n2n.dask.denoise(array, model, range=(0, 1), threads=1))
        # In the middle: some chunks are done, others are not.
        while sum(client.run(_results).values()) < 5:
            time.sleep(0.02)
        assert not future.done()
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        clean = future.result(timeout=300)
    assert np.abs(clean - model.denoise(noisy, range=(0, 1))).max() < 1e-6


def _results(dask_worker):
    return len(dask_worker.data)
