"""`earmark tag` against PyPI's musicnn 0.1.0 (MTT_musicnn): the whole job on the same files and cores, decode included.

musicnn runs its own code, on current TensorFlow and librosa, in two ways; importing it is not counted in either.
  as shipped  musicnn.extractor.extractor(file), the package's public function, which builds a graph, restores it for
              every file and runs one patch at a time. Its float16 overflows on loud music; the answer is then worthless.
  tuned       the package's network with what that repeats taken out: one graph and session for all files, all patches
              of a file in one call, the spectrogram of the next file computed by another thread meanwhile.
Its hop is 3 s, side by side. `earmark tag` counts as a whole process, start included: at its default hop (298 ms, ten
results where musicnn gives one) and with windows side by side.

usage: musicnn.py [PATH..]    files or folders (the first 20 files); the demo clips by default
"""

import concurrent.futures
import contextlib
import io
import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tf.compat.v1.layers, which musicnn is written in
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import librosa
import musicnn.configuration
import musicnn.extractor
import musicnn.models
import numpy as np
import soundfile
import tensorflow as tf

from common import audio_files, binary, result, run, summary, table

MODEL = "MTT_musicnn"
NUM_FILES = 20
ROUNDS = 3
PATCH_FRAMES = 187  # what extractor() computes for 3 s
PATCHES_PER_CALL = 64


def mend_restore(folder):
    """musicnn's checkpoints are files with an empty name, which TensorFlow no longer finds: give them one."""
    source = pathlib.Path(musicnn.models.__file__).parent / MODEL
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(source / suffix, folder / f"model{suffix}")
    restore = tf.compat.v1.train.Saver.restore
    tf.compat.v1.train.Saver.restore = lambda self, session, _: restore(self, session, str(folder / "model"))


def as_shipped(paths):
    """Mean probability per tag of each file, by the package's public function."""
    means = []
    for path in paths:
        with contextlib.redirect_stdout(io.StringIO()):
            taggram, _ = musicnn.extractor.extractor(str(path), model=MODEL, extract_features=False)
        means.append(taggram.mean(axis=0))
    return np.stack(means)


def front_end(path):
    """musicnn.extractor.batch_data with the logarithm in float32: patches [n, PATCH_FRAMES, mels]."""
    config = musicnn.configuration
    waveform, rate = librosa.load(path, sr=config.SR)
    mels = librosa.feature.melspectrogram(
        y=waveform, sr=rate, hop_length=config.FFT_HOP, n_fft=config.FFT_SIZE, n_mels=config.N_MELS
    ).T
    mels = np.log10(10000 * mels.astype(np.float16).astype(np.float32) + 1)
    whole = len(mels) // PATCH_FRAMES
    return mels[: whole * PATCH_FRAMES].reshape(whole, PATCH_FRAMES, config.N_MELS)


class Tuned:
    """The package's network and front end without the work it repeats."""

    def __init__(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            mels = musicnn.configuration.N_MELS
            self.patches = tf.compat.v1.placeholder(tf.float32, [None, PATCH_FRAMES, mels])
            self.training = tf.compat.v1.placeholder(tf.bool)
            logits, *_ = musicnn.models.define_model(
                self.patches, self.training, MODEL, len(musicnn.configuration.MTT_LABELS)
            )
            self.probabilities = tf.nn.sigmoid(logits)
            self.session = tf.compat.v1.Session()
            tf.compat.v1.train.Saver().restore(self.session, "")

    def __call__(self, paths):
        means = []
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as ahead:
            for patches in ahead.map(front_end, paths):
                taggram = [
                    self.session.run(
                        self.probabilities,
                        {self.patches: patches[start : start + PATCHES_PER_CALL], self.training: False},
                    )
                    for start in range(0, len(patches), PATCHES_PER_CALL)
                ]
                means.append(np.concatenate(taggram).mean(axis=0))
        return np.stack(means)


def main():
    paths = audio_files(sys.argv[1:])[:NUM_FILES]
    audio_s = sum(soundfile.info(path).duration for path in paths)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        mend_restore(folder)
        tuned = Tuned()
        out = folder / "tags.json"

        def earmark(*options):
            run([binary("earmark"), "tag", *paths, "--format", "json", "--out", out, "-q", "--no-progress", *options])

        sides = {
            "earmark": earmark,
            "earmark, side by side": lambda: earmark("--hop-secs", "2.68"),
            "musicnn, as shipped": lambda: as_shipped(paths),
            "musicnn, tuned": lambda: tuned(paths),
        }
        times = {name: [] for name in sides}
        answers = tuned(paths)  # warms the sides up
        as_shipped(paths[:1])
        earmark()
        ours = {file["file"]: file["tags"] for file in json.loads(out.read_text())["files"]}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                start = time.perf_counter()
                answer = side()
                times[name].append(time.perf_counter() - start)
                print(f"{name}: {times[name][-1]:.2f} s", file=sys.stderr)
                if name == "musicnn, as shipped":
                    shipped_answers = answer

    labels = musicnn.configuration.MTT_LABELS
    rows = [["file", "earmark", "musicnn"]]
    for path, probabilities in zip(paths, answers):
        top = sorted(ours.get(str(path), []), key=lambda tag: -tag["confidence"])[:3]
        theirs = [labels[index] for index in np.argsort(-probabilities)[:3]]
        rows.append([path.name, ", ".join(tag["tag"] for tag in top), ", ".join(theirs)])
    table(rows)
    print()
    fastest = min(times["earmark"])
    rows = [["", "seconds", "x real time", "earmark is faster by"]]
    for name, values in times.items():
        rows.append([name, summary(values), f"{audio_s / min(values):.0f}", f"{min(values) / fastest:.2f}"])
    print(f"{len(paths)} files, {audio_s / 60:.1f} min, {os.cpu_count()} cores, TensorFlow {tf.__version__};", end=" ")
    print(f"{ROUNDS} rounds in turn, fastest of each")
    table(rows)
    differences = np.nan_to_num(np.abs(answers - shipped_answers), nan=1.0).max(axis=1)
    print(f"musicnn tuned and as shipped agree within 1e-3 on {np.sum(differences < 1e-3)} of {len(paths)} files")
    result(
        "musicnn",
        throughput_ratio=min(times["musicnn, as shipped"]) / fastest,
        throughput_ratio_tuned=min(times["musicnn, tuned"]) / fastest,
        throughput_ratio_tuned_side_by_side=min(times["musicnn, tuned"]) / min(times["earmark, side by side"]),
    )


if __name__ == "__main__":
    main()
