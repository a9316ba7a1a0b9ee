"""NT-Xent, the tags' and the domains' cross entropy against PyTorch on the same tensors, gradients included.

PyTorch computes in double precision; what differs is our rounding. Differences are relative to the largest number of
what is compared, but absolute where that is below 1.

usage: losses.py
"""

import json
import pathlib
import sys
import tempfile

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
import numpy as np
import torch
from torch.nn import functional

from common import binary, result, run, table


def nt_xent(first, second, temperature):
    """Eq. 3.1 as a cross entropy: the class of a crop is the other crop of its track."""
    z = torch.cat([first, second])
    similarity = functional.cosine_similarity(z[:, None], z[None], dim=2) / temperature
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return functional.cross_entropy(similarity, torch.arange(len(z)).roll(len(first)))


def difference(ours, theirs):
    ours, theirs = ours.astype(np.float64), theirs.detach().numpy()
    return np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max())


def main():
    rows, worst_loss, worst_gradient = [("case", "loss", "difference", "of gradients")], 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run([binary("losses"), folder])
        for case in json.loads((folder / "cases.json").read_text()):

            def read(name, shape=case["shape"]):
                return np.fromfile(folder / f"{case['name']}.{name}.f32", dtype="<f4").reshape(shape)

            names = ["first", "second"] if case["kind"] == "nt_xent" else ["logits"]
            inputs = [torch.from_numpy(read(name)).double().requires_grad_() for name in names]
            if case["kind"] == "nt_xent":
                loss = nt_xent(*inputs, case["temperature"])
            else:
                targets = torch.from_numpy(read("targets")).double()
                loss = functional.binary_cross_entropy_with_logits(*inputs, targets)
            loss.backward()
            of_loss = difference(read("loss", ()), loss)
            of_gradient = max(difference(read(f"{name}.gradient"), tensor.grad) for name, tensor in zip(names, inputs))
            rows.append((case["name"], f"{loss.item():.7f}", f"{of_loss:.1e}", f"{of_gradient:.1e}"))
            worst_loss, worst_gradient = max(worst_loss, of_loss), max(worst_gradient, of_gradient)
    table(rows)
    result("losses", max_abs_diff=worst_loss, max_gradient_diff=worst_gradient)


if __name__ == "__main__":
    main()
