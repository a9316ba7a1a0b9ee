"""Writes sklearn_metrics.json, the cases of `equals_scikit_learn` in ../metrics.rs.

    pip install scikit-learn==1.9.1 numpy==2.4.6 && python sklearn_metrics.py > sklearn_metrics.json
"""

import json

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def case(name, scores, truth):
    scores = scores.astype(np.float32)
    both = [0 < column.sum() < len(column) for column in truth.T]
    measure = lambda f: [
        float(f(truth[:, i], scores[:, i])) if both[i] else None for i in range(truth.shape[1])
    ]
    return {
        "name": name,
        "scores": [float(f"{x:.9g}") for x in scores.ravel()],
        "truth": truth.astype(int).ravel().tolist(),
        "num_tags": truth.shape[1],
        "roc_auc": measure(roc_auc_score),
        "average_precision": measure(average_precision_score),
    }


rng = np.random.default_rng(7)
truth = rng.random((40, 4)) < [0.5, 0.1, 0.25, 0.9]
scores = rng.random((40, 4))
cases = [
    case("distinct", scores, truth),
    case("ties in steps of 0.1", np.round(scores, 1), truth),
    case("two values", np.round(scores), truth),
    case("all tied", np.full_like(scores, 0.5), truth),
    case("a class without positives, one without negatives", scores, (truth & (np.arange(4) != 1)) | (np.arange(4) == 3)),
]
print(json.dumps(cases))
