"""The version: what `--version`, the package's metadata and every picture say is read from here."""

VERSION = "2.0.0"
