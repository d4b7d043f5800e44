"""Where a store is, by its options, and where others find what is in it."""

from __future__ import annotations

from collections.abc import Mapping

from plait.adapter import Context, folder_option
from plait.errors import InvalidArgument, Unsupported
from plait.types import Location, Staging, Store

from plait_delta.disk import DiskFiles
from plait_delta.disk_roots import DiskLayout
from plait_delta.files import OPTIONS, SCHEME
from plait_delta.roots import Layout, Root


def layout_of(store: Store, context: Context) -> Layout:
    """Where the store's tables are. Raises: InvalidArgument, Unsupported."""
    path = store.options.get("path", "")
    known = {"path", *(OPTIONS if path.startswith(SCHEME) else ())}
    if unknown := sorted(set(store.options) - known):
        raise InvalidArgument(
            f"stores of kind 'delta' at {path or 'no path'} have no option {unknown[0]!r}",
            remedy=f"known are {', '.join(sorted(known))}",
        )
    if path.startswith(SCHEME):
        bucket = path.removeprefix(SCHEME).partition("/")[0]
        if not bucket:
            raise InvalidArgument(f"path {path!r} names no bucket", remedy="write s3://bucket/prefix")
        # obstore takes a while to import, which stores on disks need not pay.
        from plait_delta.bucket import BucketFiles
        from plait_delta.bucket_roots import BucketLayout

        files = BucketFiles(bucket, store.options, failpoint=context.failpoint, credential=context.credential)
        return BucketLayout(path, files, context.failpoint)
    if "://" in path:
        raise Unsupported(f"path {path!r} is neither a local folder nor in S3", remedy="other object stores come later")
    return DiskLayout(folder_option(store, "path"), DiskFiles(context.failpoint), context.failpoint)


def staging_location(store: Store, staging: Staging) -> Location:
    """Where every Delta client writes into a working set."""
    reach = _reach(store)
    snippet = (
        "# Python\n"
        "from deltalake import write_deltalake\n"
        f"write_deltalake({staging.location!r}, data, mode='append'{_storage(reach)})\n"
        "-- Spark\n"
        f"INSERT INTO delta.`{_for_spark(staging.location)}` VALUES (…);\n"
    )
    return Location(staging.location, reach, snippet)


def version_location(store: Store, root: Root, version: int) -> Location:
    """Where every Delta client reads a version."""
    reach = _reach(store)
    snippet = (
        "# Python\n"
        "from deltalake import DeltaTable\n"
        f"table = DeltaTable({root.folder!r}, version={version}{_storage(reach)})\n"
        "-- Spark\n"
        f"SELECT * FROM delta.`{_for_spark(root.folder)}` VERSION AS OF {version};\n"
    )
    return Location(root.folder, {"version": str(version), **reach}, snippet)


def _reach(store: Store) -> dict[str, str]:
    """The options that say where the server is."""
    return {name: value for name, value in store.options.items() if name in ("endpoint", "region")}


def _storage(reach: Mapping[str, str]) -> str:
    """These as an argument of deltalake's."""
    if not reach:
        return ""
    told = {f"AWS_{name.replace('endpoint', 'endpoint_url').upper()}": value for name, value in reach.items()}
    if reach.get("endpoint", "").startswith("http://"):
        told["AWS_ALLOW_HTTP"] = "true"
    return f", storage_options={told!r}"


def _for_spark(folder: str) -> str:
    """Spark knows S3 by another scheme."""
    return folder.replace(SCHEME, "s3a://", 1) if folder.startswith(SCHEME) else folder
