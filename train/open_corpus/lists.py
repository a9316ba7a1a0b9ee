"""Everything of the corpus that is not audio, written from the manifest, the clips that exist and their labels.

    clips + teacher -> music/annotations_final.csv, soft_labels.csv, soft_windows.npy, soft_windows_index.csv
    manifest        -> music/clip_info_final.csv, noise/*.csv (AudioSet), LICENCES.tsv
    both            -> pretrain/ (MTG-Jamendo), README.md

Rows of clips that are missing are left out; ids never change with what is there.
"""

import collections
import csv
import io
import pathlib

import numpy as np

import teacher
from sources import write_atomic

FORMAT = 1  # of the recipe's output; stands in README.md
CLIP_SECS = 29.1
TAGS = teacher.TAGS

# A clip has a tag when the teacher's mean is above this; lower for tags that the teacher rarely raises.
THRESHOLD = 0.20
THRESHOLDS = {
    0.15: "opera,harpsichord,quiet,pop,choir,new age,dance,beats,harp,cello,choral",
    0.12: "vocal,female,male",
    0.10: "singing,vocals,no vocals,woman,male vocal,no vocal,soft,solo,man,classic,voice,male voice,female vocal,"
    "no voice,weird,country,female voice",
}
TAG_THRESHOLDS = {tag: threshold for threshold, tags in THRESHOLDS.items() for tag in tags.split(",")}

# Of a rendered score these are known; the teacher's opinion of them is not asked.
INSTRUMENT_TAGS = set(
    "guitar,strings,drums,piano,violin,vocal,synth,female,opera,male,singing,vocals,harpsichord,flute,woman,male vocal,"
    "sitar,man,choir,voice,male voice,female vocal,harp,cello,female voice,choral".split(",")
)
RENDERED_TAGS = {"choir": {"choir", "choral"}, "violin": {"violin", "strings"}, "cello": {"cello", "strings"}}

SPLITS = {"train": "0123456789ab", "valid": "c", "test": "def"}

# Stage 1 lists: a genre is the tag of that name; moods have their own thresholds on the teacher's mean.
GENRES = {
    **{tag: tag for tag in "classical,techno,electronic,rock,ambient,pop,opera,choir,dance,country,metal".split(",")},
    "indian": "world",
    "new age": "newage",
}
MOODS = {"slow": ("slow", 0.15), "fast": ("fast", 0.15), "soft": ("soft", 0.10), "quiet": ("calm", 0.10)}
PRETRAIN_VALIDATION = {
    "freeorion-data",
    "midi-beethoven",
    "midi-corelli",
    "openclonk-data",
    "pink-pony-data",
    "tuxmath-data",
}


def split_of(file: str) -> str:
    return next(split for split, folders in SPLITS.items() if file[0] in folders)


def tags_of(means: np.ndarray, instrument: str | None) -> set[str]:
    """The tags of a clip; `instrument` for a rendered score."""
    tags = {tag for tag, mean in zip(TAGS, means, strict=True) if mean > TAG_THRESHOLDS.get(tag, THRESHOLD)}
    if instrument is None:
        return tags
    return tags - INSTRUMENT_TAGS | RENDERED_TAGS.get(instrument, {instrument})


def table(rows: list, delimiter: str, quoting: int = csv.QUOTE_NONE, end: str = "\n") -> str:
    content = io.StringIO()
    writer = csv.writer(content, delimiter=delimiter, quoting=quoting, quotechar='"', lineterminator=end)
    if quoting == csv.QUOTE_NONE:
        writer = csv.writer(content, delimiter=delimiter, quoting=quoting, quotechar=None, lineterminator=end)
    writer.writerows(rows)
    return content.getvalue()


def write_clip_info(out: pathlib.Path, clips: list) -> None:
    head = "clip_id track_number title artist album url segmentStart segmentEnd original_url mp3_path".split()
    rows = []
    for clip in clips:
        start, url = round(clip.start_secs, 2), clip.url
        end = round(start + CLIP_SECS, 2)
        rows.append([clip.id, clip.track, clip.title, clip.artist, clip.album, url, start, end, url, clip.file])
    write_atomic(out / "music/clip_info_final.csv", table([head, *rows], "\t", csv.QUOTE_ALL))


def write_labels(out: pathlib.Path, clips: list, windows: dict[int, np.ndarray]) -> dict[int, set[str]]:
    """The four label files; the tags of each clip by id."""
    labelled = [clip for clip in clips if clip.id in windows]
    # Sums in float64, so that the fourth decimal does not depend on the order of the windows.
    means = {clip.id: windows[clip.id].mean(axis=0, dtype=np.float64) for clip in labelled}
    tags = {clip.id: tags_of(means[clip.id], clip.instrument) for clip in labelled}
    annotations = [["clip_id", *TAGS, "mp3_path"]]
    annotations += [[clip.id, *(int(tag in tags[clip.id]) for tag in TAGS), clip.file] for clip in labelled]
    write_atomic(out / "music/annotations_final.csv", table(annotations, "\t", csv.QUOTE_ALL))
    soft = [["clip_id", *TAGS], *([clip.id, *(f"{mean:.4f}" for mean in means[clip.id])] for clip in labelled)]
    write_atomic(out / "music/soft_labels.csv", table(soft, ","))
    index, first = [["clip_id", "first_row", "rows", "hop_seconds"]], 0
    for clip in labelled:
        index.append([clip.id, first, len(windows[clip.id]), teacher.HOP_SECS])
        first += len(windows[clip.id])
    content = io.BytesIO()
    rows = [windows[clip.id] for clip in labelled] or [np.zeros((0, len(TAGS)), np.float32)]
    np.save(content, np.concatenate(rows))
    write_atomic(out / "music/soft_windows.npy", content.getvalue())
    write_atomic(out / "music/soft_windows_index.csv", table(index, ","))
    _write_pretrain(out, clips, labelled, means, tags)
    return tags


