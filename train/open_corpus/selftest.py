"""The recipe on a package made up on the spot: no network, no teacher, no sound font.

a .deb with two tones and an inner .zip -> Store -> clips -> thresholds -> lists, compared row by row
"""

import csv
import os
import pathlib
import subprocess
import tempfile
import zipfile

import numpy as np

import audio
import build
import compare
import lists
import sources

TONE_HZ = 441.0


def tone(secs: float, level: float) -> np.ndarray:
    return (level * np.sin(2 * np.pi * TONE_HZ * np.arange(round(secs * audio.RATE_HZ)) / audio.RATE_HZ)).astype(
        np.float32
    )


def make_package(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A Debian package with music/loud.ogg, and noise/quiet.ogg inside data.zip."""
    tree = folder / "tree"
    audio.encode(tone(40.0, 1.2), tree / "music/loud.ogg")
    audio.encode(tone(12.0, 0.002), folder / "quiet.ogg")
    with zipfile.ZipFile(tree / "data.zip", "w") as inner:
        inner.write(folder / "quiet.ogg", "noise/quiet.ogg")
    control = f"Package: {name}\nVersion: 1.0-1\nArchitecture: all\nMaintainer: nobody\nDescription: made up\n"
    sources.write_atomic(tree / "DEBIAN/control", control)
    os.chmod(tree / "DEBIAN", 0o755)
    deb = folder / f"{name}_1.0-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", str(tree), str(deb)], check=True, capture_output=True)
    return deb


def expect(name: str, got, wanted) -> None:
    if got != wanted:
        raise AssertionError(f"{name}\n  expected {wanted!r}\n  got      {got!r}")
    print(f"ok   {name}")


def store_with(cache: pathlib.Path, deb: pathlib.Path, version: str, sha256: str, inner: str = "") -> sources.Store:
    (cache / "debs").mkdir(parents=True, exist_ok=True)
    (cache / "debs" / deb.name).write_bytes(deb.read_bytes())
    store = sources.Store(cache)
    store.packages = {"made-up": sources.Package("made-up", "debian", version, sha256, inner)}
    return store


def check_sources(folder: pathlib.Path) -> None:
    deb = make_package(folder, "made-up")
    digest = sources.sha256(deb)
    store = store_with(folder / "a", deb, "1.0-1", digest)
    files = store.fetch("made-up", ["music/loud.ogg"])
    expect("only what was named is unpacked", [path.name for path in files.rglob("*") if path.is_file()], ["loud.ogg"])
    expect("version as in the manifest: no warning", (store.versions, store.warnings), ({"made-up": "1.0-1"}, []))
    store = store_with(folder / "b", deb, "1.0-1", digest, inner="data.zip")
    expect("inner archive", (store.fetch("made-up", ["noise/quiet.ogg"]) / "noise/quiet.ogg").is_file(), True)
    store = store_with(folder / "c", deb, "2.0-1", digest)
    store.fetch("made-up", ["music/loud.ogg"])
    expect("another version is used and reported", "the manifest was made from 2.0-1" in store.warnings[0], True)
    store = store_with(folder / "d", deb, "1.0-1", "0" * 64)
    try:
        store.fetch("made-up", ["music/loud.ogg"])
        refused = ""
    except sources.RecipeError as error:
        refused = str(error)
    expect("other bytes under the same version are refused", "SHA-256 differs" in refused, True)


def check_audio(folder: pathlib.Path) -> None:
    loud, quiet = folder / "tree/music/loud.ogg", folder / "quiet.ogg"
    clip = audio.music(loud, 5.0)
    expect("a music clip has 29.1 s", len(clip), audio.CLIP_SAMPLES)
    expect("its peak above 1 becomes 0.99", round(float(np.abs(clip).max()), 4), 0.99)
    wanted = tone(40.0, 1.2)[round(5.0 * audio.RATE_HZ) :][: audio.CLIP_SAMPLES]
    share = float(np.corrcoef(clip, wanted)[0, 1])
    expect("it is the piece that starts at 5 s", share > 0.999, True)
    try:
        audio.music(loud, 20.0)
        refused = ""
    except sources.RecipeError as error:
        refused = str(error)
    expect("a track that is too short is refused", "a clip takes 29.1 s" in refused, True)
    noise = audio.noise(quiet, 11_025, audio.NOISE_SAMPLES)
    level = 10 * np.log10(np.mean(noise.astype(np.float64) ** 2))
    expect("a very quiet noise is raised to -38 dBFS", round(float(level), 3), -38.0)
    once = np.concatenate([np.zeros(100), tone(10.0, 0.5), np.zeros(500)]).astype(np.float32)
    looped = audio.score_clip(once, 0.0, 0.6)
    loud_at = np.flatnonzero(np.abs(once) > audio.SILENCE)
    period = int(loud_at[-1] - loud_at[0]) + 1 + audio.PAUSE_SAMPLES
    repeats = bool(np.array_equal(looped[:1000], looped[period : period + 1000]))
    expect("a short score is repeated after half a second", repeats, True)
    expect("its peak is the manifest's", round(float(np.abs(looped).max()), 4), 0.6)
    words = [
        (loud, audio.Word("made-up", "music/loud.ogg", 1_000, 0.5)),
        (loud, audio.Word("made-up", "", -220_000, 0.25)),
    ]
    mixed = audio.speech(words)
    solo = audio.speech(words[:1])
    expect("words begin where the manifest says", bool(np.any(mixed[:1_000])) and not np.any(solo[:1_000]), True)
    audio.encode(clip, folder / "one.ogg")
    audio.encode(clip, folder / "two.ogg")
    expect("the same audio gives the same bytes", compare.snr_db(folder / "one.ogg", folder / "two.ogg"), (200.0, 0))


def check_lists(folder: pathlib.Path) -> None:
    music, noise = build.read_manifest()
    first = next(
        clip for clip in music if clip.file.startswith("0/tuxmath-tuxi") or clip.file.startswith("3/tuxmath-tuxi-5-")
    )
    score = next(clip for clip in music if clip.instrument == "choir" and clip.split == "train")
    means = np.full(len(lists.TAGS), 0.05, np.float32)
    means[lists.TAGS.index("techno")] = 0.2001
    means[lists.TAGS.index("ambient")] = 0.1999
    means[lists.TAGS.index("guitar")] = 0.9
    means[lists.TAGS.index("slow")] = 0.16
    windows = {clip.id: np.stack([means, means]) for clip in (first, score)}
    tags = lists.write_labels(folder, music, windows)
    expect("thresholds", tags[first.id], {"guitar", "techno"})
    expect("the rendering's truth replaces the teacher's instruments", tags[score.id], {"techno", "choir", "choral"})
    with open(folder / "music/annotations_final.csv", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    by_id = {row[0]: row for row in rows}
    wanted = [str(first.id), *("1" if tag in tags[first.id] else "0" for tag in lists.TAGS), first.file]
    expect("annotations_final.csv", (len(rows), by_id[str(first.id)]), (3, wanted))
    index = (folder / "music/soft_windows_index.csv").read_text().splitlines()
    earlier, later = sorted(windows)
    wanted = ["clip_id,first_row,rows,hop_seconds", f"{earlier},0,2,1.504", f"{later},2,2,1.504"]
    expect("soft_windows_index.csv", index, wanted)
    expect("soft_windows.npy", np.load(folder / "music/soft_windows.npy").shape, (4, 50))
    genre = (folder / "pretrain/splits/split-0/autotagging_genre-validation.tsv").read_bytes().decode().split("\r\n")
    track = f"track_{first.id:07}\tartist_000034\talbum_000015\t{first.file}\t29.1\tgenre---techno"
    expect("tuxmath is a validation album of stage 1", genre[1:], [track, ""])
    mood = (folder / "pretrain/autotagging_moodtheme.tsv").read_bytes().decode().split("\r\n")
    expect("slow counts from 0.15 there", mood[1].endswith("\t29.1\tmood/theme---slow"), True)
    valid = [clip for clip in noise if clip.stem in ("lincity_ng-blacksmith1-0", "lincity_ng-harbor2-0")]
    lists.write_noise_lists(folder, valid)
    wanted = [
        "# Segments csv",
        "# num_ytids=2, num_segs=2, num_unique_labels=2, num_positive_labels=2",
        "# YTID, start_seconds, end_seconds, positive_labels",
        'lincity_ng-blacksmith1-0, 0.000, 4.001, "/m/03l9g"',
        'lincity_ng-harbor2-0, 0.000, 4.006, "/t/dd00128"',
    ]
    expect("noise list in AudioSet's form", (folder / "noise/internal_valid.csv").read_text().splitlines(), wanted)
    lists.write_clip_info(folder, [first])
    with open(folder / "music/clip_info_final.csv", newline="") as file:
        row = list(csv.reader(file, delimiter="\t"))[1]
    expect(
        "clip_info_final.csv",
        row[:5] + row[6:8],
        [str(first.id), "2", "tuxi", "not-applicable", "tuxmath-data", "5.0", "34.1"],
    )


def check_manifest() -> None:
    music, noise = build.read_manifest()
    albums = {}
    for clip in music:
        if clip.instrument is None:
            albums.setdefault(clip.album, set()).add(clip.split)
    expect("a game is in one split only", [name for name, splits in albums.items() if len(splits) > 1], [])
    parts = {}
    for clip in noise:
        if not clip.words and clip.split != "external":
            parts.setdefault((clip.packages[0], clip.source), set()).add(clip.split)
    expect("a noise recording is in one part only", [key for key, splits in parts.items() if len(splits) > 1], [])
    paths = [clip.path for clip in [*music, *noise]]
    expect("every clip has a name of its own", len(set(paths)), len(paths))
    known = sources.packages()
    used = {name for clip in [*music, *noise] for name in clip.packages} | {
        w.package for clip in noise for w in clip.words
    }
    expect("packages.tsv has every package", sorted(used - known.keys()), [])


def run() -> int:
    with tempfile.TemporaryDirectory() as folder:
        where = pathlib.Path(folder)
        check_sources(where)
        check_audio(where)
        check_lists(where)
        check_manifest()
    print("self-test: ok")
    return 0
