#!/usr/bin/env python3
"""Compares Earmark's resampler with soxr at its best quality (VHQ), from 44.1 and 48 kHz to 22,050 Hz.

The two filters end at different frequencies below 11,025 Hz, so the signals hold nothing above 9.5 kHz: what is left is
gain, phase, delay, noise and, for the tones above 11,025 Hz, aliases. The SNR of a row is our output against soxr's.

usage: soxr.py --decode-bin target/release/examples/decode [--corpus DIR [--clips N]]
Needs numpy, scipy and soxr; --corpus (needs soundfile too) adds the first N FLAC, WAV, Ogg or MP3 files below DIR, low-passed.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

# This script has the name of the package it compares with: without its own folder on the path the package is found.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).resolve().parent]

import numpy as np
import soxr
from scipy import signal

RATE = 22050
BAND_HZ = 9500.0


def low_pass(samples, rate):
    taps = signal.firwin(2047, BAND_HZ, fs=rate, window=("kaiser", 14.0))
    return signal.fftconvolve(samples, taps, mode="same")


def chirp(rate, secs=8.0):
    t = np.arange(int(rate * secs)) / rate
    return 0.7 * signal.chirp(t, 20.0, secs, BAND_HZ, method="logarithmic")


def noise(rate, secs=8.0):
    return low_pass(0.2 * np.random.default_rng(3).standard_normal(int(rate * secs)), rate)


def notes(rate, secs=8.0):
    rng = np.random.default_rng(5)
    t = np.arange(int(rate * secs)) / rate
    out = np.zeros(len(t))
    for start in np.arange(0.0, secs - 0.3, 0.19):
        pitch = 82.4 * 2 ** (rng.integers(0, 36) / 12)
        local = np.clip(t - start, 0, None)
        envelope = np.where(t >= start, np.exp(-5 * local), 0)
        out += 0.1 * envelope * sum(np.sin(2 * np.pi * pitch * k * local) / k for k in range(1, 12))
    return low_pass(out, rate)


def alias_db(decode, rate):
    """Level of what a full-scale tone above the new Nyquist frequency leaves behind."""
    t = np.arange(rate * 2) / rate
    levels = []
    for hz in (11800.0, 13000.0, 16000.0, 20000.0):
        out = decode(np.sin(2 * np.pi * hz * t), rate)[2048:-2048]
        levels.append(20 * np.log10(np.sqrt(2 * np.mean(out**2)) + 1e-12))
    return max(levels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode-bin", required=True, type=pathlib.Path)
    parser.add_argument("--corpus", type=pathlib.Path)
    parser.add_argument("--clips", type=int, default=4)
    args = parser.parse_args()

    worst, worst_alias = np.inf, -np.inf
    with tempfile.TemporaryDirectory() as name:
        tmp = pathlib.Path(name)

        def decode(samples, rate):
            samples.astype("<f4").tofile(tmp / "in.f32")
            command = [args.decode_bin, "--resample", tmp / "in.f32", str(rate), tmp / "out.f32"]
            subprocess.run(command, check=True)
            return np.fromfile(tmp / "out.f32", "<f4").astype(np.float64)

        print(f"{'signal':34} {'from Hz':>8} {'SNR dB':>8} {'length':>14}")
        for rate in (44100, 48000):
            signals = {"chirp 20 Hz to 9.5 kHz": chirp(rate), "noise": noise(rate), "notes": notes(rate)}
            if args.corpus:
                import soundfile

                kinds = {".flac", ".wav", ".ogg", ".mp3"}
                clips = sorted(p for p in args.corpus.rglob("*") if p.suffix.lower() in kinds)
                for path in clips[:: max(1, len(clips) // args.clips)][: args.clips]:
                    samples, _ = soundfile.read(path, frames=rate * 20, always_2d=True)
                    # Its true rate does not matter here: sound is sound.
                    signals[path.name] = low_pass(samples.mean(axis=1), rate)
            for label, samples in signals.items():
                samples = samples.astype("<f4").astype(np.float64)
                ours = decode(samples, rate)
                theirs = soxr.resample(samples, rate, RATE, quality="VHQ")
                count = min(len(ours), len(theirs))
                reference = theirs[2048 : count - 2048]
                error = reference - ours[2048 : count - 2048]
                snr = 10 * np.log10(np.sum(reference**2) / max(np.sum(error**2), 1e-30))
                print(f"{label[:34]:34} {rate:8} {snr:8.1f} {len(ours):6} / {len(theirs):6}")
                worst = min(worst, snr)
            alias = alias_db(decode, rate)
            print(f"{'alias of tones from 11.8 kHz':34} {rate:8} {alias:8.1f}")
            worst_alias = max(worst_alias, alias)
    print(f"RESULT soxr min_snr_db={worst:.1f} max_alias_db={worst_alias:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
