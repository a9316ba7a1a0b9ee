"""The metrics of runs as TensorBoard's own reader finds them, against metrics.jsonl: every number, at every step.

    ./dev peers tensorboard RUN..
"""

import json
import pathlib
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common import result


def written(run):
    """{tag: {step: number}} of metrics.jsonl, under the names that the events carry."""
    tags = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(line)
        kind, step = line["event"], line["step"]
        for key, value in line.items():
            if isinstance(value, (int, float)) and key != "step":
                tags.setdefault(f"{kind}/{key}", {})[step] = value
            for item in value if isinstance(value, list) else ():
                if isinstance(item, dict):
                    for name, number in item.items():
                        if name != "snr_db":
                            tags.setdefault(f"{kind}/{name} at {item['snr_db']} dB", {})[step] = number
    return tags


def read(run):
    """The same as TensorBoard reads it; every event is kept."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    scalars = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    tensors = events.Tags()["tensors"]
    assert not tensors, tensors
    return scalars


def main():
    runs = [pathlib.Path(argument) for argument in sys.argv[1:]]
    if not runs:
        raise SystemExit("name a run: ./dev peers tensorboard RUN..")
    count, worst = 0, 0.0
    for run in runs:
        ours, theirs = written(run), read(run)
        assert ours.keys() == theirs.keys(), (run, ours.keys() ^ theirs.keys())
        for tag, numbers in ours.items():
            assert numbers.keys() == theirs[tag].keys(), (run, tag)
            for step, number in numbers.items():
                # Events hold 32-bit floats.
                worst = max(worst, abs(float(np.float32(number)) - theirs[tag][step]))
                count += 1
        print(f"{run}: {len(ours)} curves")
    result("tensorboard", numbers=count, max_abs_diff=worst)


main()
