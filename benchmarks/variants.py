"""Variants: settings that are compared, as options of neural_style.py by name."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYER_NAMES = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]


def layer_weights(*weights: float) -> list[str]:
    shares = [weight / sum(weights) for weight in weights]
    return ["--style-layers", *(f"{n}={w:.6g}" for n, w in zip(LAYER_NAMES, shares, strict=True))]


def recipe(name: str) -> str:
    return f"@{ROOT / 'recipes' / name}.args"


ADAM = ["--optimizer", "adam"]
ADAM_20 = [*ADAM, "--learning-rate", "20"]
CONSTANT = [*ADAM_20, "--learning-rate-schedule", "constant"]
EVERY_STEP = ["--checkpoint-iterations", "1", "--checkpoint-output", "step-%04d.png"]
GREY = ["--initial-colors", "own", "--initial-noiseblend", "0.8"]
# What all of these vary: the default when they were measured.
WITH_MOMENTS = ["--style-loss", "moments"]
VARIANTS = {
    "moments": [],
    "start: photo": ["--initial-colors", "own"],
    "start: photo, histogram": ["--initial-colors", "histogram"],
    "start: grey and photo": GREY,
    "start: noise": ["--initial-noiseblend", "1"],
    "style loss: mean": ["--style-loss", "mean"],
    "style loss: wasserstein": ["--style-loss", "wasserstein"],
    "layers: 1/C^2": layer_weights(*(1 / count**2 for count in (64, 128, 256, 512, 512))),
    "layers: 256:64:16:4:1": layer_weights(256, 64, 16, 4, 1),
    "padding: zero": ["--padding", "zero"],
    "pooling: max": ["--pooling", "max"],
    "smoothness: 100": ["--tv-weight", "100"],
    "smoothness: 1000": ["--tv-weight", "1000"],
    "steps: 50": ["--iterations", "50"],
    "steps: 200": ["--iterations", "200"],
    "adam": ADAM,
    "adam, rate 20, mean, grey and photo": [*ADAM_20, *GREY, "--style-loss", "mean"],
    "recipe: prisma": [recipe("prisma")],
    "recipe: average-pooling": [recipe("average-pooling")],
    "recipe: keras-noise": [recipe("keras-noise")],
}
ONLY_BY_NAME = {
    "adam, rate 10": [*ADAM, "--learning-rate", "10"],
    "adam, rate 20": ADAM_20,
    "adam, rate 40": [*ADAM, "--learning-rate", "40"],
    "adam, rate 20, constant": CONSTANT,
    "adam, rate 20, constant, averaged": [*CONSTANT, *EVERY_STEP],
}
VARIANTS, ONLY_BY_NAME = (
    {name: [*WITH_MOMENTS, *options] for name, options in variants.items()}
    for variants in (VARIANTS, ONLY_BY_NAME)
)
