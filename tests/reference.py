"""Reference in plain NumPy and float64, written from the papers' formulas."""

import re

import numpy as np
import scipy.io

BLOCKS = {19: (2, 2, 4, 4, 4), 16: (2, 2, 3, 3, 3), 11: (1, 1, 2, 2, 2)}
CHANNELS = (4, 5, 6, 7, 8)
MEAN_PIXEL = (120.0, 110.0, 100.0)


def tiny_weights(depth=19, channels=CHANNELS, seed=0):
    """Random kernels [h, w, in, out] and biases [out], float32, by layer name."""
    random = np.random.default_rng(seed)
    weights, before = {}, 3
    for block, count in enumerate(BLOCKS[depth][: len(channels)], 1):
        for index in range(1, count + 1):
            after = channels[block - 1]
            kernel = random.normal(0, np.sqrt(2 / (9 * before)), (3, 3, before, after))
            bias = random.normal(0, 0.1, after)
            weights[f"conv{block}_{index}"] = kernel.astype("f4"), bias.astype("f4")
            before = after
    return weights


def layer_names(weights):
    """conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1 ..."""
    names = []
    for name in weights:
        if name.endswith("_1") and names:
            names.append(f"pool{int(name[4]) - 1}")
        names += [name, name.replace("conv", "relu")]
    return names


def save_mat(path, weights, layout="new", mean_pixel=MEAN_PIXEL):
    """Writes a MatConvNet file as beta16 or as the newer releases did, classifier and all."""
    records = []
    for name in [*layer_names(weights), "pool5", "fc6", "relu6", "prob"]:
        record = {"name": name, "type": re.match("[a-z]+", name)[0], "precious": 0.0}
        if name in weights or name == "fc6":
            kernel, bias = weights.get(name, (np.zeros((7, 7, 2, 2), "f4"), np.zeros(2, "f4")))
            cell = np.empty((1, 2), object)
            cell[0, :] = [kernel.transpose(1, 0, 2, 3), bias[:, np.newaxis]]
            record |= {"type": "conv", "weights": cell, "pad": np.ones(4)}
        if layout == "beta16":  # its fields are in another order
            record = dict(reversed(record.items()))
        records.append(record)
    layers = np.empty((1, len(records)), object)
    layers[0, :] = records
    if layout == "beta16":
        average = np.tile(np.asarray(mean_pixel, "f4"), (6, 5, 1))  # a whole mean picture
        average[:3] += 2
        average[3:] -= 2
        normalization = {"averageImage": average, "keepAspect": 1.0, "imageSize": [6, 5, 3]}
        content = {"layers": layers, "classes": {"name": "x"}, "normalization": normalization}
    else:
        average = np.reshape(np.asarray(mean_pixel, "f4"), (1, 1, 3))
        normalization = {"imageSize": [6, 5, 3], "keepAspect": 1.0, "averageImage": average}
        content = {"layers": layers, "meta": {"inputs": 0.0, "normalization": normalization}}
    scipy.io.savemat(path, content, do_compression=True)
    return path


def features(weights, picture, pooling="max", padding="zero", rescale=False, mean_pixel=MEAN_PIXEL):
    """Every layer's features [h, w, channels] of a picture [H, W, 3]."""
    current = np.asarray(picture, np.float64) - mean_pixel
    features_by_layer = {}
    for name in layer_names(weights):
        if name in weights:
            kernel, bias = (array.astype(np.float64) for array in weights[name])
            edge = padding if padding == "wrap" or name == "conv1_1" else "zero"
            mode = {"zero": "constant", "replicate": "edge", "wrap": "wrap"}[edge]
            padded = np.pad(current, ((1, 1), (1, 1), (0, 0)), mode)
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
            current = np.einsum("hwiyx,yxio->hwo", windows, kernel) + bias
        elif name.startswith("relu"):
            current = np.maximum(current, 0)
        else:
            current = pool(current, pooling) * ({"avg": 2, "l2": 0.78}[pooling] if rescale else 1)
        features_by_layer[name] = current
    return features_by_layer


def pool(array, pooling):
    """Halves both sides, rounded up; positions beyond the edge do not count."""
    height, width, channels = array.shape
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    padded = np.pad(array, odd, constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, channels)
    if pooling == "l2":
        return np.sqrt(np.nanmean(blocks**2, axis=(1, 3)))
    return (np.nanmax if pooling == "max" else np.nanmean)(blocks, axis=(1, 3))


def gram(features):
    """F^T F / (M N) for M positions and N channels."""
    positions = features.reshape(-1, features.shape[-1])
    return positions.T @ positions / positions.size


def losses(weights, picture, content, styles, settings):
    """The weighted losses of the `prisma` recipe: Gatys et al. 2016 eq. 7 as means, and total
    variation."""
    rescale = settings.pooling_rescale
    picture_features = features(weights, picture, settings.pooling, settings.padding, rescale)
    content_features = features(weights, content, settings.pooling, settings.padding, rescale)
    blend = settings.content_weight_blend
    content_loss = sum(
        share * np.mean((picture_features[layer] - content_features[layer]) ** 2)
        for layer, share in (("relu4_2", blend), ("relu5_2", 1 - blend))
    )
    raw = [settings.style_layer_weight_exp**power for power in range(5)]
    shares = settings.style_blend_weights or (1,) * len(styles)
    style_loss = 0
    for share, style in zip(shares, styles, strict=True):
        style_features = features(weights, style, settings.pooling, settings.padding, rescale)
        for block, weight in enumerate(raw, 1):
            layer = f"relu{block}_1"
            difference = gram(picture_features[layer]) - gram(style_features[layer])
            style_loss += share / sum(shares) * weight / sum(raw) * np.mean(difference**2)
    picture = np.asarray(picture, np.float64)
    smoothness = np.mean(np.diff(picture, axis=0) ** 2) + np.mean(np.diff(picture, axis=1) ** 2)
    terms = {
        "content": settings.content_weight * content_loss,
        "style": settings.style_weight * style_loss,
        "tv": settings.tv_weight * smoothness,
    }
    return terms | {"total": sum(terms.values())}
