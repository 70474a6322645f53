"""A step of the run against a plain one, and the memory that it takes.

    .venv/bin/python benchmarks/step.py [--size 512] [--runs 7]

A step is forward, gradient and update. The plain one is a `tf.function` with GradientTape over the
same network and losses and Adam's formula, as one would write them down. The two are timed in turn.
Memory is the most that the process ever held, less what it held with TensorFlow and the network
loaded.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import neural_style
from settings import STYLE_LAYERS, Settings

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the square picture")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    device = neural_style.start_tensorflow(debug=False)
    import tensorflow as tf

    import vgg
    from objective import make_objective, measure_targets
    from optimizers import Adam

    network = vgg.load(ROOT / "imagenet-vgg-verydeep-19.mat")
    settings = Settings(padding="zero")
    shape = (1, options.size, options.size, 3)
    random = np.random.default_rng(0)
    photo, painting, picture = (
        tf.constant(random.uniform(0, 255, shape).astype(np.float32)) for _ in range(3)
    )
    before = peak_megabytes()
    targets = measure_targets(network, photo, [painting], settings)
    objective = make_objective(network, targets, settings)
    adam = Adam(20, 0.9, 0.999, 1e-8, "cosine", total=1000)
    state = adam.init(picture)

    def our_step() -> None:
        nonlocal picture, state
        picture, state, _ = adam.step(objective, picture, state)
        picture.numpy()

    our_step()
    memory = peak_megabytes() - before
    plain = plain_step(tf, network, photo, painting, settings)
    plain()
    ours, theirs = [], []
    for _ in range(options.runs):
        ours.append(seconds(our_step))
        theirs.append(seconds(plain))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    megapixels = options.size**2 / 1e6
    print(f"{options.size}x{options.size} on {device}, medians of {options.runs}")
    print(f"a step        {statistics.median(ours):6.3f} s")
    print(f"a plain step  {statistics.median(theirs):6.3f} s")
    print(f"ratio         {ratio:6.3f}")
    print(f"memory        {memory:6.0f} MB, {memory / 1000 / megapixels:.2f} GB a megapixel")


def plain_step(tf, network, photo, painting, settings):
    """Gatys et al. 2016 eq. 7 with total variation, and its gradient."""

    def forward(image):
        found, current = {}, image - network.mean_pixel
        for layer in network.layers:
            if layer.kind == "conv":
                current = tf.nn.bias_add(tf.nn.conv2d(current, layer.kernel, 1, "SAME"), layer.bias)
            elif layer.kind == "relu":
                current = tf.nn.relu(current)
            else:
                current = tf.nn.avg_pool2d(current, 2, 2, "SAME")
            found[layer.name] = current
            if layer.name == "relu5_1":
                return found

    def gram(features):
        matrix = tf.reshape(features, (-1, features.shape[-1]))
        return tf.matmul(matrix, matrix, transpose_a=True) / tf.size(features, tf.float32)

    content = forward(photo)["relu4_2"]
    of_painting = forward(painting)
    styles = {name: gram(of_painting[name]) for name in STYLE_LAYERS}

    @tf.function
    def step(picture, first, second, steps):
        with tf.GradientTape() as tape:
            tape.watch(picture)
            features = forward(picture)
            loss = settings.content_weight * tf.reduce_mean((features["relu4_2"] - content) ** 2)
            for name in STYLE_LAYERS:
                difference = gram(features[name]) - styles[name]
                loss += settings.style_weight / 5 * tf.reduce_mean(difference**2)
            down, right = picture[:, 1:] - picture[:, :-1], picture[:, :, 1:] - picture[:, :, :-1]
            loss += settings.tv_weight * (tf.reduce_mean(down**2) + tf.reduce_mean(right**2))
        gradient = tape.gradient(loss, picture)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = 20 * tf.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
        return tf.clip_by_value(picture - rate * first / (tf.sqrt(second) + 1e-8), 0, 255)

    zeros, steps = tf.zeros_like(photo), tf.constant(1.0)
    return lambda: step(photo, zeros, zeros, steps).numpy()


def seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
