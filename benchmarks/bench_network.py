"""darkbn beside the engines that one could use instead: whole networks, raw forward passes, in one run.

    pip install 'darkbn[bench]'
    python benchmarks/bench_network.py --cfg-dir darknet/cfg other/cfg [--only yolov3-tiny resnet50] [--rounds 15]
        [--threads 2] [--peers onnxruntime openvino] [--json raw.json] [--png chart.png]

Each network gets random weights and normalization statistics, and becomes an ONNX model, which every peer loads (ncnn
converts it with pnnx where that is installed, and is skipped otherwise). A pass goes up to the detection heads, whose
activations the engines leave to the program, or to the softmax. All engines take turns, some passes
each per round after a rest, with the same input and number of threads; medians, spreads (half the distance between the
quartiles) and ratios to the fastest peer are shown. Outputs are compared with those of onnxruntime, relative to the
largest magnitude. Memory is the growth of the process while an engine loads and runs first, in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the table: a network, the size of its input, images per pass."""

    cfg: str
    size: int
    batch: int = 1

    @property
    def name(self) -> str:
        return f"{Path(self.cfg).stem} {self.size}" + (f" batch {self.batch}" if self.batch > 1 else "")


ROWS = (
    Row("yolov3-tiny.cfg", 416),
    Row("yolov3.cfg", 416),
    Row("yolov4-tiny.cfg", 416),
    Row("yolov4.cfg", 416),
    Row("yolov7-tiny.cfg", 416),
    Row("darknet19.cfg", 224),
    Row("resnet50.cfg", 224),
    Row("mobilenetv2-yolov3-nano-coco.cfg", 320),
    Row("yolo-fastest-1.1-xl.cfg", 320),
    Row("resnet18.cfg", 224),
    Row("densenet201.cfg", 224),
    Row("efficientnet_b0.cfg", 224),
    Row("yolov3-tiny.cfg", 416, 8),
    Row("resnet18.cfg", 224, 8),
    Row("yolo-fastest-1.1-xl.cfg", 320, 8),
)

#: A function that runs one pass on the input it was made for and gives the outputs.
Pass = Callable[[], list[np.ndarray]]


# Engines: each gets the ONNX file, the input and the number of threads. What it imports is its package.


def load_network(cfg: Path, row: Row, threads: int) -> Any:
    """The network with random parameters and statistics, the same each time."""
    import darkbn

    net = darkbn.load(cfg, width=row.size, height=row.size, batch=row.batch, threads=threads, seed=1)
    rng = np.random.default_rng(2)
    ranges = {"rolling_variance": (0.5, 1.5), "scales": (0.8, 1.2), "rolling_mean": (-0.1, 0.1), "biases": (-0.1, 0.1)}
    for layer in net.layers:
        for name, limits in ranges.items():
            array = vars(layer).get(name)
            if array is not None and layer.type not in ("yolo", "region"):
                array[...] = rng.uniform(*limits, array.shape)
    return net


def raw_outputs(net: Any) -> list[int]:
    """Indices of the layers before the detection heads, or before the softmax, which hides differences."""
    if net.heads:
        return [head.context.index - 1 for head in net.heads]
    last = net.output_layer
    return [last.context.index - (last.type == "softmax")]


def darkbn_pass(cfg: Path, row: Row, model: Path, x: np.ndarray, threads: int) -> Pass:
    import darkbn

    weights, options = model.with_suffix(".weights"), {"width": row.size, "height": row.size, "batch": row.batch}
    net = darkbn.load(cfg, weights, threads=threads, inference=True, **options)
    plan = net.compile(raw_outputs(net))
    return lambda: plan(x)


def onnxruntime_pass(cfg: Path, row: Row, model: Path, x: np.ndarray, threads: int) -> Pass:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def openvino_pass(cfg: Path, row: Row, model: Path, x: np.ndarray, threads: int) -> Pass:
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(model), "CPU", config)
    request, outputs = compiled.create_infer_request(), compiled.outputs

    def run() -> list[np.ndarray]:
        found = request.infer([x], share_inputs=True, share_outputs=True)
        return [found[port] for port in outputs]

    return run


def opencv_pass(cfg: Path, row: Row, model: Path, x: np.ndarray, threads: int) -> Pass:
    import cv2

    if int(cv2.__version__.split(".")[0]) < 5:
        raise RuntimeError(f"OpenCV {cv2.__version__}: version 5 is wanted")
    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromONNX(str(model))
    names = net.getUnconnectedOutLayersNames()

    def run() -> list[np.ndarray]:
        net.setInput(x)
        return list(net.forward(names))

    return run


