"""Memory: free and peak, of the system and within a container."""

from types import SimpleNamespace

import psutil
import pytest
import tensorflow as tf

from neural_style_tf.machine import devices, memory

GIGABYTE = 10**9


MEMORY_V2 = {
    "memory.max": f"{8 * GIGABYTE}\n",
    "memory.current": f"{5 * GIGABYTE}\n",
    "memory.stat": f"anon 7\ninactive_file {GIGABYTE}\n",
}


MEMORY_V1 = {
    "memory/memory.limit_in_bytes": f"{8 * GIGABYTE}\n",
    "memory/memory.usage_in_bytes": f"{6 * GIGABYTE}\n",
    "memory/memory.stat": f"total_inactive_file {GIGABYTE}\n",
}


@pytest.mark.parametrize(
    "texts, gigabytes",
    [
        ({}, 16),
        (MEMORY_V2, 4),
        (MEMORY_V2 | {"memory.max": "max\n"}, 16),
        (MEMORY_V1, 3),
        (MEMORY_V2 | {"memory.current": f"{99 * GIGABYTE}"}, 0),
        ({"own": "0::/job\n"} | {f"job/{name}": text for name, text in MEMORY_V2.items()}, 4),
    ],
    ids=["none", "version 2", "no limit", "version 1", "full", "a job"],
)
def test_free_memory_is_the_systems_within_the_containers_limit(
    cgroup, monkeypatch, texts, gigabytes
):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIGABYTE))
    monkeypatch.setattr(devices, "gpu_in_use", lambda: None)
    cgroup(texts)
    assert memory.free_memory() == gigabytes * GIGABYTE


def test_free_memory_is_unknown_where_the_system_does_not_report_it(cgroup, monkeypatch):
    def fail():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    assert memory.free_memory() is None


def test_memory_is_measured_in_bytes_on_this_system():
    total = psutil.virtual_memory().total
    assert 10**8 < memory.free_system_memory() <= total
    assert 10**7 < memory.peak_memory() <= total


@pytest.mark.parametrize(
    ("error", "says_so"),
    [
        (MemoryError(), True),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), True),
        (tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (tf.errors.InternalError(None, None, "cuBLAS: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (tf.errors.InternalError(None, None, "cuFFT plan with scratch allocator"), True),
        (tf.errors.InternalError(None, None, "CUDA_ERROR_ILLEGAL_ADDRESS"), False),
        (tf.errors.NotFoundError(None, None, "No algorithm worked! RESOURCE_EXHAUSTED: 1"), True),
        (tf.errors.InternalError(None, None, "Dst tensor is not initialized."), True),
        (tf.errors.InvalidArgumentError(None, None, "out of memory"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_known_by_kind_and_by_text(error, says_so):
    assert memory.ran_out(error) is says_so
