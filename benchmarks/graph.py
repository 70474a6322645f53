"""The operations of one step that become kernels on a GPU, and the bytes that they move.

    .venv/bin/python benchmarks/graph.py [--size 512] [--optimizer adam] [--precision bfloat16] \
        [--style-loss moments]

It needs no GPU. A step (the loss and its gradient, the optimizer's update, and the choice of the
best picture so far) is traced for a GPU and optimized by Grappler for a cluster that says it has an
H100, as TensorFlow does before it runs a function. Counted are the operations that launch a kernel:
neither constants nor views such as a reshape, nor sizes that stay on the host. An operation counts
as one kernel and moves its inputs and outputs once, each input once per operation; a library may
launch several kernels for it. Functions that XLA compiles are counted by the fusions that it makes
of them on this machine, without what it does for processors alone: to add in a tree as they need
it, and to call their library YNNPACK. A GPU may have a few more: it cuts long sums in two. With
`XLA_FLAGS=` before the command all is counted, on versions that do not know these flags, too.
"""

import argparse
import collections
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.settings import Settings

WITHOUT_PROCESSORS_OWN = (
    "--xla_disable_hlo_passes=tree_reduction_rewriter --xla_cpu_experimental_ynn_fusion_type="
)
GPU_NAME = "/job:localhost/replica:0/task:0/device:GPU:0"
CPU_NAME = GPU_NAME.replace("GPU", "CPU")
# Launch nothing: what is known before the run, what passes a tensor on, and control flow.
FREE = {
    *("Const", "Placeholder", "Identity", "IdentityN", "NoOp", "StopGradient", "PreventGradient"),
    *("Reshape", "Squeeze", "ExpandDims", "Bitcast", "Shape", "ShapeN", "Size", "Rank"),
    *("If", "StatelessIf", "Switch", "Merge", "_Arg", "_Retval", "BroadcastGradientArgs"),
}
ALONG_FIRST_AXIS = {"Split", "SplitV", "Unpack", "StridedSlice", "Slice"}  # views, if they cut that
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
KINDS = {
    "Conv2D": "convolutions",
    "Conv2DBackpropInput": "convolutions",
    "_FusedConv2D": "convolutions",
    "MatMul": "matrix products",
    "_FusedMatMul": "matrix products",
    "BatchMatMulV2": "matrix products",
    "Einsum": "matrix products",
}


class Kernel(NamedTuple):
    """An operation that launches a kernel."""

    operation: str
    name: str
    bytes_moved: int


class Count(NamedTuple):
    """What a graph launches."""

    kernels: list[Kernel]
    waits: int  # branches whose predicate the host has to wait for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the square picture")
    parser.add_argument("--optimizer", choices=("adam", "lbfgs"), default="adam")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--style-loss", default="moments")
    parser.add_argument("--ops", action="store_true", help="also list every kernel")
    options = parser.parse_args()
    tensorflow_setup.start(debug=False)
    settings = Settings(optimizer=options.optimizer, style_loss=options.style_loss)
    result = count(*step_of(settings, options.size, options.size, options.precision))
    print(
        f"A step of {options.optimizer} at {options.size}x{options.size} in {options.precision}, "
        f"style loss {options.style_loss}.\n"
    )
    print_table(result, options.size**2)
    if options.ops:
        print("\n| operation | bytes per pixel | name |\n| --- | --- | --- |")
        for kernel in result.kernels:
            share = kernel.bytes_moved / options.size**2
            print(f"| {kernel.operation} | {share:.1f} | {kernel.name} |")


def print_table(result: Count, pixels: int) -> None:
    """By kind of operation, the most bytes first, with totals."""
    by_kind = collections.defaultdict(list)
    for kernel in result.kernels:
        by_kind[KINDS.get(kernel.operation, kernel.operation)].append(kernel.bytes_moved)
    print("| operation | kernels | bytes per pixel |\n| --- | --- | --- |")
    for kind, moved in sorted(by_kind.items(), key=lambda item: -sum(item[1])):
        print(f"| {kind} | {len(moved)} | {sum(moved) / pixels:.1f} |")
    total = sum(kernel.bytes_moved for kernel in result.kernels)
    print(f"| **all** | **{len(result.kernels)}** | **{total / pixels:.0f}** |")
    print(f"\nBranches whose predicate the host waits for: {result.waits}")


