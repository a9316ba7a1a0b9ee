"""Rebuilds the open corpus, which the default model learnt from, out of public packages.

    data/*.tsv -> sources (download, verify, unpack) -> audio (cut, render, mix, encode) -> teacher (label) -> lists

Each package is a step of its own: one that fails is reported and the others go on. Every file is written under a
temporary name and renamed, so the build can be stopped at any moment; run again, it does only what is missing.

usage: build.py --out DIR [--only PACKAGE,..] [--skip-labels] [--cache DIR] [--esc10 CLONE]
       build.py --self-test
Exit code: 0 when every clip asked for is there, 1 when some are missing (the summary names them), 2 for a wrong
command.
"""

import argparse
import collections
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable

import audio
import lists
from sources import RecipeError, Store, read_table
from teacher import Teacher

ARCHIVES = {"debian": "pkg:deb/debian", "pypi": "pkg:pypi"}  # package URLs, for clip_info's url columns


@dataclasses.dataclass(frozen=True)
class Music:
    """A clip of a track or of a rendered score."""

    id: int
    file: str
    album: str
    artist: str
    title: str
    track: int
    start_secs: float
    licence: str
    author: str
    url: str
    packages: tuple[str, ...]
    source: str  # as in LICENCES.tsv
    member: str  # inside the first package
    tune: int = 0
    part: str = "all"
    program: int = 0
    shift: int = 0
    peak: float = 0.0
    instrument: str | None = None  # of a rendered score

    @property
    def path(self) -> str:
        return f"music/{self.file}"

    @property
    def split(self) -> str:
        return lists.split_of(self.file)


@dataclasses.dataclass(frozen=True)
class Noise:
    """A clip of recorded noise, speech or babble. `words` are those of speech."""

    file: str
    labels: str
    licence: str
    author: str
    packages: tuple[str, ...]
    source: str  # as in LICENCES.tsv
    member: str = ""  # inside the package, of noise
    start: int = 0
    samples: int = audio.NOISE_SAMPLES
    words: tuple[audio.Word, ...] = ()

    @property
    def path(self) -> str:
        return f"noise/{self.file}"

    @property
    def split(self) -> str:
        folders = self.file.split("/")
        return folders[0] if folders[0] == "external" else "/".join(folders[:2])

    @property
    def stem(self) -> str:
        return pathlib.PurePath(self.file).stem

    @property
    def id(self) -> str:
        return self.stem


Clip = Music | Noise


def read_manifest() -> tuple[list[Music], list[Noise]]:
    music = [
        Music(
            id=int(row["id"]),
            file=row["file"],
            album=row["package"],
            artist=row["artist"],
            title=row["title"],
            track=int(row["track"]),
            start_secs=float(row["start_secs"]),
            licence=row["licence"],
            author=row["author"],
            url=f"{ARCHIVES['debian']}/{row['package']}",
            packages=(row["package"],),
            source=row["source"],
            member=row["source"],
        )
        for row in read_table("clips.tsv")
    ]
    for row in read_table("scores.tsv"):
        collection = row["score"].split("/")[0]
        part = {"all": "", "first": " part 0", "last": " part -1"}[row["part"]]
        music.append(
            Music(
                id=int(row["id"]),
                file=row["file"],
                album=f"midi-{collection}",
                artist=collection,
                title=f"{row['title']} [{row['instrument']}]",
                track=int(row["track"]),
                start_secs=float(row["start_secs"]),
                licence=row["licence"],
                author=f"composer/collection {collection}; rendered with GM programme {row['program']}",
                url=f"{ARCHIVES['pypi']}/music21",
                packages=("music21", row["font"]),
                source=f"{row['score']}#{row['tune']}{part}",
                member=row["score"],
                tune=int(row["tune"]),
                part=row["part"],
                program=int(row["program"]),
                shift=int(row["shift"]),
                peak=float(row["peak"]),
                instrument=row["instrument"],
            )
        )
    noise = [
        Noise(
            file=row["file"],
            labels=row["labels"],
            licence=row["licence"],
            author=row["author"],
            packages=(row["package"],),
            source=listed_source(row["source"]),
            member=row["source"],
            start=int(row["start"]),
            samples=int(row["samples"]),
        )
        for row in read_table("noise.tsv")
    ]
    noise += read_speech()
    return sorted(music, key=lambda clip: clip.id), noise


# Which package a recording of speech is in, by the beginning of its path.
SPEECH = {
    "usr/share/asterisk/": "asterisk-core-sounds-en-wav",
    "usr/share/games/hedgewars/": "hedgewars-data",
    "usr/share/klettres/": "klettres-data",
    "usr/share/ktuberling/": "ktuberling-data",
}


def speech_package(member: str) -> str:
    return next(package for prefix, package in SPEECH.items() if member.startswith(prefix))


