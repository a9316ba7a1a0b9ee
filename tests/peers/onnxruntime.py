"""The CPU engine against onnxruntime: the same weights, the same windows, one and two threads.

The ONNX graph is written from the model file with its batch norms as they are; onnxruntime folds them itself. Times are
of one window per call, as in live tagging.

usage: onnxruntime.py [AUDIO..]      audio to take the windows from; the demo clips by default
environment: MODEL=file.safetensors  default: the embedded model, or random weights where there is none
"""

import os
import pathlib
import re
import sys
import tempfile
import time

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
import numpy as np
import onnx
import onnxruntime
import soundfile
import soxr
from onnx import TensorProto, helper, numpy_helper

from common import audio_files, binary, result, run, summary, table
from models import (
    BATCH_NORM_EPSILON,
    DEFAULT_MODEL,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
    read_model,
    write_random_model,
)

NUM_WINDOWS = 16
ROUNDS = 12
REPEATS = 20


def build_graph(metadata, tensors):
    """Windows [n, 1, 59049] -> logits [n, num_tags]."""
    nodes, initializers = [], []

    def constant(name, values):
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    value = "windows"
    widths = metadata["architecture"]["widths"]
    for index in range(len(widths)):
        prefix = f"feature_extractor.{index}"
        parameters = {
            key: constant(f"{prefix}.{key}", tensors[f"{prefix}.{key}"])
            for key in ("weight", "bias", "gamma", "beta", "running_mean", "running_var")
        }
        kernel = tensors[f"{prefix}.weight"].shape[2]
        stride, pad = (3, 0) if index == 0 else (1, (kernel - 1) // 2)
        nodes.append(
            helper.make_node(
                "Conv",
                [value, parameters["weight"], parameters["bias"]],
                [f"conv{index}"],
                kernel_shape=[kernel],
                strides=[stride],
                pads=[pad, pad],
            )
        )
        normalised = [f"conv{index}", *(parameters[key] for key in ("gamma", "beta", "running_mean", "running_var"))]
        nodes.append(
            helper.make_node("BatchNormalization", normalised, [f"norm{index}"], epsilon=BATCH_NORM_EPSILON)
        )
        nodes.append(helper.make_node("Relu", [f"norm{index}"], [f"relu{index}"]))
        value = f"relu{index}"
        if 1 <= index <= 9:
            nodes.append(helper.make_node("MaxPool", [value], [f"pool{index}"], kernel_shape=[3], strides=[3]))
            value = f"pool{index}"
    nodes.append(helper.make_node("Flatten", [value], ["embedding"], axis=1))
    value = "embedding"
    layers = sum(name.startswith("head.") and name.endswith(".weight") for name in tensors)
    for layer in range(layers):
        names = [constant(f"head.{layer}.{key}", tensors[f"head.{layer}.{key}"]) for key in ("weight", "bias")]
        nodes.append(helper.make_node("Gemm", [value, *names], [f"head{layer}"], transB=1))
        value = f"head{layer}"
        if layer + 1 < layers:
            nodes.append(helper.make_node("Relu", [value], [f"hidden{layer}"]))
            value = f"hidden{layer}"
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("windows", TensorProto.FLOAT, ["n", 1, WINDOW_SAMPLES])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", metadata["architecture"]["num_tags"]])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()


def session(graph, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def read_windows(paths):
    """NUM_WINDOWS windows spread over the files, [n, 59049]."""
    windows = []
    per_file = -(-NUM_WINDOWS // len(paths))
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE_HZ)
        last = len(mono) - WINDOW_SAMPLES
        if last >= 0:
            windows += [mono[start : start + WINDOW_SAMPLES] for start in np.linspace(0, last, per_file, dtype=int)]
    if not windows:
        raise SystemExit("none of the files is as long as one window")
    return np.stack(windows[:NUM_WINDOWS]).astype(np.float32)


def main():
    windows = read_windows(audio_files(sys.argv[1:]))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model_path = pathlib.Path(os.environ.get("MODEL", DEFAULT_MODEL))
        if not model_path.exists() and "MODEL" not in os.environ:
            model_path = folder / "random.safetensors"
            write_random_model(model_path)
            print("no embedded model: random weights")
        metadata, tensors = read_model(model_path)
        graph = build_graph(metadata, tensors)

        all_in, one_in, out = folder / "all.f32", folder / "one.f32", folder / "out.f32"
        windows.tofile(all_in)
        windows[0].tofile(one_in)

        def ours(threads, waveform, repeat):
            command = [binary("run_windows"), model_path, waveform, out, "--threads", threads, "--repeat", repeat]
            printed = run([*command, "--hop", WINDOW_SAMPLES])
            found = re.search(r"ms_per_window=([0-9.eE+-]+)", printed)
            if not found:
                raise SystemExit(f"run_windows printed no ms_per_window:\n{printed}")
            return float(found.group(1))

        ours(2, all_in, 1)
        our_logits = np.fromfile(out, dtype=np.float32).reshape(len(windows), -1)
        their_logits = session(graph, 2).run(None, {"windows": windows[:, None]})[0]
        differences = np.abs(our_logits - their_logits)

        rows = [["threads", "earmark ms/window", "onnxruntime ms/window", "ratio"]]
        ratios = {}
        window = windows[:1, None]
        for threads in (1, 2):
            peer = session(graph, threads)
            for _ in range(3):
                peer.run(None, {"windows": window})
            our_times, their_times = [], []
            for _ in range(ROUNDS):
                our_times.append(ours(threads, one_in, REPEATS))
                best = float("inf")
                for _ in range(REPEATS):
                    start = time.perf_counter()
                    peer.run(None, {"windows": window})
                    best = min(best, time.perf_counter() - start)
                their_times.append(best * 1e3)
            ratios[threads] = min(our_times) / min(their_times)
            rows.append([threads, summary(our_times), summary(their_times), f"{ratios[threads]:.3f}"])

    print(f"model {metadata['name']}, {len(windows)} windows, onnxruntime {onnxruntime.__version__};", end=" ")
    print(f"{ROUNDS} rounds of {REPEATS} windows in turn, fastest of each")
    table(rows)
    print(f"largest difference of the logits {differences.max():.2e}, largest logit {np.abs(their_logits).max():.2f}")
    result("onnxruntime", ratio=ratios[2], ratio_1t=ratios[1], max_abs_diff=differences.max())


if __name__ == "__main__":
    main()
