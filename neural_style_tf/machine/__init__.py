"""The computer: its processors, memory and precision; TensorFlow made ready."""
