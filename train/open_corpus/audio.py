"""Original files and scores in, clips out: mono, 22,050 Hz, Ogg Vorbis q2.

    music   ffmpeg from `start_secs` -> 641,655 samples -> peak above 1 scaled to 0.99
    noise   ffmpeg, whole file -> cut -> very quiet clips raised to -38 dBFS -> peak above 0.98 scaled to 0.98
    score   music21 -> note events -> tinysoundfont -> silence trimmed -> repeated if short -> cut -> peak scaled
    speech  words of one speaker, each at its own level, with pauses; babble sums several speakers

The arithmetic is spelled out in float32 and float64 where the order matters: with the same ffmpeg and libvorbis the
clips come out byte for byte as the ones the default model learnt from.
"""

import dataclasses
import fractions
import itertools
import pathlib
import random
import subprocess
import warnings

import numpy as np

from sources import RecipeError, run, write_atomic

RATE_HZ = 22_050
CLIP_SAMPLES = 641_655  # 29.1 s
NOISE_SAMPLES = 220_500  # 10 s

# A little more than a clip is decoded: a seek in an Ogg file may start late by a part of a packet.
DECODE_SECS = 30.0

NOISE_PEAK = 0.98
QUIET_RMS = 0.005
RAISED_RMS = 10 ** (-38 / 20)

SILENCE = 10 ** (-54 / 20)
PAUSE_SAMPLES = RATE_HZ // 2  # between repetitions of a short score
PARTS = {"all": None, "first": 0, "last": -1}


def decode(
    path: pathlib.Path, start_secs: float | None = None, secs: float | None = None, rate_hz: int = RATE_HZ
) -> np.ndarray:
    """A file's mono waveform as float32."""
    if not path.is_file():
        raise RecipeError(f"{path} is not there: the package has changed since the manifest was made")
    command = ["ffmpeg", "-v", "error", "-nostdin"]
    command += [] if start_secs is None else ["-ss", f"{start_secs:.3f}"]
    command += ["-i", str(path)]
    command += [] if secs is None else ["-t", str(secs)]
    return np.frombuffer(run([*command, "-ac", "1", "-ar", str(rate_hz), "-f", "f32le", "-"]), dtype="<f4")


def encode(waveform: np.ndarray, path: pathlib.Path) -> None:
    """Writes a clip; no dates, no versions and no metadata, so that the same audio gives the same bytes."""
    command = ["ffmpeg", "-v", "error", "-f", "f32le", "-ac", "1", "-ar", str(RATE_HZ), "-i", "-"]
    command += ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]
    command += ["-c:a", "libvorbis", "-q:a", "2", "-f", "ogg", "-"]
    done = subprocess.run(command, input=waveform.astype("<f4").tobytes(), capture_output=True, check=False)
    if done.returncode != 0:
        raise RecipeError(f"ffmpeg could not encode {path.name}: {done.stderr.decode(errors='replace').strip()}")
    write_atomic(path, done.stdout)


def music(path: pathlib.Path, start_secs: float) -> np.ndarray:
    waveform = decode(path, start_secs, DECODE_SECS)[:CLIP_SAMPLES]
    if len(waveform) < CLIP_SAMPLES - RATE_HZ:
        raise RecipeError(f"{path} has {len(waveform) / RATE_HZ:.1f} s after {start_secs} s; a clip takes 29.1 s")
    waveform = np.pad(waveform, (0, CLIP_SAMPLES - len(waveform)))
    peak = np.abs(waveform).max()
    return waveform * np.float32(0.99 / peak) if peak > 1 else waveform


def noise(path: pathlib.Path, start: int, samples: int) -> np.ndarray:
    waveform = decode(path)[start : start + samples]
    if len(waveform) < samples:
        raise RecipeError(f"{path} ends {samples - len(waveform)} samples before its clip does")
    rms = np.sqrt(np.mean(waveform.astype(np.float64) ** 2))
    if 0 < rms < QUIET_RMS:
        waveform = (waveform.astype(np.float64) * (RAISED_RMS / rms)).astype(np.float32)
    peak = np.abs(waveform).max()
    return waveform * np.float32(NOISE_PEAK / peak) if peak > NOISE_PEAK else waveform


def external_noise(path: pathlib.Path, start: int, samples: int) -> np.ndarray:
    """As `noise`, never raised."""
    waveform = decode(path)[start : start + samples]
    peak = np.abs(waveform).max(initial=0)
    return waveform * np.float32(NOISE_PEAK) / peak if peak > NOISE_PEAK else waveform


# --- scores -----------------------------------------------------------------------------------------------------------


