"""Tags written by Earmark and taken back, as mutagen, ffprobe and ffmpeg see them.

Copies of the tagged fixtures, of the demo clips in seven formats with tags in several languages, and of PATH.. are
written with `earmark tag --write-tags`. Every field that is not Earmark's must read as before, by mutagen and by ffprobe,
and ffmpeg must find the same audio packets. Then `earmark undo` must give back the same bytes.

usage: mutagen.py [PATH..]    further music files, or folders of them
Needs mutagen and ffmpeg.
"""

import collections
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.append(sys.path.pop(0))  # this folder last: its files are called like the packages they compare with
from mutagen import MutagenError, aiff, apev2, flac, id3, mp4, oggopus, oggvorbis, wave

from common import DEMO, ROOT, audio_files, binary, result, table

OURS = ["GENRE", "MOOD", "EARMARK_GENRE", "EARMARK_MOOD", "EARMARK_INSTRUMENT", "EARMARK_VOICE", "EARMARK_MODEL"]
SUFFIXES = {".aac", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}
TAGS = {"title": "Größe & Übermut", "artist": "花は咲く", "album": "Виктор Цой 🎸", "comment": "עברית 한국어"}
CONVERSIONS = [
    ("v23.mp3", "-c:a libmp3lame -q:a 6 -id3v2_version 3 -write_id3v1 1"),
    ("v24.mp3", "-c:a libmp3lame -q:a 6 -id3v2_version 4"),
    ("flac", "-c:a flac"),
    ("ogg", "-c:a libvorbis -q:a 1"),
    ("opus", "-c:a libopus -b:a 32k -ar 48000"),
    ("m4a", "-c:a aac -b:a 64k"),
    ("front.m4a", "-c:a aac -b:a 64k -movflags +faststart"),
    ("wav", "-c:a pcm_s16le"),
    ("aiff", "-c:a pcm_s16be -write_id3v2 1"),
]


