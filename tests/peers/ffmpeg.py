#!/usr/bin/env python3
"""Compares Earmark's decoding with ffmpeg's, format by format.

A piece of music-like sound is encoded into every supported format and decoded twice. ffmpeg's channels are averaged and
resampled by Earmark's own resampler, so that the table shows the decoders and nothing else. A decoder may keep the
samples that an encoder adds at the start: such a lag is found, printed and taken out before comparing. Formats that
Earmark itself gives to ffmpeg are compared like the others: they show the path through the pipe.

usage: ffmpeg.py --decode-bin target/release/examples/decode [--corpus DIR [--clips N]]
Needs numpy and ffmpeg. --corpus adds the first N audio files below DIR as they are.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

RATE = 22050
# name, file name, sample rate, channels, encoder options
FORMATS = [
    ("WAV s16", "a.wav", 44100, 2, "-c:a pcm_s16le"),
    ("WAV s24", "b.wav", 48000, 2, "-c:a pcm_s24le"),
    ("WAV f32", "c.wav", 96000, 2, "-c:a pcm_f32le"),
    ("WAV u8", "d.wav", 22050, 1, "-c:a pcm_u8"),
    ("WAV ADPCM MS", "e.wav", 44100, 2, "-c:a adpcm_ms"),
    ("WAV ADPCM IMA", "f.wav", 44100, 2, "-c:a adpcm_ima_wav"),
    ("WAV A-law", "g.wav", 8000, 1, "-c:a pcm_alaw"),
    ("WAV s16 5.1", "h.wav", 48000, 6, "-c:a pcm_s16le"),
    ("AIFF", "a.aiff", 44100, 2, "-c:a pcm_s16be"),
    ("CAF", "a.caf", 44100, 2, "-c:a pcm_s16be"),
    ("FLAC", "a.flac", 44100, 2, "-c:a flac"),
    ("FLAC s24 96 kHz", "b.flac", 96000, 2, "-c:a flac -sample_fmt s32"),
    ("FLAC 5.1", "c.flac", 48000, 6, "-c:a flac"),
    ("FLAC in Ogg", "a.oga", 44100, 2, "-c:a flac"),
    ("ALAC in MP4", "alac.m4a", 44100, 2, "-c:a alac"),
    ("ALAC in CAF", "alac.caf", 44100, 2, "-c:a alac"),
    ("ALAC 5.1", "alac6.m4a", 48000, 6, "-c:a alac"),
    ("MP2", "a.mp2", 44100, 2, "-c:a mp2 -b:a 192k"),
    ("MP3 CBR", "a.mp3", 44100, 2, "-c:a libmp3lame -b:a 192k"),
    ("MP3 VBR", "b.mp3", 48000, 2, "-c:a libmp3lame -q:a 2"),
    ("MP3 MPEG-2", "c.mp3", 22050, 1, "-c:a libmp3lame -b:a 48k"),
    ("Vorbis", "a.ogg", 44100, 2, "-c:a libvorbis -q:a 5"),
    ("Vorbis in WebM", "b.webm", 44100, 2, "-c:a libvorbis -q:a 5"),
    ("Opus", "a.opus", 48000, 2, "-c:a libopus -b:a 128k"),
    ("Opus mono", "b.opus", 48000, 1, "-c:a libopus -b:a 48k"),
    ("Opus in WebM", "a.webm", 48000, 2, "-c:a libopus -b:a 128k"),
    ("Opus in MKV", "a.mkv", 48000, 2, "-c:a libopus -b:a 128k"),
    ("Opus in MP4", "opus.mp4", 48000, 2, "-c:a libopus -b:a 128k"),
    ("Opus in CAF", "opus.caf", 48000, 2, "-c:a libopus -b:a 128k"),
    ("AAC in MP4", "a.m4a", 44100, 2, "-c:a aac -b:a 160k"),
    ("AAC in ADTS", "a.aac", 44100, 2, "-c:a aac -b:a 160k"),
    ("AAC in MKV", "b.mkv", 48000, 2, "-c:a aac -b:a 160k"),
    ("AAC in MOV", "a.mov", 44100, 2, "-c:a aac -b:a 160k"),
    ("AAC in fragmented MP4", "frag.mp4", 44100, 2,
     "-c:a aac -b:a 160k -movflags +frag_keyframe+empty_moov -frag_duration 1000000"),
    ("AAC 5.1", "aac6.m4a", 48000, 6, "-c:a aac -b:a 320k"),
    ("Opus 5.1", "opus6.opus", 48000, 6, "-c:a libopus -b:a 256k -mapping_family 1"),
    ("Vorbis 5.1", "vorbis6.ogg", 48000, 6, "-c:a libvorbis -q:a 4"),
    ("AC-3", "a.ac3", 48000, 6, "-c:a ac3 -b:a 384k"),
    ("WMA", "a.wma", 44100, 2, "-c:a wmav2 -b:a 160k"),
    ("WavPack", "a.wv", 44100, 2, "-c:a wavpack"),
    ("AAC in MPEG-TS", "a.ts", 44100, 2, "-c:a aac -b:a 160k"),
    ("MP3 in AVI", "a.avi", 44100, 2, "-c:a libmp3lame -b:a 192k"),
]


def music(rate, channels, secs=6.0, seed=7):
    """Decaying harmonic notes and bursts of noise, different in every channel."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(rate * secs)) / rate
    out = np.zeros((len(t), channels))
    for start in np.arange(0.0, secs - 0.3, 0.23):
        pitch = 110.0 * 2 ** (rng.integers(0, 30) / 12)
        local = np.clip(t - start, 0, None)
        envelope = np.where(t >= start, np.exp(-4 * local) * np.minimum(local / 0.005, 1), 0)
        note = sum(np.sin(2 * np.pi * pitch * k * local) / k for k in range(1, 9) if pitch * k < 0.45 * rate)
        hit = np.where((t >= start) & (t < start + 0.03), 1.0, 0.0) * rng.standard_normal(len(t)) * 0.3
        pan = rng.uniform(0.2, 1.0, channels)
        out += 0.12 * (envelope * note)[:, None] * pan + 0.1 * hit[:, None] * rng.uniform(0, 1, channels)
    return np.clip(out, -0.95, 0.95).astype("<f4")