def note_events(score, shift: int) -> tuple[list[tuple[fractions.Fraction, int, int, int]], fractions.Fraction]:
    """(seconds, on, key, velocity) in order, at each time the ends before the beginnings. Seconds are exact: how they
    round to samples then depends on the score alone. Also the seconds that sound on after the last event: a quarter
    note, as at the end of a MIDI track."""
    from music21 import midi

    file = midi.translate.streamToMidiFile(score)
    notes, tempos = [], [(0, 500_000)]  # microseconds per quarter note
    for track in file.tracks:
        tick = 0
        for event in track.events:
            if event.isDeltaTime():
                tick += event.time
            elif event.isNoteOn() and event.velocity:
                notes.append((tick, 1, event.pitch + shift, event.velocity))
            elif event.isNoteOn() or event.isNoteOff():
                notes.append((tick, 0, event.pitch + shift, 0))
            elif event.type == midi.MetaEvents.SET_TEMPO:
                tempos.append((tick, int.from_bytes(event.data, "big")))
    tempos.sort(key=lambda tempo: tempo[0])

    def seconds(tick: int) -> fractions.Fraction:
        total = 0
        for (begin, micros), (end, _) in zip(tempos, [*tempos[1:], (tick, 0)], strict=True):
            total += max(0, min(end, tick) - begin) * micros
        return fractions.Fraction(total, file.ticksPerQuarterNote * 1_000_000)

    events = ((seconds(tick), on, key, velocity) for tick, on, key, velocity in notes)
    return sorted(events, key=lambda event: event[:2]), fractions.Fraction(tempos[-1][1], 1_000_000)


def parse_score(path: pathlib.Path, tune: int, part: str):
    from music21 import converter, stream

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overfull bars
        score = converter.parse(str(path))
    if isinstance(score, stream.Opus):
        score = score.scores[tune]
    return score if PARTS[part] is None else score.parts[PARTS[part]]


def render(events: list, tail_secs: fractions.Fraction, program: int, font: pathlib.Path) -> np.ndarray:
    """Each stretch between events is rounded to whole samples."""
    import tinysoundfont

    synth = tinysoundfont.Synth(samplerate=RATE_HZ)
    synth.program_select(0, synth.sfload(str(font)), 0, program)
    blocks, now = [], fractions.Fraction(0)

    def advance(samples: int) -> None:
        if samples > 0:
            blocks.append(np.frombuffer(bytes(synth.generate(samples)), dtype=np.float32).reshape(-1, 2))

    for at, on, key, velocity in events:
        advance(round((at - now) * RATE_HZ))
        now = at
        synth.noteon(0, key, velocity) if on else synth.noteoff(0, key)
    advance(round(tail_secs * RATE_HZ))
    return np.concatenate(blocks).mean(axis=1)


def score_clip(waveform: np.ndarray, start_secs: float, peak: float) -> np.ndarray:
    loud = np.flatnonzero(np.abs(waveform) > SILENCE)
    if len(loud) == 0:
        raise RecipeError("the rendered score is silent; has the sound font this program?")
    once = waveform[loud[0] : loud[-1] + 1]
    start = round(start_secs * RATE_HZ)
    pause = np.zeros(PAUSE_SAMPLES, np.float32)
    waveform = once
    while len(waveform) < start + CLIP_SAMPLES:
        waveform = np.concatenate([waveform, pause, once])
    clip = waveform[start : start + CLIP_SAMPLES]
    return clip * np.float32(peak / np.abs(clip).max())


# --- speech -----------------------------------------------------------------------------------------------------------

WORD_FRAME = 220  # 10 ms
WORD_RANGE_DB = 40
WORD_RMS = 0.08


@dataclasses.dataclass(frozen=True)
class Word:
    """A recording inside a package, where it begins in the clip (before the clip when negative) and its gain."""

    package: str
    member: str
    at: int
    gain: float


def spoken(waveform: np.ndarray) -> slice:
    """The part of a recording between the first and the last frame within 40 dB of the loudest one."""
    frames = len(waveform) // WORD_FRAME
    if frames < 3:
        return slice(0, len(waveform))
    energy = np.sqrt(
        np.mean(waveform[: frames * WORD_FRAME].reshape(frames, WORD_FRAME).astype(np.float64) ** 2, axis=1)
    )
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-WORD_RANGE_DB / 20))
    return slice(loud[0] * WORD_FRAME, (loud[-1] + 1) * WORD_FRAME)


def speech(words: list[tuple[pathlib.Path, Word]]) -> np.ndarray:
    """The sum of the words, 10 s."""
    clip = np.zeros(NOISE_SAMPLES)
    for path, word in words:
        waveform = decode(path)
        part = spoken(waveform)
        begin, end = max(0, word.at + part.start), min(NOISE_SAMPLES, word.at + part.stop)
        if begin < end:
            clip[begin:end] += word.gain * waveform[begin - word.at : end - word.at]
    return clip.astype(np.float32)


def babble(speakers: dict[str, list[pathlib.Path]], seed: str) -> np.ndarray:
    """10 s of several speakers at once: each says its words over and over with pauses of 50 to 350 ms, all equally loud
    and together at -22 dBFS. The pauses follow from the seed."""
    random_pause = random.Random(seed)
    clip = np.zeros(NOISE_SAMPLES)
    for paths in speakers.values():
        words = []
        for path in paths:
            waveform = decode(path)
            word = waveform[spoken(waveform)].astype(np.float64)
            words.append(word * (WORD_RMS / len(speakers) ** 0.5 / max(np.sqrt(np.mean(word**2)), 1e-6)))
        at = -random_pause.randrange(RATE_HZ)
        for word in itertools.cycle(words):
            if at >= NOISE_SAMPLES:
                break
            begin, end = max(0, at), min(NOISE_SAMPLES, at + len(word))
            if begin < end:
                clip[begin:end] += word[begin - at : end - at]
            at += len(word) + random_pause.randrange(RATE_HZ // 20, RATE_HZ * 7 // 20)
    return clip.astype(np.float32)