def ncnn_pass(cfg: Path, row: Row, model: Path, x: np.ndarray, threads: int) -> Pass:
    import ncnn

    if row.batch > 1:
        raise RuntimeError("ncnn computes one image at a time")
    param = model.with_suffix(".ncnn.param")
    if not param.exists():
        _convert_for_ncnn(model, x)
    net = ncnn.Net()
    net.opt.num_threads = threads
    # float32 throughout, as the others; it would take float16 storage and arithmetic where it can
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(param))
    net.load_model(str(model.with_suffix(".ncnn.bin")))
    mat, inputs, outputs = ncnn.Mat(x[0]), net.input_names(), net.output_names()

    def run() -> list[np.ndarray]:
        with net.create_extractor() as extractor:
            extractor.input(inputs[0], mat)
            return [np.array(extractor.extract(name)[1])[np.newaxis] for name in outputs]

    return run


def _convert_for_ncnn(model: Path, x: np.ndarray) -> None:
    pnnx = shutil.which("pnnx") or shutil.which("pnnx", path=str(Path(sys.executable).parent))
    if pnnx is None:
        raise RuntimeError("pnnx, which makes ncnn's models, is not installed (pip install pnnx)")
    shape = "[" + ",".join(map(str, x.shape)) + "]"
    command = [pnnx, str(model), f"inputshape={shape}", "fp16=0"]
    done = subprocess.run(command, cwd=model.parent, capture_output=True, text=True)
    if done.returncode or not model.with_suffix(".ncnn.param").exists():
        raise RuntimeError(f"pnnx cannot convert the model: {(done.stderr or done.stdout).strip()[-200:]}")


def torch_pass(cfg: Path, row: Row, model: Path, x: np.ndarray, threads: int) -> Pass:
    import torch

    torch.set_num_threads(threads)
    network = TorchModel(model)
    data = torch.from_numpy(x)

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            return [y.numpy() for y in network(data)]

    return run


class TorchModel:
    """An ONNX model run by torch.nn.functional, node by node; covers what the exporter writes for the rows above."""

    def __init__(self, path: Path) -> None:
        import onnx
        import torch

        model = onnx.load(str(path))
        self.nodes, self.outputs = list(model.graph.node), [o.name for o in model.graph.output]
        self.input = model.graph.input[0].name
        self.constants = {
            i.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(i))) for i in model.graph.initializer
        }
        self.attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in self.nodes]
        self.last = {name: i for i, n in enumerate(self.nodes) for name in n.input}

    def __call__(self, x: Any) -> list[Any]:
        values = {**self.constants, self.input: x}
        for i, (node, attributes) in enumerate(zip(self.nodes, self.attributes, strict=True)):
            inputs = [values[name] if name else None for name in node.input]
            found = torch_node(node.op_type, inputs, attributes, len(node.output))
            values.update(zip(node.output, found, strict=False))
            for name in node.input:
                if self.last[name] == i and name not in self.outputs:
                    values.pop(name, None)
        return [values[name] for name in self.outputs]


