"""Two builds of the open corpus side by side: clips, labels and lists.

usage: compare.py A B    B is measured against A, over what both have

clips    SNR of B's waveform against A's after decoding, in dB, at the lag that fits best (within 0.1 s); equal bytes
         count as 200 dB
labels   largest difference of the soft labels; share of the 0/1 annotations that agree
lists    lines that both have, of the lines about clips in both; clip_info without its url columns

Ends with a line `RESULT compare key=value ..`.
"""

import collections
import csv
import pathlib
import sys

import numpy as np

import audio

IDENTICAL_DB = 200.0
LAG_SAMPLES = audio.RATE_HZ // 10
CLOSE_DB = 12.0  # below this, Vorbis q2 alone does not explain the difference


def snr_db(first: pathlib.Path, second: pathlib.Path) -> tuple[float, int]:
    """SNR of the second against the first, and its lag in samples."""
    if first.read_bytes() == second.read_bytes():
        return IDENTICAL_DB, 0
    a, b = (audio.decode(path).astype(np.float64) for path in (first, second))
    size = 1 << (len(a) + len(b)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(b, size) * np.fft.rfft(a, size).conj(), size)
    near = np.concatenate([correlation[-LAG_SAMPLES:], correlation[: LAG_SAMPLES + 1]])
    lag = int(near.argmax()) - LAG_SAMPLES
    a, b = a[max(0, -lag) :], b[max(0, lag) :]
    length = min(len(a), len(b))
    error = np.sum((a[:length] - b[:length]) ** 2)
    return float(10 * np.log10(max(np.sum(a[:length] ** 2), 1e-12) / max(error, 1e-12))), lag


def kind(path: str) -> str:
    if path.startswith("music/"):
        return "scores" if path.split("/")[2].startswith("midi-") else "music"
    stem = path.rsplit("/", 1)[1]
    if stem.startswith(("speech-", "babble-")):
        return stem.split("-")[0]
    return "external" if path.startswith("noise/external/") else "noise"


def compare_clips(a: pathlib.Path, b: pathlib.Path) -> tuple[set[str], list[float]]:
    clips = [{path.relative_to(root).as_posix() for path in root.glob("[mn]*/**/*.ogg")} for root in (a, b)]
    both = sorted(clips[0] & clips[1])
    by_kind = collections.defaultdict(list)
    for path in both:
        by_kind[kind(path)].append((*snr_db(a / path, b / path), path))
    print(f"clips: {len(clips[0])} and {len(clips[1])}, in both {len(both)}")
    for name, rows in sorted(by_kind.items()):
        values = np.array([row[0] for row in rows])
        worst = min(rows)
        print(
            f"  {name:8} {len(rows):4} clips: {np.sum(values == IDENTICAL_DB)} identical"
            f", median {np.median(values):.1f} dB, lowest {worst[0]:.1f} dB at lag {worst[1]} ({worst[2]})"
            f", {np.sum(values < CLOSE_DB)} below {CLOSE_DB:.0f} dB"
        )
    return set(both), [row[0] for rows in by_kind.values() for row in rows]


def read(path: pathlib.Path, delimiter: str) -> list[list[str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(
            csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if "final" in path.name else csv.QUOTE_NONE)
        )


def compare_labels(a: pathlib.Path, b: pathlib.Path) -> tuple[float, float, float]:
    """Largest difference of soft labels and of windows, and the agreement of annotations."""
    soft = [
        {row[0]: np.array(row[1:], float) for row in read(root / "music/soft_labels.csv", ",")[1:]} for root in (a, b)
    ]
    tags = [{row[0]: row[1:-1] for row in read(root / "music/annotations_final.csv", "\t")[1:]} for root in (a, b)]
    windows = []
    for root in (a, b):
        index = read(root / "music/soft_windows_index.csv", ",")[1:]
        rows = np.load(root / "music/soft_windows.npy") if index else None
        windows.append({clip: rows[int(first) : int(first) + int(count)] for clip, first, count, _ in index})
    both = sorted(soft[0].keys() & soft[1].keys(), key=int)
    if not both:
        print("labels: none in both")
        return float("nan"), float("nan"), float("nan")
    differences = np.array([np.abs(soft[0][clip] - soft[1][clip]).max() for clip in both])
    window = max(np.abs(windows[0][clip] - windows[1][clip]).max() for clip in both)
    agree = [x == y for clip in both for x, y in zip(tags[0][clip], tags[1][clip], strict=True)]
    print(
        f"labels: {len(both)} clips, soft labels differ by at most {differences.max():.4f} (median of clips "
        f"{np.median(differences):.4f}), windows by {window:.2g}; annotations: {sum(agree)} of {len(agree)} agree"
    )
    return float(differences.max()), float(window), sum(agree) / len(agree)


def compare_lists(a: pathlib.Path, b: pathlib.Path, both: set[str]) -> float:
    """Share of equal lines. A line takes part when its clip is in both builds."""
    stems = {pathlib.PurePath(path).stem for path in both}
    names = ["LICENCES.tsv", "music/clip_info_final.csv", "music/annotations_final.csv"]
    names += sorted(path.relative_to(a).as_posix() for path in (*a.glob("noise/*.csv"), *a.glob("pretrain/**/*.tsv")))
    equal = total = 0
    for name in names:
        lines = []
        for root in (a, b):
            path = root / name
            text = path.read_bytes().decode() if path.is_file() else ""
            found = set()
            for line in text.split("\n"):
                cells = [cell.strip('"') for cell in line.replace(", ", "\t", 1).split("\t")]
                if any(pathlib.PurePath(cell).stem in stems or cell in stems for cell in cells if cell):
                    if name.endswith("clip_info_final.csv"):
                        cells = [cell for index, cell in enumerate(cells) if index not in (5, 8)]
                        line = "\t".join(cells)
                    found.add(line)
            lines.append(found)
        same = len(lines[0] & lines[1])
        equal, total = equal + same, total + len(lines[0] | lines[1])
        print(f"  {name}: {same} of {len(lines[0] | lines[1])} lines equal")
    return equal / max(total, 1)


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    a, b = map(pathlib.Path, sys.argv[1:])
    both, values = compare_clips(a, b)
    soft, window, agreement = compare_labels(a, b)
    lines = compare_lists(a, b, both)
    print(
        f"RESULT compare clips={len(both)} identical={sum(value == IDENTICAL_DB for value in values)} "
        f"median_snr_db={np.median(values or [np.nan]):.1f} min_snr_db={min(values, default=np.nan):.1f} "
        f"soft_max_diff={soft:.4f} windows_max_diff={window:.2g} annotations_equal={agreement:.5f} "
        f"lines_equal={lines:.4f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
