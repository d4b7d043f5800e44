"""One bare repository, by git's own commands."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from plait.errors import Corrupt, NotFound, StoreUnavailable

NOTHING: Final = "0" * 40
_OPTIONS: Final = {"core.fsync": "all", "core.fsyncMethod": "fsync", "gc.auto": "0"}
_COMMITTER: Final = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "plait"), ("EMAIL", "plait@localhost"), ("DATE", "1700000000 +0000"))
}
"""A commit is named by all that it says: with one date, it is the same when it is made again."""


class Git:
    """Raises: StoreUnavailable for what git refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        options = (word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}"))
        self._words = ["git", *options, f"--git-dir={folder}"]

    def try_(self, *words: str, data: bytes = b"", index: str = "") -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, **_COMMITTER, **({"GIT_INDEX_FILE": index} if index else {})}
        try:
            return subprocess.run([*self._words, *words], input=data, capture_output=True, env=env, check=False)
        except OSError as error:
            raise StoreUnavailable(f"git cannot be run: {error}", remedy="install git") from error

    def run(self, *words: str, data: bytes = b"", index: str = "") -> bytes:
        done = self.try_(*words, data=data, index=index)
        if done.returncode:
            raise StoreUnavailable(f"git {words[0]} failed in {self.folder}: {done.stderr.decode().strip()}")
        return done.stdout

    def name(self, *words: str, data: bytes = b"", index: str = "") -> str:
        """The object that a command names."""
        return self.run(*words, data=data, index=index).decode().strip()

    def make(self) -> None:
        """Repeat: no-op."""
        if not (self.folder / "HEAD").exists():
            self.run("init", "-q", "--bare")

    def at(self, ref: str) -> str | None:
        """What a ref names."""
        return self.try_("rev-parse", "-q", "--verify", ref).stdout.decode().strip() or None

    def move(self, *steps: str) -> bool:
        """Move refs, all or none; whether each was where its step says."""
        steps = ("start", *steps, "commit")
        return self.try_("update-ref", "--stdin", data="".join(f"{step}\n" for step in steps).encode()).returncode == 0

    def pin(self, ref: str, commit: str) -> None:
        """Keep a commit alive. Repeat: no-op."""
        self.run("update-ref", ref, commit)

    def tree(self, commit: str) -> str:
        return self.name("rev-parse", f"{commit}^{{tree}}")

    def entries(self, commit: str | None) -> dict[str, str]:
        """What a commit's files are: path → mode and object. Raises: NotFound, Corrupt."""
        if commit is None:
            return {}
        done = self.try_("ls-tree", "-r", "-z", "--format=%(objectmode) %(objectname)\t%(path)", commit)
        if done.returncode and self.try_("cat-file", "-e", commit).returncode:
            raise NotFound(f"commit {commit} is not in {self.folder}", remedy="restore the repository from a backup")
        if done.returncode:
            raise Corrupt(f"commit {commit} cannot be read in {self.folder}: {done.stderr.decode().strip()}")
        listed = (line.split("\t", 1) for line in done.stdout.decode().split("\0") if line)
        return {path: entry for entry, path in listed}

    def content(self, entry: str) -> bytes:
        """A file's bytes. Raises: Corrupt."""
        done = self.try_("cat-file", "blob", entry.partition(" ")[2])
        if done.returncode:
            raise Corrupt(f"object {entry} cannot be read in {self.folder}: {done.stderr.decode().strip()}")
        return done.stdout

    def entry(self, content: bytes, mode: str = "100644") -> str:
        return f"{mode} {self.name('hash-object', '-w', '--stdin', data=content)}"

    def edited(self, commit: str | None, edits: Mapping[str, str | None]) -> str:
        """The tree of a commit with some files as given, or (None) gone."""
        lines = (f"{entry or f'0 {NOTHING}'}\t{path}\0" for path, entry in edits.items())
        with tempfile.TemporaryDirectory() as folder:
            index = f"{folder}/index"
            self.run("read-tree", commit or "--empty", index=index)
            self.run("update-index", "-z", "--index-info", data="".join(lines).encode(), index=index)
            return self.name("write-tree", index=index)

    def commit(self, tree: str, *parents: str, message: str = "plait") -> str:
        return self.name("commit-tree", tree, *(f"-p{parent}" for parent in parents), data=message.encode())

    def descends(self, commit: str, ancestor: str) -> bool:
        return self.try_("merge-base", "--is-ancestor", ancestor, commit).returncode == 0

    def merged(self, *contents: bytes) -> bytes | None:
        """Ours, base and theirs by lines; None where they conflict."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, name) for name in ("ours", "base", "theirs")]
            for path, content in zip(paths, contents, strict=True):
                path.write_bytes(content)
            done = self.try_("merge-file", "-p", "-q", *map(str, paths))
        return None if done.returncode else done.stdout


def object_id(kind: str, content: bytes) -> str:
    """How git names an object."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
