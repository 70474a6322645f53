import numpy as np
import pytest


@pytest.fixture
def start():
    return np.random.default_rng(1).uniform(90, 160, (1, 3, 4, 3)).astype("f4")


@pytest.fixture
def solution():
    return np.random.default_rng(2).uniform(90, 160, (1, 3, 4, 3))
