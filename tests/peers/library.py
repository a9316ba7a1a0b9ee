"""`earmark tag` on a whole library: killed and resumed, divided and merged, without room, at full speed, on many files.

usage: library.py resume [--kills N] [--broken N] [--formats F..] PATH..   killed at random moments: the same bytes?
       library.py shards [--shards N] [--formats F..] PATH..               apart and merged: the same bytes?
       library.py faults PATH..                       disk full, nothing permitted, files that vanish (needs root)
       library.py speed PATH..                        share of the cores, and what the journal costs
       library.py memory [--files N..]                largest resident memory over this many short files
       library.py read PATH..                         the tables as DuckDB, Polars and pyarrow see them

PATHs are files or folders, as `earmark tag` takes them. Standard library only, except `read`.
"""

import argparse
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from common import audio_files, binary, result, summary

SEED = 7


def tag(library, out, form, *more, **options):
    """Runs to the end and returns what was run."""
    command = [binary("earmark"), "tag", library, "--format", form, "--out", out, "-q", "--no-progress", *more]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def said(run):
    """What the program itself says; a driver that a long run looks for may add lines of its own."""
    return [line for line in run.stderr.splitlines() if line.startswith("earmark: ")]


def outputs(out):
    """The files of an output: parquet has a table of tracks beside it."""
    tracks = out.with_name(f"{out.stem}.tracks{out.suffix}")
    return [out, *([tracks] if tracks.exists() else [])]


def equal(a, b):
    a, b = outputs(a), outputs(b)
    return len(a) == len(b) and all(x.read_bytes() == y.read_bytes() for x, y in zip(a, b))