def run(*command, **kwargs):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, **kwargs)


def ffmpeg_native(path):
    """Channels at the native rate, by ffmpeg."""
    probe = run("ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries",
                "stream=codec_name,sample_rate,channels", "-of", "csv=p=0", f"file:{path}").stdout.decode()
    codec, rate, channels = probe.strip().splitlines()[0].split(",")[:3]
    rate, channels = int(rate), int(channels)
    # ffmpeg's own Opus and MP2 decoders are approximations (another SILK resampler, 16 bits): take the exact ones.
    exact = {"opus": ["-c:a", "libopus"], "mp2": ["-c:a", "mp2float"]}
    raw = run("ffmpeg", "-nostdin", "-v", "error", *exact.get(codec, []), "-i", f"file:{path}", "-map", "0:a:0",
              "-f", "f32le", "-").stdout
    return rate, np.frombuffer(raw, "<f4").reshape(-1, channels)


def snr_db(reference, ours):
    error = np.sum((reference - ours) ** 2)
    return 200.0 if error == 0 else min(200.0, 10 * np.log10(np.sum(reference**2) / error))


def compare(decode_bin, path, tmp):
    """(decoder, lag in native samples, SNR in dB)"""
    out = tmp / "ours.f32"
    said = run(decode_bin, path, out).stdout.decode().split()
    ours = np.fromfile(out, "<f4").astype(np.float64)
    rate, channels = ffmpeg_native(path)
    mono = channels.astype(np.float64).mean(axis=1).astype("<f4")

    def resampled(lag):
        shifted = np.concatenate([np.zeros(lag, "<f4"), mono]) if lag >= 0 else mono[-lag:]
        shifted.astype("<f4").tofile(tmp / "in.f32")
        run(decode_bin, "--resample", tmp / "in.f32", rate, tmp / "ref.f32")
        return np.fromfile(tmp / "ref.f32", "<f4").astype(np.float64)

    # The coarse lag by correlation at 22,050 Hz, the fine one by trying native samples around it.
    reference = resampled(0)
    count = min(len(ours), len(reference))
    size = 1 << (2 * count - 1).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(ours[:count], size) * np.conj(np.fft.rfft(reference[:count], size)), size)
    coarse = int(np.argmax(correlation))
    coarse -= size if coarse > size // 2 else 0
    reach = int(np.ceil(rate / RATE)) if coarse else 0
    centre = round(coarse * rate / RATE)
    best = (-np.inf, 0)
    for lag in sorted(range(centre - reach, centre + reach + 1), key=abs):
        reference = resampled(lag)
        count = min(len(ours), len(reference))
        # The edges see different silence around the clip.
        edge = 2048 + max(0, round(coarse))
        best = max(best, (snr_db(reference[edge : count - 2048], ours[edge : count - 2048]), lag))
    return said[0], best[1], best[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode-bin", required=True, type=pathlib.Path)
    parser.add_argument("--corpus", type=pathlib.Path)
    parser.add_argument("--clips", type=int, default=8)
    args = parser.parse_args()

    worst, formats, failed = np.inf, 0, 0
    print(f"{'format':34} {'decoder':10} {'lag':>6} {'SNR dB':>8}")
    with tempfile.TemporaryDirectory() as name:
        tmp = pathlib.Path(name)
        jobs = []
        for label, file, rate, channels, options in FORMATS:
            path = tmp / file
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
            run("ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "f32le", "-ar", rate, "-ac", channels,
                "-channel_layout", layout, "-i", "-", *options.split(), path, input=music(rate, channels).tobytes())
            jobs.append((label, path))
        if args.corpus:
            kinds = {".mp3", ".flac", ".ogg", ".opus", ".wav", ".m4a"}
            clips = sorted(p for p in args.corpus.rglob("*") if p.suffix.lower() in kinds)
            # Spread over the folder: neighbours tend to be alike.
            jobs += [(p.name, p) for p in clips[:: max(1, len(clips) // args.clips)][: args.clips]]
        for label, path in jobs:
            try:
                decoder, lag, snr = compare(args.decode_bin, path, tmp)
            except subprocess.CalledProcessError as error:
                print(f"{label[:34]:34} failed: {error.stderr.decode().strip().splitlines()[-1]}")
                failed += 1
                continue
            print(f"{label[:34]:34} {decoder:10} {lag:6} {snr:8.1f}")
            worst, formats = min(worst, snr), formats + 1
    print(f"RESULT ffmpeg min_snr_db={worst:.1f} formats={formats} failed={failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
