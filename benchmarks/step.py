"""A step of the run against a plain one, and the memory that it takes.

    .venv/bin/python benchmarks/step.py [--size 512] [--runs 7]

The plain step is `tf.function` with GradientTape over the published losses (Gatys et al. 2016), and
nothing else: no optimizer, no smoothness, no bookkeeping. The two are timed in turn. Memory is the
most that the process ever held, less what it held with TensorFlow and the network loaded.
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
    settings = Settings(pooling="max", padding="zero")
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
    plain = plain_step(tf, vgg, network, photo, painting)
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


def plain_step(tf, vgg, network, photo, painting):
    """Gatys et al. 2016 eq. 7 and its gradient, as one would write it down."""
    layers = ["relu4_2", *STYLE_LAYERS]

    def gram(features):
        matrix = tf.reshape(features, (-1, features.shape[-1]))
        return tf.matmul(matrix, matrix, transpose_a=True) / tf.size(features, tf.float32)

    content = vgg.features(network, photo, layers)["relu4_2"]
    styles = {name: gram(f) for name, f in vgg.features(network, painting, layers).items()}

    @tf.function
    def step(picture):
        with tf.GradientTape() as tape:
            tape.watch(picture)
            features = vgg.features(network, picture, layers)
            loss = 5 * tf.reduce_mean(tf.square(features["relu4_2"] - content))
            for name in STYLE_LAYERS:
                loss += 100 * tf.reduce_mean(tf.square(gram(features[name]) - styles[name]))
        return tape.gradient(loss, picture)

    return lambda: step(photo).numpy()


def seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
