"""Whatever is damaged in a store is named, and a resumed run makes it again, and nothing else."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

import ndtomo_dask as nd
from ndtomo_dask import runtime
from ndtomo_dask.cli import main
from ndtomo_dask.errors import StoreError
from ndtomo_dask.io.repair import record_of
from ndtomo_dask.io.shards import ShardFiles
from ndtomo_dask.io.verify import verify, verify_store
from ndtomo_dask.recipes.recipe import read_recipe
from ndtomo_dask.recipes.runner import run_recipe
from tests.recipe_cases import hashes, write_recipe, write_scan

FLIPS = 2
"""Bits that are flipped in each file, one at a time, at places that the seed decides."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recipe and its store, from which each test takes a copy."""
    folder = tmp_path_factory.mktemp("whole")
    scan = write_scan(folder / "scan.nxs")
    recipe = read_recipe(write_recipe(folder / "recipe.yaml", scan, folder / "out.zarr"))
    run_recipe(recipe)
    return recipe


@pytest.fixture
def recipe(whole, tmp_path):
    copied = whole.with_paths(output=tmp_path / "out.zarr")
    shutil.copytree(whole.output, copied.output)
    return copied


@pytest.fixture
def store(recipe):
    return recipe.output


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def cut(file, length):
    file.write_bytes(file.read_bytes()[:length])


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGES = {
    "a chunk": ("sinogram/c/3/0/0", lambda file: flip(file, 80_000)),
    "an index": ("sinogram/c/3/0/0", lambda file: flip(file, 8 * file.stat().st_size - 40)),
    "an end": ("sinogram/c/7/0/0", lambda file: cut(file, -1)),
    "nearly all": ("sinogram/c/0/0/0", lambda file: cut(file, 5)),
    "all": ("volume/c/0/0/0", lambda file: cut(file, 0)),
    "a block": ("peak_area/c/0/0/0", remove),
    "metadata": ("volume/zarr.json", lambda file: cut(file, 100)),
    "metadata gone": ("volume/zarr.json", remove),
    "an axis": ("q/c/0", lambda file: flip(file, 3000)),
    "an axis gone": ("q/c/0", remove),
    "an axis' metadata": ("tth/zarr.json", lambda file: cut(file, -20)),
    "a geometry": ("projection_shift/c/0", lambda file: flip(file, 300)),
    "an estimate": ("found/04_find_rotation_center/score/c/0", lambda file: flip(file, 300)),
    "an estimate gone": ("found/07_find_components/component_spectrum/c/0/0", remove),
    "an estimate's metadata": ("found/02_find_projection_shifts/zarr.json",
                               lambda file: cut(file, 20)),
    "all estimates' metadata": ("found/zarr.json", lambda file: cut(file, 3)),
}  # fmt: skip
REASONS = {
    "a chunk": "sinogram, angle 15 to 19: chunk checksum wrong (sinogram/c/3/0/0)",
    "an index": "sinogram, angle 15 to 19: index checksum wrong, or truncated (sinogram/c/3/0/0)",
    "an end": "sinogram, angle 35 to 39: index checksum wrong, or truncated (sinogram/c/7/0/0)",
    "nearly all": "sinogram, angle 0 to 4: truncated (sinogram/c/0/0/0)",
    "a block": "peak_area: missing (peak_area/c/0/0/0)",
    "metadata": "metadata of volume: metadata unreadable (volume/zarr.json)",
    "metadata gone": "metadata of volume: missing (volume/zarr.json)",
}


def shard_times(store):
    return {str(path.relative_to(store)): path.stat().st_mtime_ns
            for path in store.rglob("c/*/*/*") if path.is_file()}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_damaged_is_named_and_made_again_and_nothing_else(recipe, kind):
    store, (name, spoil) = recipe.output, DAMAGES[kind]
    before, times = hashes(store), shard_times(store)
    spoil(store / name)
    spoilt = hashes(store)

    (damage,) = verify(store)
    assert damage.file == name
    assert str(damage) == REASONS.get(kind, str(damage))
    assert damage.is_missing == (not (store / name).exists())
    assert hashes(store) == spoilt, "verify only reads"

    run_recipe(recipe, resume=True)
    assert hashes(store) == before
    assert verify(store) == []
    estimate = "/".join(name.split("/")[:2]) if name.startswith("found/") else None
    again = {path for path, time in shard_times(store).items() if times.get(path) != time}
    part = estimate if estimate not in (None, "found/zarr.json") else name.split("/zarr.json")[0]
    assert all(path == name or path.startswith(f"{part}/") for path in again), again


def test_a_whole_store_is_said_to_be_whole(store):
    found = verify_store(store)
    assert found.damages == []
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert found.blocks == len(files)
    assert found.nbytes == sum(path.stat().st_size for path in files)
    assert str(found) == (
        f"{store}: {len(files)} blocks of {found.variables} variables read, "
        f"{found.nbytes / 1000:.3g} kB; 0 damaged, 0 missing."
    )


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed(store, rng):
    """In any file but metadata, of which some flips are valid JSON that says something else."""
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for bit in rng.integers(0, 8 * len(content), FLIPS):
            flip(file, int(bit))
            found = {damage.file for damage in verify(store)}
            file.write_bytes(content)
            if file.name != "zarr.json":
                assert found == {str(file.relative_to(store))}, (file, bit)
    assert verify(store) == []


def test_workers_find_the_same(store, client):
    flip(store / "volume/c/0/0/0", 9000)
    (store / "sinogram/c/1/0/0").unlink()
    here = verify(store)
    with runtime.progress():
        assert verify(store) == here
    assert len(here) == 2