def out(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout


def collect(folder, extra):
    """The files of the comparison, in a folder of their own."""
    for path in sorted((ROOT / "tests/fixtures/tags").iterdir()):
        # ID3v2.2 is refused.
        if path.suffix in SUFFIXES and path.name != "v22.mp3":
            shutil.copy(path, folder / f"fixture-{path.name}")
    options = [part for key, value in TAGS.items() for part in ("-metadata", f"{key}={value}")]
    for clip in sorted(DEMO.glob("*.ogg")):
        for suffix, encoder in CONVERSIONS:
            out("ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-map_metadata", "-1", "-map", "0:a", "-t", 12, *options,
                *encoder.split(), folder / f"{clip.stem}.{suffix}")
    for index, path in enumerate(audio_files(extra) if extra else []):
        shutil.copy(path, folder / f"given-{index:04}-{path.name}")
        (folder / f"given-{index:04}-{path.name}").chmod(0o644)


def frames(tag):
    """Of an ID3 tag: our fields, and the others as mutagen prints them."""
    ours, others = {}, []
    for frame in tag.values():
        name = {"TCON": "GENRE", "TMOO": "MOOD"}.get(frame.FrameID, getattr(frame, "desc", "").upper())
        if frame.FrameID in ("TCON", "TMOO", "TXXX") and name in OURS:
            texts = frame.genres if frame.FrameID == "TCON" else frame.text
            ours[name] = [str(text) for text in texts]
        else:
            data = hashlib.md5(getattr(frame, "data", b"")).hexdigest()
            # So mutagen names the comment of an ID3v1 tag, whose fields it mixes into those of ID3v2.
            others.append(f"{frame.HashKey} {frame.pprint()} {data}".replace("ID3v1 Comment", ""))
    others += [repr(frame) for frame in tag.unknown_frames]
    if tag.version[:2] == (2, 3):
        # In 2.3 user texts have no several values; a slash stands between them.
        ours = {name: texts if name == "GENRE" else "/".join(texts).split("/") for name, texts in ours.items()}
    return ours, sorted(set(others))


def comments(tags):
    ours, others = collections.defaultdict(list), [f"vendor {tags.vendor}"]
    for key, value in tags:
        if key.upper() in OURS:
            ours[key.upper()].append(value)
        else:
            others.append(f"{key}={value}")
    return dict(ours), others


def by_mutagen(path):
    """(our fields, everything else) of a file."""
    kind = path.suffix
    if kind in (".mp3", ".aac"):
        try:
            ours, others = frames(id3.ID3(path))
        except MutagenError:
            ours, others = {}, []
        try:
            others += [f"APE {key} {value!r}" for key, value in sorted(apev2.APEv2(path).items())]
        except MutagenError:
            pass
        v1 = path.read_bytes()[-128:]
        return ours, others + [v1.hex() if v1.startswith(b"TAG") else "no ID3v1"]
    if kind == ".flac":
        file = flac.FLAC(path)
        ours, others = comments(file.tags) if file.tags is not None else ({}, [])
        blocks = [(block.code, block.write()) for block in file.metadata_blocks if block.code not in (1, 4)]
        return ours, others + [hashlib.md5(repr(block).encode()).hexdigest() for block in blocks]
    if kind in (".ogg", ".opus"):
        file = (oggvorbis.OggVorbis if kind == ".ogg" else oggopus.OggOpus)(path)
        ours, others = comments(file.tags)
        return ours, others + [f"{file.info.length:.6f}"]
    if kind == ".m4a":
        ours, others = {}, []
        for key, value in (mp4.MP4(path).tags or {}).items():
            name = "GENRE" if key == "\xa9gen" else key.rsplit(":", 1)[-1].upper() if key.startswith("----") else ""
            if name in OURS:
                ours[name] = [text if isinstance(text, str) else bytes(text).decode() for text in value]
            else:
                others.append(f"{key} {value!r}")
        return ours, sorted(others)
    file = (wave.WAVE if kind == ".wav" else aiff.AIFF)(path)
    return frames(file.tags) if file.tags is not None else ({}, [])


def by_ffprobe(path):
    """Everything but our fields, and which of ours it sees."""
    found = json.loads(out("ffprobe", "-v", "error", "-show_format", "-show_streams", "-show_chapters", "-of", "json",
                           f"file:{path}"))
    others, seen = [], []
    ours = {*OURS, "TMOO"}
    for part in [found["format"], *found["streams"], *found["chapters"]]:
        for key, value in part.get("tags", {}).items():
            if key.upper() in ours:
                seen.append(f"{key.upper()} {value}")
            else:
                others.append(f"{key}={value}")
        others += [f"{key} {part[key]}" for key in ("codec_name", "sample_rate", "channels", "width") if key in part]
    return sorted(others), seen


def packets(path):
    """ffmpeg's hash of the audio packets, not decoded."""
    return out("ffmpeg", "-nostdin", "-v", "error", "-i", f"file:{path}", "-map", "0:a", "-c", "copy", "-f", "streamhash",
               "-hash", "md5", "-").decode()


def snapshot(path):
    ours, others = by_mutagen(path)
    probed, seen = by_ffprobe(path)
    return {"bytes": path.read_bytes(), "mtime": path.stat().st_mtime_ns, "ours": ours, "mutagen": others,
            "ffprobe": probed, "seen": seen, "packets": packets(path)}


def earmark(*arguments):
    done = subprocess.run([str(part) for part in (binary("earmark"), *arguments)], capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        raise SystemExit(f"earmark {' '.join(map(str, arguments))} ended with {done.returncode}")
    return done.stdout


def same_texts(before, after):
    """Whether ffprobe shows the same. It does not decode ID3v1, and shows a mark for every letter beyond ASCII then."""
    return len(before) == len(after) and all(
        re.fullmatch(re.escape(old).replace("\ufffd", "."), new, re.DOTALL) for old, new in zip(before, after))


def faults(path, before, after):
    """What changed that should not have, and what was written otherwise than it should have been."""
    found = []
    if before["mutagen"] != after["mutagen"]:
        found.append(f"mutagen: {set(before['mutagen']) ^ set(after['mutagen'])}")
    # In an unsynchronised tag ffprobe loses the last letter of a text; afterwards the tag is an ordinary one.
    if "unsynchronised" not in path.name and not same_texts(before["ffprobe"], after["ffprobe"]):
        found.append(f"ffprobe: {set(before['ffprobe']) ^ set(after['ffprobe'])}")
    if before["packets"] != after["packets"]:
        found.append("audio packets")
    ours, old = after["ours"], before["ours"]
    if ours and "EARMARK_MODEL" not in ours:
        found.append("EARMARK_MODEL is missing")
    for name in ("GENRE", "MOOD"):
        claimed = sorted(value.rsplit("=", 1)[0] for value in ours.get(f"EARMARK_{name}", []))
        if old.get(name) and (ours.get(name) != old[name] or claimed):
            found.append(f"a {name} of the user's: {old[name]} -> {ours.get(name)}")
        if not old.get(name) and sorted(ours.get(name, [])) != claimed:
            found.append(f"{name} {ours.get(name)} beside {claimed}")
    for name in OURS[2:6]:
        found += [f"{name}={value}" for value in ours.get(name, []) if not re.fullmatch(r"[A-Za-z ]+=[01]\.\d\d", value)]
    return found


def main():
    with tempfile.TemporaryDirectory() as name:
        folder, journal = pathlib.Path(name) / "music", pathlib.Path(name) / "journal"
        folder.mkdir()
        collect(folder, sys.argv[1:])
        paths = sorted(folder.iterdir())
        before = {path: snapshot(path) for path in paths}
        earmark("tag", folder, "--write-tags", "--undo-journal", journal, "--format", "csv", "--out", "/dev/null",
                "--no-progress")
        after = {path: snapshot(path) for path in paths}
        if sorted(folder.iterdir()) != paths:
            raise SystemExit("files were left behind")
        earmark("undo", journal)
        wrong, fields, changed, undone = 0, 0, 0, 0
        rows = [("kind", "files", "written", "fields")]
        counts = collections.defaultdict(lambda: [0, 0, 0])
        for path in paths:
            found = faults(path, before[path], after[path])
            wrong += len(found)
            for fault in found:
                print(f"{path.name}: {fault}")
            new = [key for key, value in after[path]["ours"].items() if before[path]["ours"].get(key) != value]
            is_changed = before[path]["bytes"] != after[path]["bytes"]
            if is_changed != bool(new):
                wrong += 1
                print(f"{path.name}: bytes {'changed' if is_changed else 'equal'}, but new fields: {new}")
            fields, changed = fields + len(new), changed + is_changed
            stat = path.stat()
            undone += path.read_bytes() == before[path]["bytes"] and stat.st_mtime_ns == before[path]["mtime"]
            for index, count in enumerate((1, is_changed, len(new))):
                counts[path.suffix][index] += count
        rows += [(kind, *map(str, numbers)) for kind, numbers in sorted(counts.items())]
        table(rows)
        growth = sum(len(after[path]["bytes"]) - len(before[path]["bytes"]) for path in paths)
        print(f"the files grew by {growth} bytes together, the journal has {journal.stat().st_size}")
        result("mutagen", files=len(paths), written=changed, fields_written=fields, fields_changed_elsewhere=wrong,
               undo_byte_equal=undone)
        return 0 if wrong == 0 and undone == len(paths) and changed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