def torch_node(kind: str, inputs: list[Any], a: dict[str, Any], outputs: int) -> list[Any]:
    """What a node computes."""
    import torch
    import torch.nn.functional as f

    x = inputs[0] if inputs else None
    if kind == "Conv":
        pads = a.get("pads", [0, 0, 0, 0])
        if pads[:2] != pads[2:]:
            x, pads = f.pad(x, [pads[1], pads[3], pads[0], pads[2]]), [0, 0]
        bias = inputs[2] if len(inputs) > 2 else None
        steps = (a.get("strides", [1, 1]), pads[:2], a.get("dilations", [1, 1]), a.get("group", 1))
        return [f.conv2d(x, inputs[1], bias, *steps)]
    if kind == "MaxPool":
        pads = a.get("pads", [0, 0, 0, 0])
        if pads[:2] != pads[2:]:
            x, pads = f.pad(x, [pads[1], pads[3], pads[0], pads[2]], value=float("-inf")), [0, 0]
        return [f.max_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]), pads[:2])]
    if kind == "Resize":
        scales = [float(v) for v in inputs[2].tolist()[2:]] if inputs[2] is not None else None
        size = None if scales else [int(v) for v in inputs[3].tolist()[2:]]
        return [f.interpolate(x, size=size, scale_factor=scales)]
    if kind == "Split":
        return list(torch.split(x, inputs[1].tolist() if len(inputs) > 1 else a["split"], a.get("axis", 0)))
    if kind == "Slice":
        axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else list(range(x.ndim))
        steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(axes)
        index = [slice(None)] * x.ndim
        for axis, start, end, step in zip(axes, inputs[1].tolist(), inputs[2].tolist(), steps, strict=True):
            index[axis] = slice(start, min(end, x.shape[axis]), step)
        return [x[tuple(index)]]
    if kind == "Pad":
        pads = inputs[1].tolist()
        pairs = [p for i in reversed(range(x.ndim)) for p in (pads[i], pads[i + x.ndim])]
        return [f.pad(x, pairs, value=float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0)]
    simple = {
        "LeakyRelu": lambda: f.leaky_relu(x, a.get("alpha", 0.01)),
        "Relu": lambda: f.relu(x),
        "Sigmoid": lambda: torch.sigmoid(x),
        "Mish": lambda: f.mish(x),
        "Softplus": lambda: f.softplus(x),
        "Tanh": lambda: torch.tanh(x),
        "Exp": lambda: torch.exp(x),
        "HardSwish": lambda: f.hardswish(x),
        "Clip": lambda: torch.clamp(x, *(None if v is None else float(v) for v in (*inputs[1:], None, None)[:2])),
        "Add": lambda: x + inputs[1],
        "Sub": lambda: x - inputs[1],
        "Mul": lambda: x * inputs[1],
        "Div": lambda: x / inputs[1],
        "Max": lambda: torch.maximum(x, inputs[1]),
        "Concat": lambda: torch.cat(inputs, a["axis"]),
        "GlobalAveragePool": lambda: x.mean((2, 3), keepdim=True),
        "Flatten": lambda: torch.flatten(x, a.get("axis", 1)),
        "Reshape": lambda: x.reshape([n if n else x.shape[i] for i, n in enumerate(inputs[1].tolist())]),
        "Transpose": lambda: x.permute(a["perm"]),
        "Softmax": lambda: torch.softmax(x, a.get("axis", -1)),
        "Gemm": lambda: f.linear(x, inputs[1] if a.get("transB") else inputs[1].T, inputs[2]),
        "MatMul": lambda: x @ inputs[1],
        "Identity": lambda: x,
        "Dropout": lambda: x,
    }
    if kind not in simple:
        raise RuntimeError(f"this benchmark does not run the ONNX operator {kind} with torch")
    return [simple[kind]()]


#: Engines by name, and the package that each needs (the distribution, for its version).
ENGINES: dict[str, tuple[Callable[..., Pass], str, str]] = {
    "darkbn": (darkbn_pass, "darkbn", "darkbn"),
    "onnxruntime": (onnxruntime_pass, "onnxruntime", "onnxruntime"),
    "openvino": (openvino_pass, "openvino", "openvino"),
    "opencv": (opencv_pass, "cv2", "opencv-python-headless"),
    "ncnn": (ncnn_pass, "ncnn", "ncnn"),
    "torch": (torch_pass, "torch", "torch"),
}


# Measuring


@dataclass
class Result:
    """What was measured of one engine on one network. `error` says why there is nothing.

    Attributes:
        seconds: of each round; median and spread are of these.
        difference: largest difference from onnxruntime's outputs over their largest magnitude.
        megabytes: growth of the peak resident memory, in a process of its own.
    """

    seconds: list[float] = field(default_factory=list)
    difference: float | None = None
    megabytes: float | None = None
    error: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        low, _, high = statistics.quantiles(self.seconds, n=4) if len(self.seconds) > 1 else (0.0, 0.0, 0.0)
        return (high - low) / 2


def find_cfg(name: str, folders: list[Path]) -> Path | None:
    return next((path for folder in folders for path in sorted(folder.rglob(name))), None)


def export(cfg: Path, row: Row, folder: Path) -> Path:
    """The ONNX model of the network, and beside it the same parameters as a .weights file."""
    import onnx

    from darkbn.interop.onnx import onnx_model

    stem = "".join(c if c.isalnum() else "_" for c in f"{cfg.stem}_{row.size}_{row.batch}")  # as pnnx wants it
    path = folder / f"{stem}.onnx"
    weights = path.with_suffix(".weights")
    if not weights.exists():
        load_network(cfg, row, 1).save_weights(weights)
    if not path.exists():
        net = load_network(cfg, row, 1)
        model, names = onnx_model(net), [f"layer_{index}" for index in raw_outputs(net)]
        for name, index in zip(names, raw_outputs(net), strict=True):
            shape = net.layers[index].output_shape
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        onnx.save(onnx.utils.Extractor(model).extract_model(["input"], names), str(path))
    return path


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:"))) / 1024


