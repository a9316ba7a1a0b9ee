"""The training step against PyTorch on the CPU: the same weights, batch and optimiser, two threads each.

Both start from what the train_step example writes and run the same Adam steps on the same batch. Losses agree to rounding
in the first step; Adam then divides small gradients by their own size, so that rounding grows from step to step.

usage: pytorch.py [ROUNDS]      default 3; the two sides take turns
"""

import pathlib
import re
import sys
import tempfile
import time

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
import numpy as np
import torch
from torch import nn

from common import binary, result, run, table

WIDTHS = [128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512]
LAST_KERNEL = 1
NUM_TAGS = 50
BATCH = 16
STEPS = 4
THREADS = 2
LEARNING_RATE = 3e-4


class SampleCnn(nn.Module):
    """Table 3.1 with its supervised head."""

    def __init__(self):
        super().__init__()
        layers, channels_in = [], 1
        for index, width in enumerate(WIDTHS):
            kernel = LAST_KERNEL if index == len(WIDTHS) - 1 else 3
            stride, padding = (3, 0) if index == 0 else (1, kernel // 2)
            layers += [nn.Conv1d(channels_in, width, kernel, stride, padding), nn.BatchNorm1d(width), nn.ReLU()]
            if 0 < index < len(WIDTHS) - 1:
                layers.append(nn.MaxPool1d(3))
            channels_in = width
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(channels_in, NUM_TAGS)

    def forward(self, windows):
        return self.head(self.convolutions(windows[:, None]).flatten(1))


def train(folder):
    """Losses and the seconds of the fastest step."""

    def read(name, shape):
        return torch.from_numpy(np.fromfile(folder / f"{name}.f32", dtype="<f4").reshape(shape).copy())

    network = SampleCnn()
    with torch.no_grad():
        convolutions = [layer for layer in network.convolutions if isinstance(layer, nn.Conv1d)]
        for index, layer in enumerate(convolutions):
            layer.weight.copy_(read(f"conv{index}.weight", layer.weight.shape))
            layer.bias.copy_(read(f"conv{index}.bias", layer.bias.shape))
        network.head.weight.copy_(read("head.weight", network.head.weight.shape))
        network.head.bias.copy_(read("head.bias", network.head.bias.shape))
    windows, targets = read("windows", (BATCH, -1)), read("targets", (BATCH, NUM_TAGS))
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=1e-8)
    loss_function = nn.BCEWithLogitsLoss()
    losses, seconds = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        loss = loss_function(network(windows), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return losses, min(seconds)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(THREADS)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = [binary("train_step"), "--batch", BATCH, "--steps", STEPS, "--threads", THREADS]
        command += ["--last-kernel", LAST_KERNEL, "--export", folder]
        for _ in range(rounds):
            output = run(command)
            ours.append(float(re.search(r"windows_per_s=([\d.]+)", output)[1]))
            their_losses, seconds = train(folder)
            theirs.append(BATCH / seconds)
        our_losses = np.fromfile(folder / "losses.f32", dtype="<f4")
    plain = float(re.search(r"windows_per_s=([\d.]+)", run([*command[:-2], "--plain", "--steps", 1]))[1])
    differences = np.abs(our_losses - np.array(their_losses))
    table(
        [
            ("loss of step", *range(1, STEPS + 1)),
            ("Earmark", *(f"{loss:.6f}" for loss in our_losses)),
            (f"PyTorch {torch.__version__}", *(f"{loss:.6f}" for loss in their_losses)),
            ("difference", *(f"{difference:.1e}" for difference in differences)),
        ]
    )
    print(f"windows per second of training, batch {BATCH}, {THREADS} threads, by round")
    print("  Earmark     ", " ".join(f"{value:.2f}" for value in ours))
    print("  PyTorch     ", " ".join(f"{value:.2f}" for value in theirs))
    print(f"  Burn's own   {plain:.2f} (one step)")
    result("pytorch", train_speed_ratio=max(ours) / max(theirs), max_loss_diff=differences.max())


if __name__ == "__main__":
    main()
