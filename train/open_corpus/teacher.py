"""Labels by a teacher: the two MagnaTagATune networks of the PyPI package musicnn, averaged.

    clip -> 16 kHz mono -> 96 log mels every 16 ms -> patches of 187 frames every 94 -> two networks -> [18, 50] -> mean

The networks are built by musicnn's own code and its checkpoints restored into them; the front end is written here,
because today's librosa differs from the one musicnn was trained with (padding) and because musicnn takes the logarithm
in float16, which overflows on loud music.
"""

import contextlib
import hashlib
import io
import logging
import os
import pathlib
import shutil
import tempfile
import warnings

import numpy as np

import audio
from sources import RecipeError, write_atomic

# musicnn's MTT_LABELS; compared with the package's own when the networks are built.
TAGS = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,"
    "indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,"
    "solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,"
    "female voice,choral"
).split(",")

RATE_HZ = 16_000
FFT_SAMPLES = 512
HOP_SAMPLES = 256
MELS = 96
PATCH_FRAMES = 187
PATCH_HOP_FRAMES = 94
HOP_SECS = PATCH_HOP_FRAMES * HOP_SAMPLES / RATE_HZ  # 1.504
MODELS = ("MTT_musicnn", "MTT_vgg")


def patches(path: pathlib.Path) -> np.ndarray:
    """[patches, PATCH_FRAMES, MELS] of a clip."""
    import librosa

    mels = librosa.feature.melspectrogram(
        y=audio.decode(path, rate_hz=RATE_HZ),
        sr=RATE_HZ,
        hop_length=HOP_SAMPLES,
        n_fft=FFT_SAMPLES,
        n_mels=MELS,
        pad_mode="reflect",
    ).T
    mels = np.log10(10_000 * mels.astype(np.float16).astype(np.float32) + 1)
    starts = range(0, len(mels) - PATCH_FRAMES + 1, PATCH_HOP_FRAMES)
    return np.stack([mels[start : start + PATCH_FRAMES] for start in starts])


class Teacher:
    """Window probabilities of clips, kept in `cache` under the SHA-256 of the clip's bytes. TensorFlow starts when it
    is first needed, so that a build whose labels are all there does not wait for it."""

    def __init__(self, cache: pathlib.Path):
        self.cache = cache
        self.networks = None

    def __call__(self, path: pathlib.Path) -> np.ndarray:
        """float32 [windows, 50]."""
        stored = self.cache / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.npy"
        if not stored.is_file():
            if self.networks is None:
                self.networks = [_network(model) for model in MODELS]
            batch = patches(path)
            first, second = (network(batch) for network in self.networks)
            content = io.BytesIO()
            np.save(content, ((first + second) / 2).astype(np.float32))
            write_atomic(stored, content.getvalue())
        return np.load(stored)


def _network(model: str):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tf.compat.v1.layers, which musicnn is written in
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with contextlib.redirect_stderr(io.StringIO()):
        import musicnn.configuration
        import musicnn.models
        import tensorflow as tf

    if list(musicnn.configuration.MTT_LABELS) != TAGS:
        raise RecipeError("this musicnn has other tags than 0.1.0; install the version in requirements.txt")
    graph = tf.Graph()
    with graph.as_default(), tempfile.TemporaryDirectory() as folder:
        batch = tf.compat.v1.placeholder(tf.float32, [None, PATCH_FRAMES, MELS])
        training = tf.compat.v1.placeholder(tf.bool)
        probabilities = tf.nn.sigmoid(musicnn.models.define_model(batch, training, model, len(TAGS))[0])
        session = tf.compat.v1.Session()
        # musicnn's checkpoints are files with an empty name, which TensorFlow no longer finds: give them one.
        source = pathlib.Path(musicnn.models.__file__).parent / model
        for suffix in (".index", ".data-00000-of-00001"):
            shutil.copy(source / suffix, f"{folder}/model{suffix}")
        tf.compat.v1.train.Saver().restore(session, f"{folder}/model")
    return lambda values: session.run(probabilities, {batch: values, training: False})
