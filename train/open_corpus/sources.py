"""Packages in, original files out.

    packages.tsv -> apt-get download | git clone -> SHA-256 -> the members that the manifest names -> CACHE/files/

Only the named members are unpacked, also out of an archive inside the package (.zip, .pk3). Nothing is installed. A
package whose version differs from the manifest's is used and reported; one whose bytes differ under the same version is
refused.
"""

import csv
import dataclasses
import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable

DATA = pathlib.Path(__file__).resolve().parent / "data"


class RecipeError(Exception):
    """What went wrong with one package or clip, and the way out. The build reports it and goes on."""


@dataclasses.dataclass(frozen=True)
class Package:
    """One row of packages.tsv. `inner` is the archive inside a Debian package, or the address of a git repository."""

    name: str
    kind: str
    version: str
    sha256: str
    inner: str


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of a manifest in data/, tab-separated, without quoting."""
    with open(DATA / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def packages() -> dict[str, Package]:
    return {
        row["package"]: Package(row["package"], row["kind"], row["version"], row["sha256"], row["inner"])
        for row in read_table("packages.tsv")
    }


def run(command: list[str], cwd: pathlib.Path | None = None) -> bytes:
    """Output of a command; its last line of complaint becomes the error."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, check=False)
    except FileNotFoundError:
        raise RecipeError(
            f"{command[0]} is not installed; on Debian and Ubuntu: apt-get install {command[0]}"
        ) from None
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RecipeError(f"{' '.join(command[:3])} .. failed: {complaint[-1]}")
    return done.stdout


def sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """Downloads and unpacked files under one folder, kept between runs."""

    def __init__(self, cache: pathlib.Path, esc10: pathlib.Path | None = None):
        self.cache = cache
        self.esc10 = esc10
        self.packages = packages()
        self.versions: dict[str, str] = {}  # of what was really used
        self.warnings: list[str] = []

    def fetch(self, name: str, members: Iterable[str]) -> pathlib.Path:
        """The folder that holds these members of a package under their own paths."""
        package = self.packages[name]
        members = sorted(set(members))
        if package.kind == "git":
            return self._fetch_git(package, members)
        archive = self._download(package)
        folder = self.cache / "files" / f"{name}_{self.versions[name].replace(':', '%3a')}"
        missing = [member for member in members if not (folder / member).is_file()]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            self._unpack(package, archive, missing, folder)
        absent = [member for member in members if not (folder / member).is_file()]
        if absent:
            self.warnings.append(f"{name} {self.versions[name]} has no {absent[0]} (and {len(absent) - 1} more)")
        return folder

    def _download(self, package: Package) -> pathlib.Path:
        folder = self.cache / "debs"
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(folder.glob(f"{package.name}_*.deb"))
        if not found:
            with tempfile.TemporaryDirectory(dir=folder) as partial:
                where = pathlib.Path(partial)
                try:
                    run(["apt-get", "download", "-q", f"{package.name}={package.version}"], cwd=where)
                except RecipeError:
                    run(["apt-get", "download", "-q", package.name], cwd=where)  # whatever version there is
                for deb in where.glob("*.deb"):
                    found.append(deb.rename(folder / deb.name))
        if not found:
            raise RecipeError(f"apt-get brought no file for {package.name}; run apt-get update, then again")
        archive = found[-1]
        version = run(["dpkg-deb", "-f", str(archive), "Version"]).decode().strip()
        self.versions[package.name] = version
        if version != package.version:
            self.warnings.append(
                f"{package.name} is {version}, the manifest was made from {package.version}: "
                "clips may differ, and so may the licences (see usr/share/doc of the package)"
            )
        elif sha256(archive) != package.sha256:
            raise RecipeError(
                f"{archive} is damaged or not Debian's {version} (its SHA-256 differs); delete it, then run again"
            )
        return archive

    def _unpack(self, package: Package, archive: pathlib.Path, members: list[str], folder: pathlib.Path) -> None:
        wanted = {package.inner} if package.inner else set(members)
        stream = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
        with tempfile.TemporaryDirectory(dir=self.cache) as partial, stream:
            with tarfile.open(fileobj=stream.stdout, mode="r|") as tar:
                for entry in tar:
                    name = entry.name.removeprefix("./")
                    if name in wanted and entry.isfile():
                        target = pathlib.Path(partial) / "inner" if package.inner else folder / name
                        self._copy(tar.extractfile(entry), target)
            if package.inner:
                with zipfile.ZipFile(pathlib.Path(partial) / "inner") as inner:
                    for name in set(inner.namelist()) & set(members):
                        with inner.open(name) as source:
                            self._copy(source, folder / name)

    def _fetch_git(self, package: Package, members: list[str]) -> pathlib.Path:
        repository = self.esc10 or self.cache / "git" / package.name
        if not repository.exists():
            repository.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=repository.parent) as partial:
                run(["git", "clone", "-q", "--bare", package.inner, f"{partial}/clone"])
                pathlib.Path(partial, "clone").rename(repository)
        self.versions[package.name] = f"git {package.version[:7]}"
        folder = self.cache / "files" / f"{package.name}_{package.version[:7]}"
        for member in members:
            if not (folder / member).is_file():
                blob = run(["git", "-C", str(repository), "cat-file", "blob", f"{package.version}:{member}"])
                write_atomic(folder / member, blob)
        return folder

    @staticmethod
    def _copy(source, target: pathlib.Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        with open(partial, "wb") as file:
            shutil.copyfileobj(source, file)
        partial.rename(target)


def write_atomic(path: pathlib.Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.rename(path)
