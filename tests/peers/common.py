"""What the comparisons share: audio files, our binaries, and how a result is printed. Standard library only.

Speeds are taken in rounds in which the two sides take turns, so that a busy machine slows both; a side's figure is its
fastest round, and the median is shown beside it.
"""

import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
DEMO = ROOT / "assets" / "demo"

_AUDIO_SUFFIXES = {".aac", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}


def audio_files(arguments):
    """The files named by arguments, folders searched through, in order; the demo clips without arguments."""
    found = []
    for path in map(pathlib.Path, arguments or [DEMO]):
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.suffix.lower() in _AUDIO_SUFFIXES)
        else:
            found.append(path)
    if not found:
        raise SystemExit(f"no audio files under {' '.join(map(str, arguments))}")
    return found


def binary(name):
    """A binary or example of ours, built in the release profile."""
    for path in (RELEASE / name, RELEASE / "examples" / name):
        if path.exists():
            return path
    raise SystemExit(f"target/release/{name} is missing; ./dev peers builds it")


def run(command, **options):
    """Runs one of our binaries, quietly unless it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def summary(values):
    """'fastest (median m)' of a list of times."""
    return f"{min(values):.2f} (median {statistics.median(values):.2f})"


def table(rows):
    """Prints rows of text in aligned columns, the first row as the head."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def result(name, **values):
    """The last line of every comparison."""
    print("RESULT", name, " ".join(f"{key}={value:.4g}" for key, value in values.items()))