def test_a_variable_that_is_gone_is_missed(recipe):
    before = hashes(recipe.output)
    for name in ("volume", "tth"):
        shutil.rmtree(recipe.output / name)
    assert [str(damage) for damage in verify(recipe.output)] == [
        "tth: missing (tth/zarr.json)",
        "volume: missing (volume/zarr.json)",
    ]
    run_recipe(recipe, resume=True)
    assert hashes(recipe.output) == before


def test_a_store_without_readable_metadata_says_what_to_do(recipe):
    cut(recipe.output / "zarr.json", 50)
    (damage,) = verify(recipe.output)
    assert str(damage) == "metadata of the store: metadata unreadable (zarr.json)"
    with pytest.raises(StoreError, match=r"zarr\.json is damaged, .* pass overwrite=True to start"):
        run_recipe(recipe, resume=True)


def test_what_was_recorded_is_forgotten_once_it_is_written_anew(recipe):
    """A record names files by size and time: another file of that name is left alone."""
    store, file = recipe.output, recipe.output / "sinogram/c/3/0/0"
    good = file.read_bytes()
    flip(file, 80_000)
    verify(store)
    assert [damage["file"] for damage in json.loads(record_of(store).read_text())["damages"]] == [
        "sinogram/c/3/0/0"
    ]
    file.write_bytes(good)
    os.utime(file, ns=(5, 5))
    run_recipe(recipe, resume=True)
    assert file.stat().st_mtime_ns == 5
    assert not record_of(store).exists()


def test_saving_by_hand_makes_damaged_blocks_again(tmp_path, scan):
    path = tmp_path / "s.zarr"
    ds = scan.chunk(angle=10)
    nd.save(ds[["sinogram"]], path)
    before, times = hashes(path), shard_times(path)
    flip(path / "sinogram/c/2/0/0", 4000)
    flip(path / "translation/c/0", 100)
    assert {damage.variable for damage in verify(path)} == {"sinogram", "translation"}
    nd.save(ds[["sinogram"]], path, resume=True)
    assert hashes(path) == before
    changed = {name for name, time in shard_times(path).items() if times[name] != time}
    assert changed == {"sinogram/c/2/0/0"}


@pytest.mark.parametrize("layout", [{}, {"shards": (8, 8)}])
@pytest.mark.parametrize("checked", [True, False])
def test_the_store_of_another_program_is_decoded_where_it_has_no_checksums(
    tmp_path, layout, checked, rng
):
    codecs = [ZstdCodec(checksum=True), *([Crc32cCodec()] if checked else [])]
    root = zarr.open_group(tmp_path / "s.zarr", mode="w")
    array = root.create_array(
        "image", shape=(14, 10), chunks=(4, 4), dtype="f8", compressors=codecs, **layout
    )
    array[:8, :8] = rng.normal(size=(8, 8))  # the rest is fill value, and has no file
    assert verify(tmp_path / "s.zarr") == []
    file = tmp_path / "s.zarr/image/c/0/0"
    flip(file, 8 * 40)
    (damage,) = verify(tmp_path / "s.zarr")
    assert damage.reason == ("chunk checksum wrong" if checked else "cannot be decoded")
    assert damage.block == ("image, 0 0 to 7, 1 0 to 7" if layout else "image, 0 0 to 3, 1 0 to 3")


def test_a_large_chunk_is_read_in_pieces(tmp_path, rng):
    path = tmp_path / "s.zarr"
    values = rng.integers(0, 255, (1, 16 * 2**20), dtype=np.uint8)
    root = zarr.open_group(path, mode="w")
    array = root.create_array(
        "x", data=values, chunks=values.shape, shards=values.shape, compressors=[Crc32cCodec()]
    )
    assert array.nbytes_stored() > values.nbytes
    files = ShardFiles(path / "x")
    tracemalloc.start()
    assert files.fault((0, 0)) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 2**20


def test_the_command_says_it_in_words_and_by_its_exit_code(store, capsys):
    assert main(["verify", str(store)]) == 0
    assert capsys.readouterr().out.endswith("0 damaged, 0 missing.\n")
    flip(store / "volume/c/0/0/0", 9000)
    for file in (store / "sinogram/c").glob("*/0/0"):
        file.unlink()
    assert main(["verify", str(store)]) == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "sinogram, angle 0 to 4: missing (sinogram/c/0/0/0)"
    assert last.endswith("1 damaged, 8 missing. ndtomo-dask run RECIPE --resume repairs it.")
    assert main(["verify", str(store.with_name("none.zarr"))]) == 2
    assert "is not a Zarr v3 store: it has no zarr.json." in capsys.readouterr().err


def test_of_many_missing_blocks_the_first_are_listed(tmp_path):
    ds = xr.Dataset({"volume": (("z", "y", "x", "channel"), np.ones((24, 4, 4, 8), "f4"))})
    nd.save(ds.chunk(z=1), tmp_path / "s.zarr")
    shutil.rmtree(tmp_path / "s.zarr/volume/c")
    lines = list(verify_store(tmp_path / "s.zarr").lines())
    assert lines[0] == "volume, z 0 to 0: missing (volume/c/0/0/0/0)"
    assert lines[10:] == ["volume: 14 more missing"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_not_called_damaged(store):
    (store / "q/c/0").chmod(0)
    with pytest.raises(StoreError, match="may not be read by you"):
        verify(store)


def test_a_store_that_cannot_be_recorded_is_verified_all_the_same(store, caplog, monkeypatch):
    flip(store / "volume/c/0/0/0", 9000)
    record_of(store).mkdir()  # in its place, so that it cannot be written
    (record_of(store) / "x").touch()
    assert len(verify(store)) == 1
    assert "out.verify.json cannot be written" in caplog.text


def test_verify_is_public():
    assert nd.verify is verify
    assert Path(nd.__file__).name == "__init__.py"
