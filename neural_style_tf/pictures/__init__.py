"""Files <-> pixels. Never TensorFlow."""
