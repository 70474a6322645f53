"""A temporary file on a full disk."""


class FullDisk:
    """Stands for `tempfile.TemporaryFile`."""

    def __init__(self, **_):
        pass

    def write(self, data):
        raise OSError(28, "No space left on device")

    writelines = write
