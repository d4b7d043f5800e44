"""Branches of a bare git repository in plait's history: an asset is a branch, an item a file, a snapshot a commit.

An example of a store with heads of its own, which others move too. What keeps a commit alive, and what plait knows of a
branch, are refs:

    refs/heads/<asset>                    the published head
    refs/plait/work/<tx>/<intent>         a staging
    refs/plait/votes/<tx>/<attempt>/<…>   what a transaction voted, merged or imported, until it ends
    refs/plait/kept/<commit>              what was committed
    refs/plait/found/<commit>             what somebody pushed, when it was seen
    refs/plait/seq/<asset>                a blob with the number of the last publication
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import MappingProxyType

from plait.adapter import Adapter, Capability, Context, Side, StagingPort, folder_option
from plait.errors import InvalidArgument, NotFound, TransactionClosed
from plait.hookspecs import hookimpl
from plait.types import (
    Choice,
    Conflict,
    Conflicted,
    ConflictKind,
    Depth,
    Health,
    Intent,
    ItemChange,
    ItemChangeKind,
    Json,
    Key,
    Location,
    Merged,
    Move,
    Published,
    PublishState,
    Resolution,
    SnapshotRef,
    Staging,
    Store,
)

from git_store.git import NOTHING, Git, object_id


class GitAdapter(Adapter):
    """A store over one bare repository on this machine (option `path`)."""

    kind = "git"
    capabilities = frozenset(
        {
            Capability.ITEM_DIFF,
            Capability.MERGE,
            Capability.ITEM_RESOLUTION,
            Capability.ITEM_RESTORE,
            Capability.NATIVE_HEAD,
        }
    )

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        if unknown := sorted(set(store.options) - {"path"}):
            raise InvalidArgument(f"stores of kind 'git' have no option {unknown[0]!r}", remedy="known is path")
        self._folder = folder_option(store, "path")
        if (Path(self._folder) / ".git").exists():
            raise InvalidArgument(
                f"{self._folder} is a work tree, whose files would stay behind when its branch moves",
                remedy="name a bare repository (git clone --bare) and pull from that",
            )
        self.git = Git(Path(self._folder))

    def local_folder(self) -> str:
        return self._folder

    def _refer(self, asset: str, commit: str) -> SnapshotRef:
        return SnapshotRef(self.store.name, self.kind, asset, commit, bytes.fromhex(self.git.tree(commit)))

    def _commit_of(self, side: Side) -> str | None:
        if side is None:
            return None
        return side.version if isinstance(side, SnapshotRef) else self.git.at(side.location)

    # -- looking -------------------------------------------------------------------------------------------------------

    def snapshot(self, tx: str, assets: Mapping[Key, str]) -> Mapping[Key, SnapshotRef]:
        """The commits that branches are at."""
        found = {}
        for key, branch in assets.items():
            commit = self.git.at(f"refs/heads/{branch}")
            if commit is None:
                raise NotFound(f"there is no branch {branch!r} in {self._folder}", remedy="name one of 'git branch'")
            self.context.failpoint("git.snapshot.before_pin")
            self.git.pin(f"refs/plait/votes/{tx}/0/{commit}", commit)
            found[key] = self._refer(branch, commit)
        return found

    def diff(self, before: Side, after: Side, *, items: Sequence[str] | None = None) -> Iterator[ItemChange]:
        """Files whose mode or content differ, by their ids: only their contents are read."""
        old, new = (self.git.entries(self._commit_of(side)) for side in (before, after))
        for path in sorted(old.keys() | new.keys()):
            if old.get(path) != new.get(path) and (items is None or path in items):
                kind = ItemChangeKind.CHANGED
                if path not in old or path not in new:
                    kind = ItemChangeKind.ADDED if path in new else ItemChangeKind.REMOVED
                yield ItemChange(path, kind, "file", self._text(old.get(path)), self._text(new.get(path)))

    def _text(self, entry: str | None) -> Json:
        return None if entry is None else self.git.content(entry).decode(errors="replace")

    def locate(self, target: SnapshotRef | Staging) -> Location:
        name = target.location if isinstance(target, Staging) else target.version
        return Location(
            f"{self.git.folder.as_uri()}#{name}", {}, f"git --git-dir {self._folder} archive {name} | tar x"
        )

    def verify(self, snapshot: SnapshotRef, depth: Depth) -> Health:
        """EXISTS: the commit is there. METADATA: so is each file. BYTES: each hashes to its name."""
        if self.git.try_("cat-file", "-e", snapshot.version).returncode:
            return Health(1, (f"commit {snapshot.version} is not in {self._folder}",))
        if depth is Depth.EXISTS:
            return Health(1)
        listed = self.git.try_("ls-tree", "-r", "-t", "--format=%(objecttype) %(objectname)", snapshot.version)
        if listed.returncode:
            return Health(1, (f"commit {snapshot.version} cannot be read: {listed.stderr.decode().strip()}",))
        objects = [f"commit {snapshot.version}", f"tree {snapshot.digest.hex()}", *listed.stdout.decode().splitlines()]
        problems = [problem for one in dict.fromkeys(objects) for problem in self._check_object(one, depth)]
        return Health(len(objects), tuple(problems))

    def _check_object(self, one: str, depth: Depth) -> Iterator[str]:
        kind, name = one.split()
        self.context.check_cancelled()
        done = self.git.try_("cat-file", *(["-e"] if depth is Depth.METADATA else [kind]), name)
        if done.returncode:
            yield f"object {name} is missing, or cannot be read"
        elif depth is Depth.BYTES and object_id(kind, done.stdout) != name:
            yield f"object {name} holds other bytes than were committed"

    # -- writing inside a transaction ----------------------------------------------------------------------------------

    def stage(self, tx: str, intents: Mapping[Key, Intent]) -> Mapping[Key, Staging]:
        self.git.make()
        return {key: self._stage(tx, key, intent) for key, intent in intents.items()}

    def _stage(self, tx: str, key: Key, intent: Intent) -> Staging:
        ref = f"refs/plait/work/{tx}/{intent.id}"
        base = intent.base
        if self.git.at(ref) is None:
            start = base.version if base else self.git.commit(self.git.edited(None, {}), message=intent.id)
            self.context.failpoint("git.stage.before_ref")
            self.git.move(f"create {ref} {start}")  # Refused, where the same intent was staged meanwhile.
        return Staging(tx, key, base, ref, {"asset": base.asset if base else intent.id, "intent": intent.id})

    def open(self, target: SnapshotRef | Staging, port: StagingPort | None) -> Mapping[str, bytes]:
        """The files by their paths; writable for a staging with its port."""
        if isinstance(target, Staging) and port is not None:
            return Branch(self.git, target.key, port)
        entries = self.git.entries(self._commit_of(target))
        return MappingProxyType({path: self.git.content(entry) for path, entry in entries.items()})

    def prepare(self, tx: str, attempt: int, stagings: Mapping[Key, Staging]) -> Mapping[Key, SnapshotRef | None]:
        return {key: self._vote(tx, attempt, staging) for key, staging in stagings.items()}

    def _vote(self, tx: str, attempt: int, staging: Staging) -> SnapshotRef | None:
        """The commit that the staging is at; once pinned, the answer stays."""
        vote = f"refs/plait/votes/{tx}/{attempt}/{staging.attrs['intent']}"
        commit = self.git.at(vote)
        if commit is None:
            commit = _still(self.git.at(staging.location))
            self.context.failpoint("git.prepare.before_pin")
            self.git.pin(vote, commit)
        base = staging.base
        return (
            base if base and self.git.tree(commit) == base.digest.hex() else self._refer(staging.attrs["asset"], commit)
        )

    def restore(self, tx: str, staging: Staging, snapshot: SnapshotRef, *, items: Sequence[str] | None) -> Staging:
        then = self.git.entries(snapshot.version)
        while True:
            tip = _still(self.git.at(staging.location))
            now = self.git.entries(tip)
            wanted = then.keys() | now.keys() if items is None else set(items) & (then.keys() | now.keys())
            tree = self.git.edited(tip, {path: then.get(path) for path in wanted})
            if tree == self.git.tree(tip):
                return staging
            if self.git.move(f"update {staging.location} {self.git.commit(tree, tip)} {tip}"):
                return staging

    def abort(self, tx: str) -> None:
        spaces = (f"refs/plait/{space}/{tx}/" for space in ("work", "votes"))
        listed = self.git.try_("for-each-ref", "--format=%(refname)", *spaces)
        for ref in listed.stdout.decode().split():
            self.context.failpoint("git.abort.before_ref")
            self.git.move(f"delete {ref}")

    def release(self, tx: str, kept: Iterable[SnapshotRef]) -> None:
        """What was committed is pinned by itself before the transaction's pins go."""
        for one in kept:
            self.git.pin(f"refs/plait/kept/{one.version}", one.version)
        self.context.failpoint("git.release.pinned")
        self.abort(tx)

    # -- joining -------------------------------------------------------------------------------------------------------

    def merge(
        self,
        tx: str,
        attempt: int,
        *,
        base: SnapshotRef | None,
        ours: SnapshotRef,
        theirs: SnapshotRef,
        resolutions: Sequence[Resolution] = (),
    ) -> Merged | Conflicted:
        """File by file; files that both sides changed by lines, as git does."""
        old, mine, others = (self.git.entries(self._commit_of(side)) for side in (base, ours, theirs))
        settled = {one.item: one for one in resolutions}
        edits: dict[str, str | None] = {}
        conflicts = []
        for path in sorted(old.keys() | others.keys()):
            sides = old.get(path), mine.get(path), others.get(path)
            if sides[2] in sides[:2]:
                continue
            if sides[0] == sides[1]:
                edits[path] = sides[2]
            elif resolution := settled.get(path, settled.get(None)):
                edits[path] = self._settled(resolution, *sides)
            elif (joined := self._joined(*sides)) is not None:
                edits[path] = joined
            else:
                before, left, right = map(self._text, sides)
                conflicts.append(Conflict((), ConflictKind.ITEM_CHANGED, path, before, left, right))
        if conflicts:
            return Conflicted(tuple(conflicts))
        commit = self.git.commit(self.git.edited(ours.version, edits), ours.version, theirs.version)
        self.context.failpoint("git.merge.before_pin")
        self.git.pin(f"refs/plait/votes/{tx}/{attempt}/{commit}", commit)
        return Merged(self._refer(ours.asset, commit))

    def _joined(self, base: str | None, ours: str | None, theirs: str | None) -> str | None:
        if ours is None or theirs is None or base is None:
            return None
        joined = self.git.merged(*map(self.git.content, (ours, base, theirs)))
        return None if joined is None else self.git.entry(joined, ours.partition(" ")[0])

    def _settled(self, resolution: Resolution, base: str | None, ours: str | None, theirs: str | None) -> str | None:
        if resolution.choice is not Choice.VALUE:
            return {Choice.BASE: base, Choice.OURS: ours, Choice.THEIRS: theirs}[resolution.choice]
        return None if resolution.value is None else self.git.entry(str(resolution.value).encode())

    # -- native heads --------------------------------------------------------------------------------------------------

    def succeed(self, tx: str, attempt: int, *, onto: SnapshotRef, content: SnapshotRef) -> SnapshotRef:
        """A branch only moves forward: to go back, there is a commit with the old tree on top of the new one."""
        if self.git.descends(content.version, onto.version):
            return content
        commit = self.git.commit(content.digest.hex(), onto.version, content.version)
        self.context.failpoint("git.succeed.before_pin")
        self.git.pin(f"refs/plait/votes/{tx}/{attempt}/{commit}", commit)
        return self._refer(onto.asset, commit)

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        return {key: self._publish(move) for key, move in moves.items()}

    def _publish(self, move: Move) -> Published:
        """The branch and the number of its publication move in one step, from where they were seen, or not at all."""
        side = move.after or move.before
        assert side is not None
        head, mark = f"refs/heads/{side.asset}", f"refs/plait/seq/{side.asset}"
        before, after = self._commit_of(move.before), self._commit_of(move.after)
        while True:
            now, last = self.git.at(head), self.git.at(mark)
            if now == after:
                return Published(PublishState.DONE)
            if last is not None and int(self.git.content(f"blob {last}")) > move.seq:
                return Published(PublishState.BUSY)
            if now != before:
                return Published(PublishState.DIVERGED, self._found(side.asset, now))
            if before and after and not self.git.descends(after, before):
                raise InvalidArgument(f"{after} does not succeed {before}, where {head} is")
            number = self.git.entry(str(move.seq).encode()).partition(" ")[2]
            self.context.failpoint("git.publish.before_move")
            step = f"update {head} {after} {before or NOTHING}" if after else f"delete {head} {before}"
            self.git.move(step, f"update {mark} {number} {last or NOTHING}")  # Refused: somebody moved one of them.

    def _found(self, asset: str, commit: str | None) -> SnapshotRef | None:
        """What somebody pushed, kept alive though he may push over it again."""
        if commit is None:
            return None
        self.git.pin(f"refs/plait/found/{commit}", commit)
        return self._refer(asset, commit)