def make_library(folder, files, num_broken):
    """Links to files, in folders of a hundred, and broken files of several kinds between them."""
    rng = random.Random(SEED)
    for index, file in enumerate(files):
        place = folder / f"{index // 100:03}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:05}-{file.name}").symlink_to(file.resolve())
    kinds = [
        lambda data: b"",
        lambda data: data[: len(data) // 50],
        lambda data: bytes(rng.randrange(256) for _ in range(4_000)),
        lambda data: b"This is not music.\n" * 40,
        lambda data: b"\0" * 5_000,
    ]
    for index in range(num_broken):
        source = rng.choice(files)
        place = folder / f"{rng.randrange(max(1, len(files) // 100)):03}"
        place.mkdir(parents=True, exist_ok=True)
        data = kinds[index % len(kinds)](source.read_bytes())
        (place / f"{rng.randrange(100_000):05}-broken-{index}{source.suffix}").write_bytes(data)


def resume(arguments):
    rng = random.Random(SEED)
    files = audio_files(arguments.paths)
    all_equal, all_kills, num_rows = True, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        library = folder / "library"
        make_library(library, files, arguments.broken)
        for form in arguments.formats:
            whole, torn = folder / f"whole.{form}", folder / f"torn.{form}"
            start = time.perf_counter()
            done = tag(library, whole, form)
            secs = time.perf_counter() - start
            assert done.returncode in (0, 1), done
            kills, in_between = 0, 0
            command = [binary("earmark"), "tag", library, "--resume", "--format", form, "--out", torn, "-q"]
            while kills < arguments.kills:
                child = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
                # On average the kills share nine tenths of an undisturbed run's time.
                time.sleep(rng.uniform(0.02, 1.8 * secs / arguments.kills))
                if child.poll() is not None:
                    break
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
                in_between += not torn.exists()
            last = tag(library, torn, form, "--resume")
            same = equal(whole, torn)
            aside = last.stderr.count("set aside")
            journal = torn.with_name(torn.name + ".journal").stat().st_size
            print(
                f"{form}: undisturbed {secs:.1f} s, {kills} kills, output absent after {in_between}, exit codes "
                f"{done.returncode} and {last.returncode}, {aside} set aside, {'equal' if same else 'DIFFERENT'}, "
                f"{whole.stat().st_size / 1e6:.1f} MB, journal {journal / 1e6:.1f} MB",
                flush=True,
            )
            all_equal &= same and said(done) == said(last)
            all_kills += kills
        num_rows = len(said(done))
    result("library-resume", files=len(files), broken=arguments.broken, failed=num_rows, kills=all_kills,
           formats=len(arguments.formats), equal=int(all_equal))


def shards(arguments):
    files = audio_files(arguments.paths)
    all_equal = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        library = folder / "library"
        make_library(library, files, arguments.broken)
        for form in arguments.formats:
            whole, merged = folder / f"whole.{form}", folder / f"merged.{form}"
            tag(library, whole, form)
            parts = []
            for index in range(1, arguments.shards + 1):
                parts.append(folder / f"part-{index}.{form}")
                tag(library, parts[-1], form, "--shard", f"{index}/{arguments.shards}")
            start = time.perf_counter()
            done = subprocess.run([binary("earmark"), "merge", *parts, "--out", merged], capture_output=True, text=True)
            assert done.returncode == 0, done
            same = equal(whole, merged)
            print(f"{form}: {done.stderr.strip()} in {time.perf_counter() - start:.1f} s, "
                  f"{'equal' if same else 'DIFFERENT'}, {merged.stat().st_size / 1e6:.1f} MB", flush=True)
            all_equal &= same
    result("library-shards", files=len(files), shards=arguments.shards, formats=len(arguments.formats),
           equal=int(all_equal))


def faults(arguments):
    files = audio_files(arguments.paths)
    passed = 0

    def check(what, condition, said):
        nonlocal passed
        print(f"{'ok  ' if condition else 'FAIL'} {what}: {said.strip() or '(nothing said)'}", flush=True)
        passed += bool(condition)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        library = folder / "library"
        make_library(library, files, 0)
        whole = folder / "whole.csv"
        tag(library, whole, "csv")
        # A disk that holds half of what is written.
        small = folder / "small"
        small.mkdir()
        tag(library, folder / "probe.csv", "csv", "--resume")
        need = (folder / "probe.csv.journal").stat().st_size + whole.stat().st_size
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={need // 2}", "tmpfs", small], check=True)
        try:
            (small / "out.csv").write_text("from before")
            done = tag(library, small / "out.csv", "csv")
            check("disk full", done.returncode == 1 and "No space left" in done.stderr and "--resume" in done.stderr,
                  done.stderr)
            check("disk full: the output is as it was", (small / "out.csv").read_text() == "from before",
                  f"{(small / 'out.csv.journal').stat().st_size} bytes of results kept")
            subprocess.run(["mount", "-o", f"remount,size={need * 3}", small], check=True)
            done = tag(library, small / "out.csv", "csv", "--resume")
            check("room made: the rest is done", done.returncode == 0 and equal(small / "out.csv", whole), done.stderr)
        finally:
            subprocess.run(["umount", small], check=True)

        # Somebody who may read all but one file, and write nowhere but in one folder.
        folder.chmod(0o755)
        readable, locked = folder / "readable", folder / "locked"
        readable.mkdir()
        for index, file in enumerate(files[:4]):
            shutil.copyfile(file, readable / f"{index}{file.suffix}")
        (readable / f"1{files[1].suffix}").chmod(0)
        locked.mkdir(mode=0o755)
        writable = folder / "writable"
        writable.mkdir()
        writable.chmod(0o777)
        earmark = folder / "earmark"
        shutil.copy(binary("earmark"), earmark)
        earmark.chmod(0o755)

        def as_nobody(out):
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", earmark, "tag", readable,
                       "--format", "csv", "--out", out, "-q"]
            return subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})

        done = as_nobody(locked / "out.csv")
        check("no permission to write", done.returncode == 2 and "Permission denied" in done.stderr
              and "out.csv" in done.stderr, done.stderr)
        done = as_nobody(writable / "out.csv")
        check("no permission to read one file", done.returncode == 1 and "Permission denied" in done.stderr
              and done.stderr.count("\n") == 1, done.stderr)
        text = (writable / "out.csv").read_text()
        check("the others are there", all(f"/{index}{files[index].suffix}" in text for index in (0, 2, 3)), "three files")

        # Files that vanish between the search and their turn.
        command = [binary("earmark"), "tag", readable, "--format", "csv", "--out", folder / "out.csv", "-q", "--jobs", "1",
                   "--hop-secs", "0.011"]
        child = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        while not (folder / "out.csv.journal").exists() or b'"started"' not in (folder / "out.csv.journal").read_bytes():
            time.sleep(0.01)
        (readable / f"3{files[3].suffix}").unlink()
        said = child.communicate()[1]
        check("a file vanishes", child.returncode == 1 and said.count("\n") == 1 and f"3{files[3].suffix}" in said, said)
        check("the others are there", f"/2{files[2].suffix}" in (folder / "out.csv").read_text(), "three files")
    result("library-faults", passed=passed, of=8)