def speaker_of(member: str) -> str:
    """A voice or a language: the folder, in klettres the one above it."""
    folders = member.split("/")
    return "/".join(folders[:4] if member.startswith("usr/share/klettres/") else folders[:-1])


def listed_source(member: str) -> str:
    """ESC-10's folders, `001 - Dog bark`, are listed as `001_Dog_bark`."""
    return member.replace(" - ", "_").replace(" ", "_") if member[:3].isdigit() else member


def babble_words(listed: str) -> list[audio.Word]:
    """Babble has no places of its own in words.tsv: `audio.babble` makes them."""
    return [audio.Word(speech_package(member), member, 0, 1.0) for member in listed.split(" | ") if member]


def read_speech() -> list[Noise]:
    words = collections.defaultdict(list)
    for row in read_table("words.tsv"):
        word = audio.Word(row["package"], row["member"], int(row["at"]), float(row["gain"]))
        words[row["file"]].append(word)
    return [
        Noise(
            file=row["file"],
            labels=row["labels"],
            licence=row["licence"],
            author=row["author"],
            packages=tuple(row["packages"].split(" | ")),
            source=row["sources"],
            words=tuple(words[row["file"]] or babble_words(row["sources"])),
        )
        for row in read_table("speech.tsv")
    ]


# --- one clip of each kind --------------------------------------------------------------------------------------------


class Maker:
    """Makes clips; opens a score or a sound font once."""

    def __init__(self, store: Store):
        self.store = store
        self.score: tuple[tuple, object] = ((), None)

    def members(self, clip: Clip) -> dict[str, set[str]]:
        """What a clip needs, by package."""
        if isinstance(clip, Noise) and clip.words:
            needs = collections.defaultdict(set)
            for word in clip.words:
                needs[word.package].add(word.member)
            return needs
        if isinstance(clip, Music) and clip.instrument:
            return {clip.packages[1]: {FONTS[clip.packages[1]]}}
        return {clip.packages[0]: {clip.member}}

    def __call__(self, clip: Clip, folders: dict[str, pathlib.Path]):
        folder = folders.get(clip.packages[0])
        if isinstance(clip, Noise):
            if clip.stem.startswith("babble-"):
                speakers = collections.defaultdict(list)
                for word in clip.words:
                    speakers[speaker_of(word.member)].append(folders[word.package] / word.member)
                return audio.babble(speakers, clip.stem)
            if clip.words:
                return audio.speech([(folders[word.package] / word.member, word) for word in clip.words])
            make = audio.external_noise if clip.split == "external" else audio.noise
            return make(folder / clip.member, clip.start, clip.samples)
        if clip.instrument is None:
            return audio.music(folder / clip.member, clip.start_secs)
        key = (clip.member, clip.tune, clip.part)
        if self.score[0] != key:
            self.score = (key, audio.parse_score(score_folder() / clip.member, clip.tune, clip.part))
        events, tail_secs = audio.note_events(self.score[1], clip.shift)
        font = folders[clip.packages[1]] / FONTS[clip.packages[1]]
        return audio.score_clip(audio.render(events, tail_secs, clip.program, font), clip.start_secs, clip.peak)


FONTS = {
    "fluid-soundfont-gm": "usr/share/sounds/sf2/FluidR3_GM.sf2",
    "timgm6mb-soundfont": "usr/share/sounds/sf2/TimGM6mb.sf2",
}


def score_folder() -> pathlib.Path:
    try:
        import music21
    except ModuleNotFoundError:
        raise RecipeError(
            "music21 is not installed; `./dev corpus DIR` installs it, or pip -r requirements.txt"
        ) from None
    return pathlib.Path(music21.__file__).parent / "corpus"


# --- the build --------------------------------------------------------------------------------------------------------


def group(clips: list[Clip]) -> dict[str, list[Clip]]:
    """Clips by what they are made from: a package, the scores with one font, the words of several packages."""
    groups = collections.defaultdict(list)
    for clip in clips:
        if isinstance(clip, Noise) and clip.words:
            groups["speech"].append(clip)
        elif isinstance(clip, Music) and clip.instrument:
            groups[f"music21 with {clip.packages[1]}"].append(clip)
        else:
            groups[clip.packages[0]].append(clip)
    for name, members in groups.items():
        if name.startswith("music21"):  # a score is parsed once for its neighbours
            members.sort(key=lambda clip: (clip.member, clip.tune, clip.part))
    return groups


