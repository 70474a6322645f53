"""VGG: weights of every format -> layers -> features and gradients."""