def own_memory(engine: str, cfg: Path, row: Row, model: Path, threads: int) -> float | None:
    """Peak memory of an engine in a process of its own, less what the process had after the imports."""
    command = [sys.executable, __file__, "--memory-of", engine, str(cfg), json.dumps(asdict(row)), str(model)]
    done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True)
    try:
        return float(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None


def print_memory(engine: str, cfg: str, row: str, model: str, threads: int) -> None:
    make, module, _ = ENGINES[engine]
    importlib.import_module(module)
    if module == "darkbn":
        importlib.import_module("darkbn.network")
    parsed = Row(**json.loads(row))
    x = make_input(parsed)
    before = peak_megabytes()
    run = make(Path(cfg), parsed, Path(model), x, threads)
    for _ in range(2):
        run()
    sys.stdout.write(f"{peak_megabytes() - before:.1f}\n")


def make_input(row: Row) -> np.ndarray:
    return np.random.default_rng(3).random((row.batch, 3, row.size, row.size), dtype=np.float32)


def measure(cfg: Path, row: Row, model: Path, engines: list[str], args: argparse.Namespace) -> dict[str, Result]:
    """Times of all engines in turns, and whether they agree."""
    x, passes, results = make_input(row), {}, {name: Result() for name in engines}
    for name in engines:
        try:
            passes[name] = ENGINES[name][0](cfg, row, model, x, args.threads)
            passes[name]()
        except Exception as error:  # an engine that cannot do it must not end the run
            passes.pop(name, None)
            results[name].error = f"{type(error).__name__}: {str(error).strip()[:200]}"
    compare(passes, results)
    started = time.perf_counter()
    for turn in range(args.rounds):
        if turn > 2 and time.perf_counter() - started > args.seconds:
            break
        for name, run in passes.items():
            results[name].seconds += turn_of(run)
    if args.memory:
        for name in passes:
            results[name].megabytes = own_memory(name, cfg, row, model, args.threads)
    return results


#: Passes of an engine in a round, of which the first is not counted, and seconds of rest before them: threads of the
#: engine before, which wait busily for more work for a while, would take the processors otherwise.
PASSES, REST = 3, 0.05


def turn_of(run: Pass) -> list[float]:
    """Seconds of the passes of one engine in one round."""
    time.sleep(REST)
    seconds = []
    for _ in range(PASSES):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def compare(passes: dict[str, Pass], results: dict[str, Result]) -> None:
    """The differences of all outputs from those of onnxruntime (of the first engine where it is missing)."""
    if not passes:
        return
    reference = "onnxruntime" if "onnxruntime" in passes else next(iter(passes))
    expected = by_size(passes[reference]())
    for name, run in passes.items():
        found = by_size(run())
        if [f.size for f in found] != [e.size for e in expected]:
            results[name].error = f"outputs of {[f.size for f in found]} values, expected {[e.size for e in expected]}"
            continue
        results[name].difference = max(
            float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, expected, strict=True)
        )


