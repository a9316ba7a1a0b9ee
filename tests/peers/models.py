"""Earmark's model files, read and written without Earmark (format: core/src/model_file.rs)."""

import json
import pathlib
import struct

import numpy as np

from common import ROOT

DEFAULT_MODEL = ROOT / "assets" / "model" / "default.safetensors"

SAMPLE_RATE_HZ = 22_050
WINDOW_SAMPLES = 59_049
BATCH_NORM_EPSILON = 1e-5
FULL_WIDTHS = [128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512]

_DTYPES = {"F16": np.float16, "F32": np.float32}


def read_model(path):
    """(metadata, {tensor name: float32 array}) of a model file."""
    data = pathlib.Path(path).read_bytes()
    (header_len,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_len])
    metadata = json.loads(header.pop("__metadata__")["earmark"])
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + header_len + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[start:end], dtype=_DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).astype(np.float32)
    return metadata, tensors


def write_random_model(path, seed=1, last_kernel=3, num_tags=50):
    """A full-width model with random weights whose activations keep their scale: speed does not depend on the values."""
    rng = np.random.default_rng(seed)
    tensors = {}
    inputs = 1
    for index, width in enumerate(FULL_WIDTHS):
        kernel = last_kernel if index == len(FULL_WIDTHS) - 1 else 3
        prefix = f"feature_extractor.{index}"
        tensors[f"{prefix}.weight"] = rng.normal(0, (2 / (inputs * kernel)) ** 0.5, (width, inputs, kernel))
        tensors[f"{prefix}.bias"] = rng.normal(0, 0.1, width)
        tensors[f"{prefix}.gamma"] = rng.uniform(0.5, 1.5, width)
        tensors[f"{prefix}.beta"] = rng.normal(0, 0.1, width)
        tensors[f"{prefix}.running_mean"] = rng.normal(0, 0.1, width)
        tensors[f"{prefix}.running_var"] = rng.uniform(0.5, 2.0, width)
        inputs = width
    tensors["head.0.weight"] = rng.normal(0, inputs**-0.5, (num_tags, inputs))
    tensors["head.0.bias"] = rng.normal(0, 0.1, num_tags)
    metadata = {
        "format_version": 1,
        "name": "random",
        "architecture": {
            "widths": FULL_WIDTHS,
            "last_kernel": last_kernel,
            "head_hidden": None,
            "num_tags": num_tags,
        },
        "tags": [f"tag {index}" for index in range(num_tags)],
        "thresholds": [0.5] * num_tags,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "window_samples": WINDOW_SAMPLES,
        "training": None,
        "metrics": None,
        "licence": "CC0-1.0",
    }
    header, blobs, offset = {"__metadata__": {"earmark": json.dumps(metadata)}}, [], 0
    for name, values in tensors.items():
        dtype = "F16" if values.ndim > 1 else "F32"
        blob = values.astype(_DTYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
