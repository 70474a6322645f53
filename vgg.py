"""The network: `import vgg`. What each function does is in its docstring."""

from neural_style_tf.network.vgg import Network, features, load, net, preprocess, unprocess

__all__ = ["Network", "features", "load", "net", "preprocess", "unprocess"]
