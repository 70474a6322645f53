"""Each worker paints on a GPU of its own."""

import contextlib
import types

import pytest

from neural_style_tf.batch import jobs, own_gpu, parcels, worker_count
from neural_style_tf.batch.worker_count import Kind
from neural_style_tf.machine import cpu, devices, drivers, streams, tensorflow_setup
from neural_style_tf.machine.devices import Gpu
from neural_style_tf.runs.options import RunOptions

SMALL = [Kind(64, 64, "")] * 20


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """A function that sets how many GPUs TensorFlow lists. Claims end with the test."""
    monkeypatch.setattr(own_gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(drivers, "may_work", lambda: True)
    monkeypatch.delenv(drivers.VISIBLE, raising=False)
    claims = contextlib.ExitStack()
    monkeypatch.setattr(own_gpu, "_claims", claims)

    def set_count(count):
        listed = tuple(Gpu(number, "H200", (9, 0)) for number in range(count))
        monkeypatch.setattr(devices, "gpus", lambda: listed)
        monkeypatch.setattr(devices, "gpus_here", lambda: list(listed))

    with claims:
        yield set_count


def test_workers_share_the_gpus_evenly_and_a_free_one_is_claimed_again(gpus):
    gpus(3)
    order = ["gpu:0", "gpu:1", "gpu:2"]
    assert [own_gpu.choose(device) for device in ["auto", "gpu"] * 3] == order * 2
    own_gpu._claims.close()  # as the end of a process does
    assert own_gpu.choose("auto") == "gpu:0"


def test_a_device_that_was_chosen_is_used(gpus):
    gpus(3)
    wanted = ["cpu", "gpu:1", "gpu:1"]
    assert list(map(own_gpu.choose, wanted)) == wanted
    gpus(1)
    wanted = ["auto", "auto", "gpu"]
    assert list(map(own_gpu.choose, wanted)) == wanted


def test_workers_that_see_the_gpus_in_another_order_do_not_share_one(gpus, monkeypatch):
    gpus(2)
    chosen = []
    for visible in ("4,6", "6, 4", "4,6", "MIG-a/1/0,MIG-a/2/0"):
        monkeypatch.setenv(drivers.VISIBLE, visible)
        chosen.append(own_gpu.choose("auto"))
    assert chosen == ["gpu:0", "gpu:0", "gpu:0", "gpu:0"]  # 4, 6, 4 once more, and one of others
    assert own_gpu.choose("auto") == "gpu:1"


def test_where_no_claim_can_be_made_the_first_gpu_is_used(gpus, tmp_path):
    gpus(2)
    folder = own_gpu._private_folder()
    folder.rmdir()
    folder.write_text("in its place")
    assert own_gpu.choose("auto") == "auto"


def test_there_is_a_worker_per_gpu_unless_another_number_is_chosen(gpus, monkeypatch):
    monkeypatch.setattr(cpu, "threads", lambda: 16)
    gpus(4)
    monkeypatch.delenv(tensorflow_setup.THREADS, raising=False)
    assert worker_count.choose("auto", None, SMALL) == (4, 4)
    assert worker_count.choose("auto", None, SMALL, device="gpu") == (4, 4)
    assert worker_count.choose("auto", None, SMALL, device="gpu:3") == (1, 16)
    assert worker_count.choose("auto", None, SMALL[:3]) == (3, 5)
    assert worker_count.choose("8", None, SMALL) == (8, 2)
    monkeypatch.setattr(worker_count.memory, "free_system_memory", lambda: None)
    assert worker_count.choose("auto", None, SMALL, device="cpu") == (16, 1)
    monkeypatch.setenv(tensorflow_setup.THREADS, "5")  # of each process
    assert worker_count.choose("auto", None, SMALL, device="cpu") == (16, 5)
    assert worker_count.choose("auto", 8, SMALL, device="cpu") == (8, 1)


def test_workers_of_batches_and_of_clusters_start_on_their_own_gpus(gpus, monkeypatch):
    gpus(2)
    started = []
    monkeypatch.setattr(tensorflow_setup, "start", lambda *how: started.append(how) or "GPU")
    for _ in range(2):
        jobs.in_worker(3, False, "auto")
    monkeypatch.setattr(parcels, "_devices", [])
    options = RunOptions(content="a", styles=("b",), output="c.png", threads=2, device="gpu")
    assert [parcels._device(options), parcels._device(options)] == ["GPU", "GPU"]
    assert started == [(False, 3, "gpu:0"), (False, 3, "gpu:1"), (False, 2, "gpu:0")]


def test_what_a_worker_hears_at_its_start_is_reported_with_its_pictures(monkeypatch):
    start = lambda *_: streams.LOGGER.warning("an unused GPU") or "CPU"  # noqa: E731
    monkeypatch.setattr(tensorflow_setup, "start", start)
    monkeypatch.setattr(jobs, "paint", lambda *_: jobs.Outcome("done", notes=("grey",)))
    assert jobs.in_worker(1, False, "cpu")(None, None).notes == ("an unused GPU", "grey")


@pytest.mark.cluster
def test_a_cluster_names_the_option_of_a_device_that_its_worker_lacks(gpus, monkeypatch):
    distributed = pytest.importorskip("distributed")
    worker = types.SimpleNamespace(address="tcp://here:1", log_event=lambda *event: None)
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(parcels, "_devices", [])
    gpus(0)
    pictures = {"content": "photo.jpg", "styles": ("painting.jpg",), "output": "out.png"}
    options = RunOptions(**pictures, device="gpu:7")
    outcome, data = parcels.paint(parcels.Parcel(options, None, None), "topic", 1)
    assert outcome.status == "failed" and outcome.message.startswith("--device is gpu:7")
    assert data is None
