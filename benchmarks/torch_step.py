"""A step of the published program in plain PyTorch: milliseconds, in rows for benchmarks/gpu.py.

    PYTHON benchmarks/torch_step.py [--sizes 512 2048] [--device cuda] [--dtype bfloat16]

Gatys, Ecker and Bethge 2016 with Adam: VGG-19 with max pooling, Gram matrices of five layers, the
content of one, gradients by autograd; features in channels last. The weights are random, since
their values do not change the time. Needs nothing but PyTorch; says so where that is missing.
"""

import argparse
import json
import time

CHANNELS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))  # of each block, and convolutions
STYLE_LAYERS = {(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)}
CONTENT_LAYER = (4, 2)
LEARNING_RATE, STYLE_WEIGHT, TV_WEIGHT = 10.0, 1e3, 1e-2
MOST_STEPS, TIMED_SECONDS = 50, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    row = {"what": "PyTorch step", "unit": "ms"}
    try:
        import torch
    except ImportError:
        print(json.dumps({"what": row["what"], "note": "skipped: PyTorch is not installed"}))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"what": row["what"], "note": "skipped: PyTorch has no CUDA here"}))
        return
    note = f"PyTorch {torch.__version__}, {options.dtype}, channels last"
    for size in options.sizes:
        try:
            value = {"value": 1e3 * time_of_step(size, options.device, options.dtype), "note": note}
        except Exception as error:  # the other size may fit
            value = {"note": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        print(json.dumps({**row, "size": size, **value}), flush=True)


def time_of_step(size: int, device: str, dtype_name: str) -> float:
    """Seconds of a step at a size, of many in a row."""
    import torch

    torch.backends.cudnn.benchmark = True
    step = make_step(size, device, getattr(torch, dtype_name))

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(5):
        step()
    wait()
    began = time.perf_counter()
    step()
    wait()
    count = max(3, min(MOST_STEPS, int(TIMED_SECONDS / (time.perf_counter() - began))))
    began = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - began) / count


def make_step(size, device, dtype):
    """A function that takes the next step of a descent, and returns its loss."""
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    kernels = make_kernels(device, dtype)
    photo, painting = (255 * torch.rand(1, 3, size, size, device=device) for _ in range(2))
    picture = photo.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([picture], LEARNING_RATE)

    def features(image):
        current = (image - 120).to(dtype).contiguous(memory_format=torch.channels_last)
        collected = {}
        for (block, number), (kernel, bias) in kernels.items():
            if number == 1 and block > 1:
                current = functional.max_pool2d(current, 2)
            current = functional.relu(functional.conv2d(current, kernel, bias, padding=1))
            collected[block, number] = current
        return collected

    def gram(layer):
        flat = layer.flatten(2)[0]
        return (flat @ flat.T / flat.numel()).float()

    with torch.no_grad():
        content = features(photo)[CONTENT_LAYER]
        style = {
            name: gram(layer) for name, layer in features(painting).items() if name in STYLE_LAYERS
        }

    def step():
        optimizer.zero_grad(set_to_none=True)
        ours = features(picture)
        loss = functional.mse_loss(ours[CONTENT_LAYER], content).float()
        for name, target in style.items():
            loss = loss + STYLE_WEIGHT * functional.mse_loss(gram(ours[name]), target)
        down = (picture[:, :, 1:] - picture[:, :, :-1]).square().mean()
        across = (picture[..., 1:] - picture[..., :-1]).square().mean()
        loss = loss + TV_WEIGHT * (down + across)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            picture.clamp_(0, 255)
        return loss

    return step


def make_kernels(device, dtype):
    """By block and number, the kernel and bias of each convolution up to conv5_1."""
    import torch

    kernels, before = {}, 3
    for block, (channels, count) in enumerate(CHANNELS, 1):
        for number in range(1, count + 1):
            kernel = torch.randn(channels, before, 3, 3, device=device) * (2 / (9 * before)) ** 0.5
            kernel = kernel.to(dtype).contiguous(memory_format=torch.channels_last)
            kernels[block, number] = kernel, torch.zeros(channels, device=device, dtype=dtype)
            before = channels
    return kernels


if __name__ == "__main__":
    main()
