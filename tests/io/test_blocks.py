"""Blocks: those of a slice go together, shares cover all, and help wherever it is needed."""

import multiprocessing
import re

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from ndtomo_dask.computing import compute_here, computing_with
from ndtomo_dask.errors import OptionError
from ndtomo_dask.io import blocks
from ndtomo_dask.io.blocks import Block, Share, in_order
from ndtomo_dask.io.store import save
from tests.recipe_cases import hashes


def volume(slices=3, channels=12):
    values = np.random.default_rng(5).random((slices, 4, 4, channels), dtype=np.float32)
    array = xr.DataArray(
        da.from_array(values, chunks=(1, 4, 4, 3)), dims=("z", "y", "x", "channel"), name="volume"
    )
    counts = xr.DataArray(
        da.from_array(values[:, 0, 0].astype(int), chunks=(1, 3)), dims=("z", "channel")
    )
    return xr.Dataset({"volume": array, "missing_samples": counts})


def test_blocks_of_one_slice_stand_together_and_those_of_one_place_side_by_side():
    ordered = in_order({str(name): array for name, array in volume(slices=2).items()})
    assert [block.place[0] for block in ordered] == [0] * 8 + [1] * 8
    assert [block.place[-1] for block in ordered] == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    assert len(set(ordered)) == len(ordered) == 16


@pytest.mark.parametrize("of", [1, 2, 3, 7, 30])
def test_shares_cover_all_blocks_once(of):
    every = [Block("volume", (number,)) for number in range(17)]
    own = [Share(number, of).own(every) for number in range(1, of + 1)]
    assert [block for part in own for block in part] == every
    assert max(map(len, own)) - min(map(len, own)) <= 1
    for number in range(1, of + 1):
        share = Share(number, of)
        assert sorted([*share.own(every), *share.others(every)]) == every


@pytest.mark.parametrize("words", ["", "3", "0/4", "5/4", "1/0", "a/b", "-1/3", "1/2/3"])
def test_a_share_that_is_none_is_refused(words):
    with pytest.raises(OptionError, match=re.escape(f"share {words!r} is not known: write the")):
        Share.parse(words)


def batches_of(ds, path, **options):
    """Save, and tell the keys of each batch that was computed."""
    seen = []

    def compute(batches, total, description):
        def watched():
            for batch in batches:
                seen.append(batch.keys)
                yield batch

        return compute_here(watched(), total, description)

    with computing_with(compute):
        save(ds, path, **options)
    return seen


def test_whole_slices_go_together_and_large_ones_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_BATCH", 10)
    seen = batches_of(volume(slices=5), tmp_path / "a.zarr")
    assert [len(keys) for keys in seen] == [16, 16, 8]
    assert {key[1] for key in seen[0]} == {0, 1}
    monkeypatch.setattr(blocks, "_LARGEST_BATCH", 6)
    seen = batches_of(volume(slices=2), tmp_path / "b.zarr")
    assert max(map(len, seen)) == 6
    assert sum(map(len, seen)) == 16
    xr.testing.assert_identical(
        xr.open_zarr(tmp_path / "b.zarr", consolidated=False).volume.load().drop_attrs(),
        volume(slices=2).volume.load(),
    )


def test_one_share_alone_does_everything_its_own_first(tmp_path):
    save(volume(), tmp_path / "whole.zarr")
    share = Share(2, 3)
    seen = batches_of(volume(), tmp_path / "shared.zarr", share=share)
    assert hashes(tmp_path / "shared.zarr") == hashes(tmp_path / "whole.zarr")
    assert {key[1] for key in seen[0]} == {1}
    assert sum(map(len, seen)) == 3 * 8


def test_a_share_leaves_what_others_have_done(tmp_path):
    save(volume(), tmp_path / "shared.zarr")
    lost = tmp_path / "shared.zarr/volume/c/2/0/0/1"
    lost.unlink()
    seen = batches_of(volume(), tmp_path / "shared.zarr", share=Share(1, 3))
    assert [key[1:] for keys in seen for key in keys] == [(2, 0, 0, 1)]


def save_share(path, number, of, barrier):
    barrier.wait()
    with dask.config.set(scheduler="threads"):
        save(volume(slices=12), path, share=Share(number, of))


def test_processes_that_start_at_once_write_one_store(tmp_path):
    """Template, axes and blocks: whoever comes first, the bits are those of one process."""
    save(volume(slices=12), tmp_path / "whole.zarr")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=save_share, args=(tmp_path / "shared.zarr", number, 3, barrier))
        for number in (1, 2, 3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert hashes(tmp_path / "shared.zarr") == hashes(tmp_path / "whole.zarr")