def _write_pretrain(out: pathlib.Path, clips: list, labelled: list, means: dict, tags: dict) -> None:
    """MTG-Jamendo lists over the training clips, lines ended as there. Albums and artists are numbered over the whole
    manifest's training part, which `clips` must hold."""
    train = [clip for clip in clips if split_of(clip.file) == "train"]
    albums = {album: number for number, album in enumerate(sorted({clip.album for clip in train}), 1)}
    pairs = sorted({(clip.album, clip.artist) for clip in train})
    artists = {pair: number for number, pair in enumerate(pairs, 1)}
    head = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    genres, moods = [], []
    for clip in labelled:
        if split_of(clip.file) != "train":
            continue
        row = [
            f"track_{clip.id:07}",
            f"artist_{artists[clip.album, clip.artist]:06}",
            f"album_{albums[clip.album]:06}",
            clip.file,
            str(CLIP_SECS),
        ]
        genre = sorted(f"genre---{GENRES[tag]}" for tag in tags[clip.id] & GENRES.keys())
        mean = dict(zip(TAGS, means[clip.id], strict=True))
        mood = sorted(f"mood/theme---{name}" for tag, (name, least) in MOODS.items() if mean[tag] > least)
        genres += [(clip.album, row + genre)] if genre else []
        moods += [(clip.album, row + mood)] if mood else []
    for name, rows in (("genre", genres), ("moodtheme", moods)):
        parts = {
            f"autotagging_{name}.tsv": rows,
            f"splits/split-0/autotagging_{name}-train.tsv": [row for row in rows if row[0] not in PRETRAIN_VALIDATION],
            f"splits/split-0/autotagging_{name}-validation.tsv": [row for row in rows if row[0] in PRETRAIN_VALIDATION],
        }
        for path, part in parts.items():
            write_atomic(out / "pretrain" / path, table([head, *(row for _, row in part)], "\t", end="\r\n"))


def write_noise_lists(out: pathlib.Path, clips: list) -> None:
    """AudioSet's form, one list per part."""
    parts = collections.defaultdict(list)
    for clip in clips:
        parts[clip.split.replace("/", "_")].append(clip)
    for part, rows in parts.items():
        labels = [label for clip in rows for label in clip.labels.split(",")]
        lines = [
            "# Segments csv",
            f"# num_ytids={len(rows)}, num_segs={len(rows)}, num_unique_labels={len(set(labels))}, "
            f"num_positive_labels={len(labels)}",
            "# YTID, start_seconds, end_seconds, positive_labels",
            *(f'{clip.stem}, 0.000, {clip.samples / 22_050:.3f}, "{clip.labels}"' for clip in rows),
        ]
        write_atomic(out / f"noise/{part}.csv", "\n".join(lines) + "\n")


def write_licences(out: pathlib.Path, rows: list[list[str]]) -> None:
    head = ["path", "id", "split", "source_package", "version", "original_path", "licence", "author"]
    write_atomic(out / "LICENCES.tsv", table([head, *rows], "\t"))


def write_summary(out: pathlib.Path, clips: list, noises: list, tags: dict, missing: list[str]) -> None:
    """README.md of the data: what is there, the positives of each tag, what is missing."""
    lines = [
        "# The open corpus",
        "",
        f"Written by `train/open_corpus/build.py`, format {FORMAT}; the README there says where the labels come from.",
        "`LICENCES.tsv` has package, version, original path, licence and author of every clip.",
        "",
        "| music | clips | minutes | of them rendered scores | with a label |",
        "| --- | --- | --- | --- | --- |",
    ]
    for split in SPLITS:
        part = [clip for clip in clips if split_of(clip.file) == split]
        rendered = sum(clip.instrument is not None for clip in part)
        known = sum(clip.id in tags for clip in part)
        lines.append(f"| {split} | {len(part)} | {len(part) * CLIP_SECS / 60:.0f} | {rendered} | {known} |")
    lines += ["", "| noise | clips | minutes |", "| --- | --- | --- |"]
    for part in sorted({clip.split for clip in noises}):
        samples = [clip.samples for clip in noises if clip.split == part]
        lines.append(f"| {part} | {len(samples)} | {sum(samples) / 22_050 / 60:.1f} |")
    if tags:
        counts = []
        for tag in TAGS:
            by_split = collections.Counter(split_of(clip.file) for clip in clips if tag in tags.get(clip.id, ()))
            counts.append(f"{tag} {'/'.join(str(by_split[split]) for split in SPLITS)}")
        lines += ["", "Positive clips per tag, train/valid/test: " + "; ".join(counts) + "."]
    lines += ["", "Missing: " + ("nothing." if not missing else ""), *(f"- {item}" for item in missing)]
    write_atomic(out / "README.md", "\n".join(lines).rstrip() + "\n")
