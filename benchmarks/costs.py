"""What laudc costs besides the network itself: start-up, export, build, memory, the call of one operator.

    python benchmarks/costs.py

Each figure is a median of repeated runs; memory is the peak resident set of a process that loads an engine (or dense
onnxruntime with the dense twin of the same network) and runs it ten times.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from networks import build

_PEAK = """
import resource, sys
import numpy as np
image = np.load(sys.argv[2])
if sys.argv[1].endswith(".laudc"):
    import laudc
    engine = laudc.load_engine(sys.argv[1], threads=2)
    for _ in range(10):
        engine(image)
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    for _ in range(10):
        session.run(None, {"input": image})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def python(*arguments: str) -> str:
    """Output of a fresh interpreter."""
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def operator_call_us(threads: int) -> float:
    """One BottleneckRun on a single pixel, minus the same session with an Identity instead; microseconds."""
    import onnx
    import onnxruntime

    from laudc.backends.native import library_path
    from laudc.ops.packing import BlockWeights, pack_block
    from laudc.ops.scheduled import ABI_VERSION, DOMAIN, BlockRecord, encode_blocks

    record = BlockRecord(cin=16, width=16, cout=16, stride=1, hin=1, win=1, projection=0, panel=16)
    shapes = ((16, 16, 1, 1), (16, 16, 3, 3), (16, 16, 1, 1))
    weights = BlockWeights(*((np.zeros(shape, np.float32), np.zeros(16, np.float32)) for shape in shapes))
    packed = onnx.numpy_helper.from_array(pack_block(record, weights), "packed")
    run = onnx.helper.make_node(
        "BottleneckRun", ["x", "packed"], ["y"], domain=DOMAIN, abi=ABI_VERSION, blocks=encode_blocks([record])
    )
    tensor = onnx.helper.make_tensor_value_info

    def call_time(node: onnx.NodeProto, initializers: list[onnx.TensorProto]) -> float:
        shape = ["n", 1, 1, 16]
        graph = onnx.helper.make_graph([node], "one", [tensor("x", 1, shape)], [tensor("y", 1, shape)], initializers)
        opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(DOMAIN, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(str(library_path()))
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {"x": np.ones((1, 1, 1, 16), np.float32)}
        for _ in range(100):
            session.run(None, feed)
        return seconds(lambda: session.run(None, feed), 3000)

    plain = call_time(onnx.helper.make_node("Identity", ["x"], ["y"]), [])
    return (call_time(run, [packed]) - plain) * 1e6


def main() -> None:
    import laudc
    from laudc.export import dense_twin, export

    print(
        f"import laudc                  {seconds(lambda: python('-c', 'import laudc')) * 1e3:8.0f} ms (whole process)"
    )
    print(f"laudc --help                  {seconds(lambda: python('-m', 'laudc', '--help')) * 1e3:8.0f} ms")
    for threads in (1, 2):
        print(f"operator call, {threads} thread(s)    {operator_call_us(threads):8.1f} µs")
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("channel-G2", "spatial-4421", "layer"):
            network = build(mode, 0.5)
            portable, engine = Path(folder, f"{mode}.onnx"), Path(folder, f"{mode}.laudc")
            start = time.perf_counter()
            model = export(network.model, portable)
            exported = time.perf_counter()
            laudc.build_engine(portable, engine)
            built = time.perf_counter()
            dense, image = Path(folder, "dense.onnx"), Path(folder, "image.npy")
            dense.write_bytes(dense_twin(model).SerializeToString())
            np.save(image, network.image)
            ours, theirs = (int(python("-c", _PEAK, str(path), str(image))) for path in (engine, dense))
            print(
                f"ResNet-101 {mode:12}  export {exported - start:5.1f} s  build {built - exported:5.1f} s  "
                f"peak memory {ours} MiB, dense onnxruntime {theirs} MiB ({ours / theirs:.2f})"
            )


if __name__ == "__main__":
    main()