def build_audio(out: pathlib.Path, clips: list[Clip], make: Maker, say: Callable[[str], None]) -> dict[str, str]:
    """Makes the missing clips; the reasons of those that could not be made, by path."""
    failures = {}
    groups = group(clips)
    for number, (name, members) in enumerate(groups.items(), 1):
        start = time.monotonic()
        todo = [clip for clip in members if not (out / clip.path).is_file()]
        try:
            # Fetched also when nothing is left to make: the versions belong into LICENCES.tsv.
            needs = collections.defaultdict(set)
            for clip in members:
                for package, paths in make.members(clip).items():
                    needs[package] |= paths
            folders = {package: make.store.fetch(package, paths) for package, paths in needs.items()}
        except (RecipeError, OSError) as error:
            failures |= dict.fromkeys((clip.path for clip in todo), f"{name}: {error}")
            say(f"[{number}/{len(groups)}] {name}: {error}")
            continue
        for clip in todo:
            try:
                audio.encode(make(clip, folders), out / clip.path)
            except Exception as error:  # a damaged file or score must not sink the rest
                failures[clip.path] = str(error) or type(error).__name__
                say(f"    {clip.path}: {failures[clip.path]}")
        made = sum((out / clip.path).is_file() for clip in members)
        say(f"[{number}/{len(groups)}] {name}: {made} of {len(members)} clips, {time.monotonic() - start:.0f} s")
    return failures


def label(out: pathlib.Path, cache: pathlib.Path, clips: list[Music], say: Callable[[str], None]) -> dict:
    """Windows of every clip that is there, by id."""
    ask, windows = Teacher(cache / "labels"), {}
    for number, clip in enumerate(clips, 1):
        windows[clip.id] = ask(out / clip.path)
        if number % 50 == 0 or number == len(clips):
            say(f"labels: {number} of {len(clips)} clips")
    return windows


def licence_rows(clips: list[Clip], store: Store) -> list[list[str]]:
    rows = []
    for clip in clips:
        glue = " + " if isinstance(clip, Music) else " | "
        versions = dict.fromkeys(store.versions.get(name, store.packages[name].version) for name in clip.packages)
        names = glue.join("music21 corpus" if name == "music21" else name for name in clip.packages)
        rows.append(
            [clip.path, str(clip.id), clip.split, names, glue.join(versions), clip.source, clip.licence, clip.author]
        )
    return rows


def build(out: pathlib.Path, cache: pathlib.Path, only: set[str], skip_labels: bool, esc10: pathlib.Path | None) -> int:
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    music, noise = read_manifest()
    clips = [clip for clip in [*music, *noise] if not only or set(clip.packages) & only]
    store = Store(cache, esc10)
    failures = build_audio(out, clips, Maker(store), say)
    there = [clip for clip in [*music, *noise] if (out / clip.path).is_file()]
    music_there = [clip for clip in there if isinstance(clip, Music)]
    noise_there = [clip for clip in there if isinstance(clip, Noise)]
    windows = {} if skip_labels else label(out, cache, music_there, say)
    lists.write_clip_info(out, music_there)
    tags = {} if skip_labels else lists.write_labels(out, music, windows)
    lists.write_noise_lists(out, noise_there)
    lists.write_licences(out, licence_rows(there, store))
    reasons = collections.Counter(failures.values())
    missing = [f"{count} clips: {reason}" for reason, count in reasons.items()]
    left = len(music) + len(noise) - len(there) - len(failures)
    missing += [f"{left} clips that were not asked for"] if left else []
    missing += ["labels (--skip-labels)"] if skip_labels else []
    lists.write_summary(out, music_there, noise_there, tags, missing + store.warnings)
    print(f"{out}: {len(music_there)} of {len(music)} music clips, {len(noise_there)} of {len(noise)} noise clips")
    for line in [*(f"missing: {item}" for item in missing), *(f"warning: {item}" for item in store.warnings)]:
        print(line)
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="folder of the data set; kept and completed when it exists")
    parser.add_argument("--only", default="", help="packages, comma-separated, as in data/packages.tsv")
    parser.add_argument("--skip-labels", action="store_true", help="no teacher: audio, noise lists and licences only")
    parser.add_argument("--cache", type=pathlib.Path, help="downloads and labels (default: DIR/cache)")
    parser.add_argument("--esc10", type=pathlib.Path, help="a git clone of ESC-10, instead of cloning it")
    parser.add_argument(
        "--self-test", action="store_true", help="check the recipe on a made-up package, without network"
    )
    options = parser.parse_args()
    if options.self_test:
        import selftest

        return selftest.run()
    if options.out is None:
        parser.error("--out DIR is required")
    only = {name for name in options.only.split(",") if name}
    unknown = only - {row["package"] for row in read_table("packages.tsv")}
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is not in data/packages.tsv")
    options.out.mkdir(parents=True, exist_ok=True)
    return build(options.out, options.cache or options.out / "cache", only, options.skip_labels, options.esc10)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("build.py: stopped; run the same command again to go on")
