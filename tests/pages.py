"""The page of a run, as tests ask for it: requests, a viewer, and steps to show."""

import http.client
import json
import re

from shared import PATIENCE

from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import Step

STAGE = Stage(1, 1, 30, 40, 100)
LOSSES = {"content": 1.0, "style": float("nan"), "tv": 3.0, "total": 4.0}


def split(address):
    """The port and the token of a page."""
    parts = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{22})", address)
    return int(parts[1]), parts[2]


def port_of(preview):
    return split(preview.address)[0]


def connect(preview):
    return http.client.HTTPConnection("127.0.0.1", port_of(preview), timeout=PATIENCE)


def ask(preview, path, method="GET", **headers):
    """Status and bytes of an answer to somebody who knows the token."""
    return answer(preview, path, method, **{"X-Token": split(preview.address)[1]} | headers)[::2]


def answer(preview, path, method="GET", **headers):
    """Status, headers and bytes of an answer."""
    connection = connect(preview)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


class Viewer:
    """Reads what the page is latest."""

    def __init__(self, preview):
        self._connection = connect(preview)
        self._connection.request("GET", f"/events?token={split(preview.address)[1]}")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def next(self):
        while True:
            line = self._answer.readline()
            assert line, "the page has closed"
            if line.startswith(b"data: {"):
                return json.loads(line[6:])

    def until(self, holds):
        while not holds(message := self.next()):
            pass
        return message

    def leave(self):
        self._answer.close()
        self._connection.close()


def step(iteration, image):
    return Step(iteration, 100, STAGE, iteration + 1.0, lambda: LOSSES, lambda: image, None)
