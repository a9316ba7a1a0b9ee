"""`earmark adapt` in an unseen room: what it brings there, what it costs elsewhere, what it refuses, how long it takes.

usage: adapt.py room [--seeds N..] [--jobs N] [--stages dat] [--more="--lambda 0.05 .."] --music DIR --room DIR --unheard DIR --data DIR
                      adapts to ROOM with MUSIC, then `train evaluate` on DATA's test split with UNHEARD, other
                      recordings of the same room; the unchanged model beside it
       adapt.py refusals --music DIR --other DIR      rooms of pure tones, of OTHER music and of the same music
       adapt.py speed --music DIR --room DIR          stage dc from five minutes of each; 200 steps of stage dat

Standard library only. `room` needs a data set in MagnaTagATune's layout.
"""

import argparse
import json
import math
import os
import pathlib
import re
import shlex
import struct
import subprocess
import tempfile
import time
import wave
from concurrent.futures import ThreadPoolExecutor

from common import binary, result, run, table

RATE = 22_050


def adapt(folder, *arguments):
    """Runs `earmark adapt` in a home of its own; returns exit code, report, seconds and largest memory in MB."""
    command = [binary("earmark"), "adapt", "--json", "--quiet", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("EARMARK_", "XDG_"))}
    start = time.perf_counter()
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=environment | {"HOME": str(folder)})
    out, err = child.communicate()
    secs = time.perf_counter() - start
    if child.returncode not in (0, 1) or not out:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {child.returncode}:\n{out}{err}")
    return child.returncode, json.loads(out), secs, err


def evaluate(model, arguments, folder):
    """Measures of `train evaluate` by condition: clean first, then by SNR; the frequent tags."""
    record = folder / f"{model.stem}.json"
    more = ["--cache", arguments.cache] if arguments.cache else []
    more += ["--snr", arguments.snr] if arguments.snr else []
    run([binary("train"), "evaluate", "--model", model, "--data", arguments.data, "--split", "test", "--noise",
         f"room={arguments.unheard}", "--min-positives", "5", "--json", record, "--no-progress", *more])
    measures = {}
    for condition in json.loads(record.read_text())["conditions"]:
        clip = condition["clip_min_positives"]
        measures[condition["snr_db"]] = (clip["roc_auc_macro"], clip["average_precision_macro"])
    return measures


def room(arguments):
    more = shlex.split(arguments.more)
    default = binary("earmark").parents[2] / "assets" / "model" / "default.safetensors"
    mean = lambda values: sum(values) / len(values)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pool = ThreadPoolExecutor(arguments.jobs)

        def adapted(seed):
            """Exit code and report of an adaptation, its seconds, and what it is worth."""
            profile = folder / f"seed-{seed}.safetensors"
            code, found, secs, _ = adapt(folder, "--clean", *arguments.music, "--room", *arguments.room, "--out", profile,
                                         "--stages", arguments.stages, "--seed", seed, *more)
            return code, found, secs, evaluate(profile, arguments, folder) if code == 0 else None

        waiting, runs = pool.submit(evaluate, default, arguments, folder), pool.map(adapted, arguments.seeds)
        before = waiting.result()
        snrs = [snr for snr in before if snr is not None]
        head = ["", *("clean" if snr is None else f"{snr:g} dB" for snr in before)]
        rows, refused, changes = [], [], {snr: [] for snr in before}
        for seed, (code, found, secs, after) in zip(arguments.seeds, runs):
            report = found["report"]
            if code != 0:
                print(f"seed {seed}: refused: {report['refusals']}")
                refused.append(seed)
                continue
            meter, was = report["after"]["meter"], report["before"]["meter"]
            tags = lambda figures: mean([noisy["kept"] for noisy in figures["noisy"]])
            for snr in before:
                changes[snr].append(after[snr][0] - before[snr][0])
            share = report["share"]
            rows.append([seed, "-" if share is None else f"{share:g}", "-" if was is None else f"{was['accuracy']:.3f}",
                         f"{meter['accuracy']:.3f}", f"{meter['calibration_error']:.3f}",
                         f"{report['after']['clean']['kept']:.3f}", f"{report['after']['clean']['distance']:.4f}",
                         f"{tags(report['before']):.3f}", f"{tags(report['after']):.3f}", f"{secs:.0f}"])
            print(f"seed {seed}, ROC-AUC / AP on the test split, 'room': before -> after", flush=True)
            lines = [head]
            for name, measures in [("before", before), ("after", after)]:
                lines.append([name, *(f"{auc:.4f}/{ap:.4f}" for auc, ap in measures.values())])
            table(lines)
        if not rows:
            raise SystemExit("every seed was refused")
        print("change of ROC-AUC over the seeds, the same mixtures before and after")
        table([head, *([name, *(f"{of(values):+.4f}" for values in changes.values())]
                       for name, of in [("mean", mean), ("worst", min), ("best", max)])])
        table([["seed", "used", "meter before", "after", "its error", "clean tags kept", "change", "kept in the room", "after",
                "secs"], *rows])
        column = lambda index: mean([float(row[index]) for row in rows])
        gains = [mean(of_seed) for of_seed in zip(*(changes[snr] for snr in snrs))]
        result("adapt-room", seeds=len(arguments.seeds), refused=len(refused), meter_accuracy=column(3),
               clean_kept=column(5), room_kept_before=column(7), room_kept_after=column(8), room_auc_gain=mean(gains),
               room_auc_gain_worst=min(gains), clean_auc_change=mean(changes[None]), clean_auc_change_worst=min(changes[None]))


