"""Writes losses.rs beside this file: the losses of adapt on small tensors, by PyTorch, in double precision.

usage: python losses.py      with the environment of tests/peers/requirements/losses.txt
"""

import pathlib
import textwrap

import torch
from torch.nn import functional


def wave(rows, columns, seed):
    index = torch.arange(rows * columns)
    return ((index * 37 + seed * 11) % 64 / 16.0 - 2.0).reshape(rows, columns).double().requires_grad_()


def nt_xent(first, second, temperature):
    z = torch.cat([first, second])
    similarity = functional.cosine_similarity(z[:, None], z[None], dim=2) / temperature
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return functional.cross_entropy(similarity, torch.arange(len(z)).roll(len(first)))


def constant(name, values):
    values = [f"{value:.9}" for value in values.flatten().tolist()]
    if len(values) == 1:
        return f"const {name}: f64 = {values[0]};\n"
    lines = textwrap.fill(", ".join(values), 110, initial_indent="    ", subsequent_indent="    ")
    return f"const {name}: [f64; {len(values)}] = [\n{lines},\n];\n"


def main():
    first, second = wave(3, 4, 1), wave(3, 4, 2)
    loss = nt_xent(first, second, 0.5)
    loss.backward()
    text = "// Written by losses.py; PyTorch in double precision.\n" + constant("NT_XENT_LOSS", loss)
    text += constant("NT_XENT_GRADIENT_FIRST", first.grad) + constant("NT_XENT_GRADIENT_SECOND", second.grad)

    logits, targets = wave(3, 4, 3), (torch.arange(12) * 5 % 9 / 8.0).reshape(3, 4).double()
    loss = functional.binary_cross_entropy_with_logits(logits, targets)
    loss.backward()
    text += constant("BCE_LOSS", loss) + constant("BCE_GRADIENT", logits.grad)

    logits, domains = wave(4, 1, 4), torch.tensor([[0.0], [1.0], [1.0], [0.0]]).double()
    loss = functional.binary_cross_entropy_with_logits(logits, domains)
    loss.backward()
    text += constant("DOMAIN_LOSS", loss) + constant("DOMAIN_GRADIENT", logits.grad)
    (pathlib.Path(__file__).parent / "losses.rs").write_text(text)


main()
