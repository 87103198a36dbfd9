"""What is known to be damaged in a store, and its removal, so that it is made again."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr

from ndtomo_dask.io.shards import ShardFiles, clear_partial_writes

FOUND_GROUP = "found"
"""Group of a store in which a recipe keeps what its ``find_`` verbs returned."""
METADATA = "zarr.json"


def record_of(store: Path) -> Path:
    """Where the damage that was found in a store is recorded: beside it."""
    return store.with_name(f"{store.stem}.verify.json")


def write_record(store: Path, content: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    record = record_of(store)
    unfinished = record.with_name(f"{record.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content, indent=1))
        unfinished.replace(record)
    finally:
        unfinished.unlink(missing_ok=True)


def stamp(file: Path) -> dict[str, int | None]:
    """Size and time of a file, by which it is known again."""
    try:
        found = file.stat()
    except OSError:
        return {"size": None, "mtime_ns": None}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def remove_damaged(store: Path) -> None:
    """Remove what is known or seen to be damaged, so that it is made again.

    An estimate goes as a whole, and so does a variable whose metadata are damaged. The metadata of
    the store itself stay: without them nothing tells what made it.
    """
    _remove_begun(store)
    for file in set(_broken(store)):
        _remove(store, file)
    remove_recorded(store)


def _remove_begun(store: Path) -> None:
    """Remove folders of arrays of which not even the metadata are there."""
    for group in [folder for folder, kind in nodes(store) if kind == "group"]:
        for folder in _folders(group):
            files = (path for path in folder.rglob("*") if path.is_file())
            if all(path.suffix == ".partial" for path in files):
                shutil.rmtree(folder)


def remove_recorded(store: Path) -> None:
    """Remove what the record names, if it is as it was then; and the record."""
    for file in list(_recorded(store)):
        _remove(store, file)
    record_of(store).unlink(missing_ok=True)


def _recorded(store: Path) -> Iterator[Path]:
    try:
        named = json.loads(record_of(store).read_text())["damages"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    for damage in named:
        file = store / damage["file"]
        if stamp(file) == {key: damage[key] for key in ("size", "mtime_ns")}:
            yield file


def _broken(store: Path) -> Iterator[Path]:
    """Find what is wrong in metadata, in indexes of shards and in small arrays."""
    for folder, kind in nodes(store):
        if kind == "damaged":
            yield folder / METADATA
        elif kind == "array":
            clear_partial_writes(folder)
            files = ShardFiles(folder)
            whole = FOUND_GROUP in folder.relative_to(store).parts
            for place in files.places():
                file = files.file(place)
                if (whole or file.exists()) and not files.is_whole(file):
                    yield file


def _remove(store: Path, file: Path) -> None:
    parts = file.relative_to(store).parts
    if parts == (METADATA,) or not file.parent.is_dir():
        return
    if parts[0] == FOUND_GROUP and len(parts) > 2:
        shutil.rmtree(store / FOUND_GROUP / parts[1], ignore_errors=True)
    elif file.name != METADATA:
        file.unlink(missing_ok=True)
    elif _has_nodes(file.parent):
        file.unlink(missing_ok=True)
        zarr.open_group(file.parent, mode="a")
    else:
        shutil.rmtree(file.parent, ignore_errors=True)


def nodes(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders of a store, each an ``"array"``, a ``"group"``, or one with ``"damaged"`` metadata.

    Estimates that were never finished are passed over.
    """
    kind = _kind(root)
    if kind is not None:
        yield root, kind
    if kind == "array" or (kind == "damaged" and not _has_nodes(root)):
        return
    for folder in _folders(root):
        yield from nodes(folder)


def _kind(folder: Path) -> str | None:
    if not (folder / METADATA).is_file():
        holds_data = (folder / "c").exists() or any(
            (f / METADATA).is_file() for f in _folders(folder)
        )
        return "damaged" if holds_data else None
    try:
        node = zarr.open(folder, mode="r", zarr_format=3)
        if isinstance(node, zarr.Group):
            return "group"
        ShardFiles(folder)
    except Exception:  # whatever stands there instead of metadata
        return "damaged"
    return "array"


def _has_nodes(folder: Path) -> bool:
    return any((inside / METADATA).is_file() for inside in _folders(folder))


def _folders(folder: Path) -> Iterable[Path]:
    inside = (path for path in folder.iterdir() if path.is_dir() and path.suffix != ".partial")
    return sorted(path for path in inside if path.name != "c" or (path / METADATA).is_file())
