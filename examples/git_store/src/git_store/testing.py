"""What the conformance suite needs to know of the git adapter: a row is a file with one text."""

from __future__ import annotations

import secrets
import subprocess
import zlib
from pathlib import Path
from typing import cast

from plait.adapter import Adapter, Context, StagingPort
from plait.types import Key, Location, SnapshotRef, Store
from plait_conformance.harness import Edits, Harness, Rows

from git_store import Branch, GitAdapter
from git_store.git import NOTHING, Git


class GitHarness(Harness):
    """A bare repository in a folder."""

    keeps_all_in_folder = True

    def open(self, context: Context) -> GitAdapter:
        return GitAdapter(Store("code", "git", options={"path": str(self.folder)}), context)

    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        port.add(key, new=True)
        self.write(adapter, port, key, rows)

    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        contents = {row: None if text is None else text.encode() for row, text in edits.items()}
        cast(Branch, adapter.open(port.add(key), port)).edit(contents)

    def read(self, location: Location) -> Rows:
        """By git alone."""
        commit = location.uri.rpartition("#")[2]
        listed = self._git("ls-tree", "-r", "--name-only", commit).decode().split()
        return {path: self._git("show", f"{commit}:{path}").decode() for path in listed}

    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """A push past plait."""
        git = Git(self.folder)
        git.make()
        branch = f"elsewhere-{secrets.token_hex(4)}" if snapshot is None else snapshot.asset
        entries = {row: None if text is None else git.entry(text.encode()) for row, text in edits.items()}
        while True:
            tip = git.at(f"refs/heads/{branch}")
            onto = tip or (None if snapshot is None else snapshot.version)
            commit = git.commit(git.edited(onto, entries), *([onto] if onto else []), message="push")
            if git.move(f"update refs/heads/{branch} {commit} {tip or NOTHING}"):
                return branch

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """Another text of the same length, under the same name."""
        name = self._git("ls-tree", "-r", "--format=%(objectname)", snapshot.version).decode().split()[0]
        path = Path(self.folder, "objects", name[:2], name[2:])
        content = bytearray(zlib.decompress(path.read_bytes()))
        content[-1] ^= 1
        path.chmod(0o644)
        path.write_bytes(zlib.compress(bytes(content)))

    def _git(self, *words: str) -> bytes:
        return subprocess.run(["git", f"--git-dir={self.folder}", *words], check=True, capture_output=True).stdout
