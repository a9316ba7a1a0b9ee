"""Macro ROC-AUC and average precision of `train metrics` against scikit-learn, tag by tag, on the same scores.

usage: sklearn.py [SCORES.csv]   scores that `train evaluate --scores` wrote; by default seeded ones of MagnaTagATune's
                                 test split's size (5,329 clips, 50 tags) with many ties, a tag without a positive and one
                                 without a negative
"""

import csv
import json
import pathlib
import sys
import tempfile

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from common import binary, result, run, table

NUM_CLIPS, NUM_TAGS = 5_329, 50


def write_seeded_scores(path):
    """Scores that know a little of the truth; every second tag's are rounded to hundredths, so that thousands tie."""
    rng = np.random.default_rng(1)
    truth = rng.random((NUM_CLIPS, NUM_TAGS)) < np.geomspace(0.3, 0.002, NUM_TAGS)
    truth[:, 0], truth[:, 1] = False, True
    scores = np.clip(0.3 * truth + rng.random(truth.shape), 0, 1).astype(np.float32)
    scores[:, ::2] = np.round(scores[:, ::2], 2)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "tag", "probability", "target"])
        for clip in range(NUM_CLIPS):
            for tag in range(NUM_TAGS):
                writer.writerow([clip, f"tag {tag}", repr(float(scores[clip, tag])), int(truth[clip, tag])])


def read_scores(path):
    """Columns by tag: (truth, scores)."""
    columns = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            truth, scores = columns.setdefault(row["tag"], ([], []))
            truth.append(int(row["target"]))
            scores.append(np.float32(row["probability"]))
    return {tag: (np.array(truth), np.array(scores)) for tag, (truth, scores) in columns.items()}


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(folder) / "scores.csv"
        if len(sys.argv) < 2:
            write_seeded_scores(path)
        ours = json.loads(run([binary("train"), "metrics", path, "--json"]))
        columns = read_scores(path)

    worst, theirs, left_out = 0.0, {"roc_auc": [], "average_precision": []}, []
    for tag in ours["per_tag"]:
        truth, scores = columns[tag["tag"]]
        assert tag["positives"] == truth.sum(), tag
        if truth.all() or not truth.any():
            assert tag["roc_auc"] is None and tag["average_precision"] is None, tag
            left_out.append(tag["tag"])
            continue
        for key, measure in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
            theirs[key].append(measure(truth, scores))
            worst = max(worst, abs(theirs[key][-1] - tag[key]))
    assert ours["left_out"] == left_out, (ours["left_out"], left_out)

    rows = [("measure", "ours", "scikit-learn")]
    for key in theirs:
        macro = float(np.mean(theirs[key]))
        worst = max(worst, abs(macro - ours[f"{key}_macro"]))
        rows.append((f"{key}_macro", f"{ours[f'{key}_macro']:.12f}", f"{macro:.12f}"))
    table(rows)
    print(f"{ours['num_items']} clips, {ours['num_tags']} tags counted, {len(left_out)} left out")
    result("sklearn", max_abs_diff=worst)


main()