def cpu_secs():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def speed(arguments):
    files = audio_files(arguments.paths)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        library = folder / "library"
        make_library(library, files, 0)
        earmark = str(binary("earmark"))
        shares, walls, cpus = {"kept": [], "bare": []}, {"kept": [], "bare": []}, {"kept": [], "bare": []}
        for _ in range(arguments.rounds):
            for kind in ("kept", "bare"):
                before, start = cpu_secs(), time.perf_counter()
                if kind == "kept":
                    tag(library, folder / "out.csv", "csv", "--jobs", str(cores))
                else:
                    # The standard output has no journal.
                    with open(folder / "bare.csv", "wb") as out:
                        subprocess.run([earmark, "tag", library, "--format", "csv", "-q", "--jobs", str(cores)], stdout=out)
                walls[kind].append(time.perf_counter() - start)
                cpus[kind].append(cpu_secs() - before)
                shares[kind].append(cpus[kind][-1] / walls[kind][-1] / cores)
        same = (folder / "out.csv").read_bytes() == (folder / "bare.csv").read_bytes()
    print(f"{len(files)} files, {cores} cores, {arguments.rounds} rounds; with journal {summary(walls['kept'])} s, without "
          f"{summary(walls['bare'])} s, processor time {summary(cpus['kept'])} s and {summary(cpus['bare'])} s, "
          f"{'equal' if same else 'DIFFERENT'} rows")
    result("library-speed", files=len(files), cpu_share=max(shares["kept"]), seconds=min(walls["kept"]),
           journal_cost=min(walls["kept"]) / min(walls["bare"]) - 1,
           journal_cpu_cost=min(cpus["kept"]) / min(cpus["bare"]) - 1)


def tone(path, samples):
    data = b"".join(struct.pack("<h", 9_000 if index // 25 % 2 else -9_000) for index in range(samples))
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 22_050, 44_100, 2, 16)
    path.write_bytes(head + b"data" + struct.pack("<I", len(data)) + data)


def memory(arguments):
    values = {}
    for count in arguments.files:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            tone(folder / "tone.wav", 2_205)
            library = folder / "library"
            for index in range(count):
                place = library / f"{index // 1000:03}"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{index:06} - a title of usual length.wav").symlink_to(folder / "tone.wav")
            start = time.perf_counter()
            command = ["/usr/bin/env", "python3", "-c",
                       "import resource,subprocess,sys;"
                       "code=subprocess.run(sys.argv[1:]).returncode;"
                       "print(code,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"]
            for resumed in (False, True):
                earmark = [binary("earmark"), "tag", library, "--resume", "--format", "csv", "--out", folder / "out.csv", "-q"]
                done = subprocess.run([str(part) for part in command + earmark], capture_output=True, text=True)
                code, kib = map(int, done.stdout.split())
                assert code == 0, done
                name = f"{'resumed' if resumed else 'rss'}_mb_{count}"
                values[name] = kib / 1024
            print(f"{count} files, twice: {time.perf_counter() - start:.1f} s", flush=True)
    result("library-memory", **values)


def read(arguments):
    import duckdb
    import polars
    import pyarrow.parquet

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        library = folder / "library"
        make_library(library, audio_files(arguments.paths), 1)
        out, rows = folder / "x.parquet", folder / "x.csv"
        tag(library, out, "parquet")
        tag(library, rows, "csv")
        tracks = outputs(out)[1]
        print(pyarrow.parquet.read_schema(out).remove_metadata(), pyarrow.parquet.read_schema(tracks).remove_metadata(),
              sep="\n\n")
        print({key.decode(): value.decode()[:60] for key, value in pyarrow.parquet.read_schema(out).metadata.items()})
        expected = duckdb.sql(f"select * from read_csv('{rows}')").fetchall()
        by_duckdb = duckdb.sql(f"select file, start_s, end_s, tag, round(confidence::double, 4) from '{out}'").fetchall()
        table = polars.read_parquet(out).with_columns(polars.col("confidence").cast(polars.Float64).round(4))
        by_polars = [tuple(row) for row in table.iter_rows()]
        print(duckdb.sql(f"select tag, count(*) files, round(avg(confidence), 3) mean from '{tracks}' group by 1 order by 2 desc, 1 limit 5"))
        by_arrow = pyarrow.parquet.read_table(out).num_rows
    result("library-read", rows=len(expected), equal=int(expected == by_duckdb == by_polars and by_arrow == len(expected)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (resume, shards, faults, speed, memory, read):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        if function is memory:
            command.add_argument("--files", type=int, nargs="+", default=[5_000, 50_000])
        else:
            command.add_argument("paths", nargs="*", metavar="PATH")
        if function in (resume, shards):
            command.add_argument("--broken", type=int, default=50)
            command.add_argument("--formats", nargs="+", default=["csv", "ndjson", "parquet"])
        if function is resume:
            command.add_argument("--kills", type=int, default=20)
        if function is shards:
            command.add_argument("--shards", type=int, default=8)
        if function is speed:
            command.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    sys.exit(main())
