"""`earmark tag` on files, the whole process: hours of audio per second, and how much of the cores it keeps busy.

usage: batch.py [PATH..]    files or folders; the demo clips by default
"""

import json
import os
import pathlib
import resource
import sys
import tempfile
import time

from common import audio_files, binary, result, run, summary

ROUNDS = 3


def main():
    paths = audio_files(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "tags.json"
        walls, shares = [], []
        for _ in range(ROUNDS):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            run([binary("earmark"), "tag", *paths, "--format", "json", "--out", out, "-q", "--no-progress"])
            walls.append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            shares.append(cpu_s / walls[-1] / len(os.sched_getaffinity(0)))
        files = json.loads(out.read_text())["files"]
    audio_s = sum(file["duration_s"] for file in files)
    rss_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{len(files)} files, {audio_s / 60:.1f} min, {len(os.sched_getaffinity(0))} cores, {ROUNDS} runs")
    print(f"seconds {summary(walls)}, {audio_s / min(walls):.0f} x real time, largest resident memory {rss_mb:.0f} MB")
    result("batch", hours_per_s=audio_s / 3600 / min(walls), cpu_share=max(shares), rss_mb=rss_mb)


if __name__ == "__main__":
    main()