def by_size(outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Copies, flat, in an order that does not depend on the engine."""
    return sorted((np.array(o, dtype=np.float64).ravel() for o in outputs), key=lambda o: o.size)


# Showing


def line(row: Row, results: dict[str, Result], engines: list[str]) -> str:
    cells = []
    for name in engines:
        r = results.get(name)
        cells.append(f"{1e3 * r.median:9.2f}±{1e3 * r.spread:<5.2f}" if r and r.seconds else f"{'-':>9s}      ")
    return f"{row.name:34s}" + "".join(cells) + f"{ratio(results):7.2f}"


def ratio(results: dict[str, Result]) -> float:
    """How many times as fast darkbn is as the fastest peer."""
    peers = [r.median for name, r in results.items() if name != "darkbn" and r.seconds]
    own = results.get("darkbn")
    return min(peers) / own.median if peers and own and own.seconds else float("nan")


def version(distribution: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return str(getattr(importlib.import_module(distribution), "__version__", None))  # run from the source folder


def chart(document: list[dict[str, Any]], path: Path) -> None:
    """Bars: times relative to darkbn's, one group per network."""
    from matplotlib.figure import Figure

    rows = [entry for entry in document if entry["results"].get("darkbn", {}).get("median")]
    engines = [name for name in ENGINES if any(r["results"].get(name, {}).get("median") for r in rows)]
    figure = Figure(figsize=(10, 1.2 + 0.16 * len(rows) * (len(engines) + 1)), layout="constrained")
    axes = figure.add_subplot()
    step = 1 / (len(engines) + 1)
    for e, name in enumerate(engines):
        places, widths = [], []
        for i, entry in enumerate(rows):
            median = entry["results"].get(name, {}).get("median")
            if median:
                places.append(i + (e - len(engines) / 2) * step)
                widths.append(median / entry["results"]["darkbn"]["median"])
                axes.text(widths[-1], places[-1], f" {1e3 * median:.1f} ms", va="center", fontsize=6)
        axes.barh(places, widths, step, label=name)
    axes.axvline(1, color="black", linewidth=0.5)
    axes.set_yticks(range(len(rows)), [entry["name"] for entry in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    axes.set_xlabel("time relative to darkbn (longer is slower)")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def entry_of(row: Row, results: dict[str, Result]) -> dict[str, Any]:
    found = {n: asdict(r) | ({"median": r.median, "spread": r.spread} if r.seconds else {}) for n, r in results.items()}
    return {"name": row.name, **asdict(row), "ratio": ratio(results), "results": found}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg-dir", type=Path, nargs="+", default=[Path()], help="folders that are searched for cfgs")
    parser.add_argument("--only", nargs="+", default=[], help="networks, by (a part of) their names")
    parser.add_argument("--peers", nargs="+", choices=list(ENGINES)[1:], default=list(ENGINES)[1:])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60, help="most time for the rounds of a network")
    parser.add_argument("--memory", action="store_true", help="measure memory, too (slower)")
    parser.add_argument("--json", type=Path, help="raw results; rows measured now replace those of the file")
    parser.add_argument("--png", type=Path, help="chart")
    parser.add_argument("--models", type=Path, help="folder that keeps the ONNX models for the next run")
    parser.add_argument("--prepare", action="store_true", help="only write the models to --models")
    parser.add_argument("--memory-of", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.memory_of:
        print_memory(*args.memory_of, args.threads)
        return
    write = sys.stdout.write
    engines = ["darkbn", *(name for name in args.peers if importlib.util.find_spec(ENGINES[name][1]))]
    for name in args.peers:
        if name not in engines:
            write(f"{name}: not installed, skipped\n")
    versions = {name: version(ENGINES[name][2]) for name in engines}
    write(f"{platform.processor() or platform.machine()}, {args.threads} threads; ")
    write(", ".join(f"{name} {versions[name]}" for name in engines) + "\n")
    write(f"{'ms, median±spread':34s}" + "".join(f"{name:>15s}" for name in engines) + "  ratio\n")
    document = json.loads(args.json.read_text())["rows"] if args.json and args.json.exists() else []
    with contextlib.ExitStack() as stack:
        folder = args.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for row in ROWS:
            if args.only and not any(text in row.name for text in args.only):
                continue
            cfg = find_cfg(row.cfg, args.cfg_dir)
            if cfg is None:
                write(f"{row.name:34s} {row.cfg} is in none of the folders (--cfg-dir)\n")
                continue
            model = export(cfg, row, folder)
            if args.prepare:
                if "ncnn" in engines and row.batch == 1:
                    with contextlib.suppress(RuntimeError):
                        _convert_for_ncnn(model, make_input(row))
                continue
            results = measure(cfg, row, model, engines, args)
            write(line(row, results, engines) + "\n")
            for name, result in results.items():
                if result.error:
                    write(f"    {name}: {result.error}\n")
            differences = {n: f"{r.difference:.1e}" for n, r in results.items() if r.difference is not None}
            write(f"    differences {differences}\n")
            if args.memory:
                write(f"    MB { ({n: r.megabytes for n, r in results.items() if r.megabytes is not None}) }\n")
            sys.stdout.flush()
            document = [entry for entry in document if entry["name"] != row.name] + [entry_of(row, results)]
            if args.json:
                head = {"machine": platform.platform(), "threads": args.threads, "versions": versions}
                args.json.write_text(json.dumps({**head, "rows": document}, indent=1) + "\n")
            gc.collect()
    ratios = [entry["ratio"] for entry in document if entry["ratio"] == entry["ratio"]]
    if ratios:
        write(f"darkbn against the fastest peer: {statistics.geometric_mean(ratios):.2f} times as fast in the mean, ")
        write(f"{min(ratios):.2f} at least ({len(ratios)} networks)\n")
    if args.png and document:
        chart(document, args.png)


if __name__ == "__main__":
    main()
