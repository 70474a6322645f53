"""What the tests of runs share."""

import pytest
from pages import STAGE
from shared import PATIENCE

from neural_style_tf.runs.preview import Preview, listener


@pytest.fixture
def preview(picture, monkeypatch):
    monkeypatch.setattr(listener, "MOST_PER_SECOND", 1e6)  # tests connect fast
    monkeypatch.setattr(listener, "SECONDS_WITHOUT_PROGRESS", PATIENCE)
    preview = Preview("127.0.0.1", 0, "<out>.png")
    stopped = []
    preview.begin(picture(30, 40), [STAGE], lambda: stopped.append(1), lambda image: image)
    preview.stopped = stopped
    yield preview
    preview.close()