def step_of(settings: Settings, height: int, width: int, precision: str) -> tuple[Callable, tuple]:
    """A whole step made for a GPU, and what to call it with."""
    import tensorflow as tf

    from neural_style_tf.network import device, vgg
    from neural_style_tf.objective import objective
    from neural_style_tf.objective.matching import Matches
    from neural_style_tf.painting import descent
    from neural_style_tf.painting.stage_optimizer import optimizer_of
    from neural_style_tf.painting.stages import Stage
    from neural_style_tf.pictures.masks import Masks

    network = vgg.load()
    picture = tf.random.stateless_uniform([1, height, width, 3], [1, 2], 0.0, 255.0)
    targets = objective.measure_targets(network, picture, [picture], settings)
    if settings.style_loss == "neighbors":
        image = picture.numpy()
        targets = Matches().added_to(
            targets, network, image, [image], settings, tf.float32, None, Masks()
        )
    stage = Stage(1, 1, height, width, iterations=100)
    optimizer = optimizer_of(settings, stage)
    state = optimizer.init(picture)
    losses = dict.fromkeys(("content", "style", "tv", "total"), tf.zeros(()))

    with device.made_for(device.GPU):
        evaluate = objective.make_objective(network, targets, settings, tf.as_dtype(precision))

    def step(picture: tf.Tensor, state: Any, best: Any) -> Any:
        with device.made_for(device.GPU):
            moved, state, evaluation = optimizer.step(evaluate, picture, state)
            best = descent._lower(best, descent.Scored(picture, evaluation.losses))
        return moved, state, best

    return step, (picture, state, descent.Scored(picture, losses))


def count(function: Callable, arguments: tuple) -> Count:
    """What a function of tensors launches on a GPU when it is called with these."""
    import tensorflow as tf

    concrete = tf.function(function, autograph=False).get_concrete_function(*arguments)
    graph = concrete.graph.as_graph_def(add_shapes=True)
    fetched = [output.op.name for output in concrete.outputs]
    optimized = on_gpu(graph, fetched)
    predicates = {node.input[1] for node in optimized.node if node.op == "Switch"}
    waits = len(predicates) + sum(node.op in ("If", "StatelessIf") for node in optimized.node)
    return Count(list(kernels_of(optimized)), waits)


def on_gpu(graph: Any, fetched: list[str]) -> Any:
    """The graph as Grappler optimizes it for a GPU."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.grappler import cluster, tf_optimizer

    for node in _all_nodes(graph):
        node.device = GPU_NAME
    imported = tf.Graph()
    with imported.as_default():
        tf.graph_util.import_graph_def(graph, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph, graph=imported)
    meta.collection_def["train_op"].node_list.value.extend(fetched)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1  # optimizes small graphs, too
    machine = cluster.Cluster(devices=[_device(GPU_NAME), _device(CPU_NAME)])
    try:
        return tf_optimizer.OptimizeGraph(config, meta, verbose=False, cluster=machine)
    finally:
        machine.Shutdown()


def _all_nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _device(name: str) -> Any:
    """The properties of an H100, or of a CPU beside it, as far as Grappler asks for them."""
    from tensorflow.core.protobuf import device_properties_pb2

    device = device_properties_pb2.NamedDevice(name=name)
    properties = device.properties
    properties.type = "GPU" if name == GPU_NAME else "CPU"
    properties.frequency, properties.num_cores, properties.memory_size = 1700, 16, 64 << 30
    if name == GPU_NAME:
        properties.num_cores, properties.bandwidth = 132, 3_350_000_000
        properties.environment.update(architecture="9.0", cuda="12050", cudnn="90300")
    return device


def kernels_of(graph: Any) -> Iterator[Kernel]:
    """The kernels of an optimized graph, in its order."""
    import tensorflow as tf

    compiled = {
        function.signature.name: function
        for function in graph.library.function
        if function.attr["_XlaMustCompile"].b
    }
    imported = tf.Graph()
    with imported.as_default():
        tf.graph_util.import_graph_def(graph, name="")
    for operation in imported.get_operations():
        if operation.type in CALLS:
            name = operation.get_attr("f").name
            if name in compiled:
                yield from _compiled(operation, compiled[name], graph.library)
            else:
                yield from _called(operation, name, graph.library)
        elif launches(operation):
            yield Kernel(operation.type, operation.name, _bytes_moved(operation))


def launches(operation: Any) -> bool:
    """Whether an operation of a graph launches a kernel."""
    if operation.type in FREE or not operation.outputs:
        return False
    if operation.type in ALONG_FIRST_AXIS and _is_view(operation):
        return False
    return not all(_is_on_host(tensor) for tensor in operation.outputs)


def _is_on_host(tensor: Any) -> bool:
    """Whether it is a size or an index, which TensorFlow keeps in the host's memory."""
    return tensor.dtype.name == "int32" and tensor.shape.rank <= 1 and _size(tensor) <= 64


def _is_view(operation: Any) -> bool:
    """Whether it cuts along the first axis that is not 1, so that the parts are where the whole
    is."""
    whole, part = operation.inputs[0].shape, operation.outputs[0].shape
    if operation.type == "Split":
        whole = operation.inputs[1].shape
    if operation.type == "Unpack":
        return not any(side > 1 for side in whole[: operation.get_attr("axis")])
    if whole.rank is None or part.rank is None:
        return False
    if whole.rank != part.rank:
        return part.num_elements() == whole[1:].num_elements()
    cut = [axis for axis in range(whole.rank) if whole[axis] != part[axis]]
    return not cut or not any(side > 1 for side in whole[: cut[-1]])