def write_tones(path, secs):
    """Three tones that stand still."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for second in range(secs):
            samples = [sum(0.15 * math.sin(math.tau * hz * (index / RATE + second)) for hz in (440, 1_000, 2_500))
                       for index in range(RATE)]
            file.writeframes(struct.pack(f"<{RATE}h", *(int(32_767 * sample) for sample in samples)))


def refusals(arguments):
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_tones(folder / "tones.wav", 120)
        rooms = [("pure tones", [folder / "tones.wav"]), ("other clean music", arguments.other), ("the same music", arguments.music)]
        for name, files in rooms:
            code, found, secs, _ = adapt(folder, "--clean", *arguments.music, "--room", *files, "--out", "x", "--stages", "dat")
            refused += code == 1
            texts = [finding["text"] for finding in found.get("material", {}).get("findings", []) if finding["refuses"]]
            texts += found.get("report", {}).get("refusals", [])
            print(f"{name}: {'refused' if code == 1 else 'ACCEPTED'} after {secs:.1f} s: {'; '.join(texts)}", flush=True)
    result("adapt-refusals", rooms=len(rooms), refused=refused)


def speed(arguments):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        timed = {}
        few, all_steps = 20, 200
        for stages, steps in (("dc", None), ("dat", few), ("dat", all_steps)):
            name = folder / f"{stages}-{steps}.safetensors"
            command = ["/usr/bin/env", f"HOME={folder}", binary("earmark"), "adapt", "--quiet", "--json", "--clean",
                       *arguments.music, "--room", *arguments.room, "--out", name, "--stages", stages]
            # A limit that no result is refused by: only the time counts here.
            command += ["--max-clean-change", "1", "--min-clean-kept", "0"] + (["--steps", str(steps)] if steps else [])
            start = time.perf_counter()
            child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            timed[steps] = (time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
            print(f"{stages}{f', {steps} steps' if steps else ''}: {timed[steps][0]:.1f} s, {timed[steps][1]:.1f} s of processor, "
                  f"{timed[steps][2]:.0f} MB", flush=True)
        step = run([binary("train_step"), "--batch", "16", "--width", "0.5", "--last-kernel", "3", "--steps", "20"])
        found = dict(re.findall(r"(\w+)=([\d.]+)", step.splitlines()[-1]))
        # What does not depend on the number of steps falls away.
        steps_secs = (timed[all_steps][1] - timed[few][1]) * all_steps / (all_steps - few)
        kernels_secs = all_steps * 16 / float(found["windows_per_cpu_s"])
        print(f"200 steps: {steps_secs:.1f} s of processor; the kernels alone {kernels_secs:.1f} s")
        result("adapt-speed", dc_secs=timed[None][0], dat_secs=timed[all_steps][0], steps_over_kernels=steps_secs / kernels_secs,
               rss_mb=max(rss for _, _, rss in timed.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("room", "refusals", "speed"):
        command = commands.add_parser(name)
        command.add_argument("--music", nargs="+", required=True, type=pathlib.Path)
        if name == "refusals":
            command.add_argument("--other", nargs="+", required=True, type=pathlib.Path)
        else:
            command.add_argument("--room", nargs="+", required=True, type=pathlib.Path)
        if name == "room":
            command.add_argument("--unheard", required=True, type=pathlib.Path)
            command.add_argument("--data", required=True, type=pathlib.Path)
            command.add_argument("--cache", type=pathlib.Path)
            command.add_argument("--snr", help="as of `train evaluate` [default: clean,10,5,0,-5,-10]")
            command.add_argument("--jobs", type=int, default=1, help="adaptations at a time [default: 1]")
            command.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
            command.add_argument("--stages", default="dat")
            command.add_argument("--more", default="")
    arguments = parser.parse_args()
    {"room": room, "refusals": refusals, "speed": speed}[arguments.command](arguments)


if __name__ == "__main__":
    main()