class Branch(MutableMapping[str, bytes]):
    """The files of a staging: each change is a commit on its ref, compared and moved."""

    def __init__(self, git: Git, key: Key, port: StagingPort) -> None:
        self._git, self._key, self._port = git, key, port

    def edit(self, contents: Mapping[str, bytes | None]) -> None:
        """Write some files, and remove others (None), in one commit."""
        edits = {path: None if one is None else self._git.entry(one) for path, one in contents.items()}
        while True:
            ref, tip = self._tip()
            tree = self._git.edited(tip, edits)
            if tree == self._git.tree(tip) or self._git.move(f"update {ref} {self._git.commit(tree, tip)} {tip}"):
                return

    def _tip(self) -> tuple[str, str]:
        staging = self._port.get(self._key)
        ref = "" if staging is None else staging.location
        return ref, _still(self._git.at(ref) if ref else None)

    def _entries(self) -> dict[str, str]:
        return self._git.entries(self._tip()[1])

    def __getitem__(self, path: str) -> bytes:
        return self._git.content(self._entries()[path])

    def __setitem__(self, path: str, content: bytes) -> None:
        self.edit({path: content})

    def __delitem__(self, path: str) -> None:
        if path not in self._entries():
            raise KeyError(path)
        self.edit({path: None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())


def _still(commit: str | None) -> str:
    if commit is None:
        raise TransactionClosed("the working set has ended", remedy="begin another")
    return commit


@hookimpl
def plait_register_adapters() -> list[type[Adapter]]:
    return [GitAdapter]
