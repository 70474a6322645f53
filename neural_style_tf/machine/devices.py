"""Devices: what can be known about GPUs without importing TensorFlow."""

from pathlib import Path


def seems_to_have_gpu() -> bool:
    """Whether there is a driver of NVIDIA's; without TensorFlow, which knows for sure."""
    return Path("/dev/nvidiactl").exists()