READ_AS_MUCH_AS_THEY_WRITE = {"StridedSlice", "Slice", "GatherV2", "Split", "SplitV", "Unpack"}


def _bytes_moved(operation: Any) -> int:
    written = sum(map(_size_in_bytes, operation.outputs[:1]))
    if operation.type in READ_AS_MUCH_AS_THEY_WRITE:
        written = sum(map(_size_in_bytes, operation.outputs))
        return 2 * written
    if operation.type not in ("_FusedBatchNormEx", "FusedBatchNormV3"):  # others are as long
        written = sum(map(_size_in_bytes, operation.outputs))
    inputs = {tensor.name: tensor for tensor in operation.inputs}  # F^T F reads F once
    return written + sum(map(_size_in_bytes, inputs.values()))


def _size(tensor: Any) -> int:
    count = tensor.shape.num_elements()
    if count is None:
        raise SystemExit(f"{tensor.name} has no fixed shape: {tensor.shape}")
    return count


def _size_in_bytes(tensor: Any) -> int:
    return _size(tensor) * tensor.dtype.size


def _called(operation: Any, name: str, library: Any) -> Iterator[Kernel]:
    """The kernels of a function that is called and neither inlined nor compiled."""
    concrete = _function(operation, name, library, compile_it=False)
    inner = on_gpu(
        concrete.graph.as_graph_def(add_shapes=True), [out.op.name for out in concrete.outputs]
    )
    yield from kernels_of(inner)


def _compiled(operation: Any, function: Any, library: Any) -> Iterator[Kernel]:
    """The kernels that XLA makes of a function: the instructions that compute something."""
    import tensorflow as tf

    name = function.signature.name
    concrete = _function(operation, name, library, compile_it=True)
    warnings.filterwarnings("ignore", "device_name is being deprecated")  # the other needs a seed
    zeros = [tf.zeros(tensor.shape, tensor.dtype) for tensor in operation.inputs]
    text = concrete.experimental_get_compiler_ir(*zeros)(
        stage="optimized_hlo", device_name="/device:CPU:0"
    )
    for instruction, moved in hlo_kernels(text):
        yield Kernel("XLA", f"{operation.name}/{instruction}", moved)


def _function(operation: Any, name: str, library: Any, compile_it: bool) -> Any:
    import tensorflow as tf
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    own = next(function for function in library.function if function.signature.name == name)
    shapes = [tensor.shape for tensor in operation.inputs]
    body, _ = function_def_to_graph_def(own, shapes)
    body.library.CopyFrom(library)
    for node in _all_nodes(body):
        node.device = ""
    names = [argument.name for argument in own.signature.input_arg]
    kept = [node for node in body.node if node.name not in names]  # without the placeholders
    used = {source.partition(":")[0] for node in kept for source in node.input}
    del body.node[:]
    body.node.extend(kept)
    outputs = _outputs(own)

    def run(*inputs: Any) -> Any:
        feeds = {f"{name}:0": value for name, value in zip(names, inputs, strict=True)}
        passed = [output for output in outputs if output in feeds]
        computed = [output for output in outputs if output not in feeds]
        feeds = {name: value for name, value in feeds.items() if name[:-2] in used}
        made = tf.graph_util.import_graph_def(body, feeds, computed, name="")
        return [made, [inputs[names.index(output[:-2])] for output in passed]]

    made = tf.function(run, autograph=False, jit_compile=compile_it)
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in operation.inputs]
    return made if compile_it else made.get_concrete_function(*specs)


def _outputs(function: Any) -> list[str]:
    """The tensors that a function returns, by their names in its graph."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    _, names = function_def_to_graph_def(function)
    return [names[function.ret[output.name]] for output in function.signature.output_arg]


NOT_COMPUTED = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "copy-done"}
HLO_LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)")
HLO_SHAPE = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\]")
HLO_BYTES = {"pred": 1, "s32": 4, "u32": 4, "f32": 4, "f64": 8, "bf16": 2, "f16": 2, "s64": 8}


def hlo_kernels(text: str) -> Iterator[tuple[str, int]]:
    """The name and the bytes moved of each instruction of a compiled module that computes
    something."""
    sizes: dict[str, int] = {}
    for line in text[text.index("ENTRY ") :].splitlines()[1:]:
        if not (match := HLO_LINE.match(line)):
            continue
        name, shape, instruction, operands = match.groups()
        sizes[name] = sum(
            HLO_BYTES[kind] * _product(sides) for kind, sides in HLO_SHAPE.findall(shape)
        )
        if instruction not in NOT_COMPUTED:
            read = set(re.findall(r"%([\w.-]+)", operands))
            yield name, sizes[name] + sum(sizes[operand] for operand in read)


def _product(sides: str) -> int:
    result = 1
    for side in filter(None, sides.split(",")):
        result *= int(side)
    return result


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", WITHOUT_PROCESSORS_OWN)
    main()
