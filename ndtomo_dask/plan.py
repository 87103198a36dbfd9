"""Blocks and bytes, worked out before anything runs.

Integers in, integers out. A plan says how large the blocks of a step are, how many tasks that
makes, what one task holds in memory at its worst moment, and what is read and written. Three words,
after Cubed: ``allowed_mem`` is what one task may hold, ``reserved_mem`` is what a worker holds
while idle, and ``projected_mem`` is what a task of this plan will hold.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from ndtomo_dask.block_sizes import (
    READ_BUFFERS,
    basis_rank,
    blocks_of,
    bytes_per_channel,
    cut_to_fit,
    gram_bytes,
    image_block,
    image_bytes,
    sketch_bytes,
)
from ndtomo_dask.byte_sizes import GB, human
from ndtomo_dask.errors import PlanError

DEFAULT_ALLOWED_MEM = GB
MOVING = ("crop", "pad")
"""Corrections that leave numbers as they are."""
FLOAT = 4
"""Bytes of a number that is computed, at least."""


@dataclass(frozen=True)
class Plan:
    """What one step will cost."""

    step: str
    block: tuple[tuple[str, int], ...]
    """Extent of one block along each dimension."""
    tasks: int
    input_mem: int
    """Bytes of one input block."""
    scratch_mem: int
    """Bytes that a task holds besides its input and its output, at most."""
    output_mem: int
    """Bytes of one output block."""
    read_bytes: int
    written_bytes: int
    allowed_mem: int

    @property
    def projected_mem(self) -> int:
        """Bytes that one task will hold at its worst moment."""
        return self.input_mem + self.scratch_mem + self.output_mem

    def checked(self, hint: str = "") -> "Plan":
        """Return the plan, or refuse it if a task would not fit."""
        if self.projected_mem > self.allowed_mem:
            enough = human(self.projected_mem * 21 // 20)
            raise PlanError(
                f"{self.step} would hold {human(self.projected_mem)} in one task, but "
                f"allowed_mem is {human(self.allowed_mem)}. "
                f"{hint or f'Pass allowed_mem={enough!r} or more.'}"
            )
        return self

    def row(self) -> tuple[str, ...]:
        """Give the figures of the plan as `HEAD` names them."""
        block = " × ".join(f"{size} {dim}" for dim, size in self.block)
        sizes = (self.projected_mem, self.read_bytes, self.written_bytes)
        return (self.step, str(self.tasks), *map(human, sizes), block)

    def __str__(self) -> str:
        block = " × ".join(f"{size} {dim}" for dim, size in self.block)
        return (
            f"{self.step}: {self.tasks} tasks of {block}; {human(self.projected_mem)} each "
            f"(input {human(self.input_mem)}, scratch {human(self.scratch_mem)}, output "
            f"{human(self.output_mem)}) of {human(self.allowed_mem)} allowed; reads "
            f"{human(self.read_bytes)}, writes {human(self.written_bytes)}"
        )


HEAD = ("step", "tasks", "a task holds", "reads", "writes", "block")


def table(plans: Sequence[Plan]) -> str:
    """Write plans below one another, a line each, and what a task may hold.

    >>> print(table([Plan("save", (("z", 1),), 4, 8_000_000, 0, 0, 0, 32_000_000, GB)]))
    step  tasks  a task holds  reads  writes  block
    save      4          8 MB    0 B   32 MB  1 z
    A task may hold 1 GB.
    """
    rows = [HEAD, *(made.row() for made in plans)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    figures = "".join(f"  {{:>{width}}}" for width in widths[1:-1])
    form = f"{{:<{widths[0]}}}{figures}  {{}}"
    lines = [form.format(*row) for row in rows]
    return "\n".join([*lines, f"A task may hold {human(max(made.allowed_mem for made in plans))}."])


def correct(
    step: str,
    sizes: Mapping[str, int],
    block: Mapping[str, int],
    itemsize: int,
    *,
    allowed_mem: int,
) -> Plan:
    """Plan an elementwise correction: the block is as stored, two copies are made on the way.

    Counts of fewer bytes become floating point, unless they are only moved.
    """
    samples = prod(block.values())
    kept = itemsize if step in MOVING else max(itemsize, FLOAT)
    held, made = samples * itemsize, samples * kept
    total = prod(sizes.values()) * itemsize
    return Plan(step, tuple(block.items()), blocks_of(sizes, block), held, 2 * made, made,
                total, 0, allowed_mem)  # fmt: skip


@dataclass(frozen=True)
class FrameCost:
    """What a task holds while it integrates one frame after the other, whatever its block."""

    pixels: int
    itemsize: int
    together: int
    """Frames that share a chunk of their file, and are read together."""
    table_bytes: int
    """The worker's look-up table."""
    building_bytes: int
    """Held beside the table while it is built."""
    sorting_bytes: int = 0
    """Copies of the table's entries that are sorted."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame as it is stored, without compression."""
        return self.pixels * self.itemsize

    @property
    def integrating_bytes(self) -> int:
        """Bytes beside the table: the frames of one chunk twice, as they lie and as an array.

        The same of one frame more, which is the last one or its copies in single precision; and the
        integrator's buffer of four numbers per pixel.
        """
        last = max(2 * self.frame_bytes, self.pixels * 8)
        return 2 * self.together * self.frame_bytes + last + self.pixels * 16 + self.sorting_bytes


def channel_groups(
    step: str, sizes: Mapping[str, int], block: Mapping[str, int], itemsize: int, groups: int, *,
    allowed_mem: int,
) -> Plan:  # fmt: skip
    """Plan sums over groups of channels: a block, its copy without what is masked, and marks."""
    samples = prod(block.values())
    sums = 12 * samples * groups // sizes["channel"]
    total = prod(sizes.values()) * itemsize
    return Plan(step, tuple(block.items()), blocks_of(sizes, block), samples * itemsize,
                samples * (max(itemsize, FLOAT) + 1), sums, total, 0, allowed_mem)  # fmt: skip


def translation_gains(
    sizes: Mapping[str, int], groups: int, components: int, *, allowed_mem: int
) -> Plan:
    """Plan the gains of translations: a task has one slice, summed to groups of channels.

    It turns the groups into components in double precision; then it holds some ten copies of the
    components' sinograms and images, and Fourier transforms of padded images, in single precision.
    """
    groups = sizes["channel"] // max(1, sizes["channel"] // groups)
    rays = sizes["angle"] * sizes["translation"]
    mixing = rays * groups * 3 * 8
    solving = components * 4 * (8 * rays + 24 * sizes["translation"] ** 2)
    slices = prod(size for dim, size in sizes.items() if dim in ("time", "z"))
    block = (("angle", sizes["angle"]), ("translation", sizes["translation"]), ("channel", groups))
    return Plan("find_translation_scale", block, slices, rays * groups * 4, max(mixing, solving),
                rays * 8, 0, slices * rays * 8, allowed_mem)  # fmt: skip


def integrate(
    sizes: Mapping[str, int], block: Mapping[str, int], itemsize: int, *,
    cost: FrameCost, allowed_mem: int,
) -> Plan:  # fmt: skip
    """Plan the integration of frames, which are read and added one after the other.

    The first task of a worker builds its look-up table; all hold the table, a frame and its copies,
    and the sums of their block in double precision.
    """
    patterns = prod(block.values()) * 2
    held = max(cost.building_bytes, cost.integrating_bytes)
    frames = prod(size for dim, size in sizes.items() if dim != "channel")
    plan = Plan("integrate", tuple(block.items()), blocks_of(sizes, block), held,
                cost.table_bytes + patterns * 16, patterns * itemsize,
                frames * cost.frame_bytes, frames * sizes["channel"] * 2 * itemsize,
                allowed_mem)  # fmt: skip
    return plan.checked()


def reconstruct(
    sizes: Mapping[str, int],
    itemsize: int,
    *,
    method: str,
    allowed_mem: int,
    options: Collection[str] = (),
    block: Mapping[str, int] | None = None,
    grid: tuple[int, int] | None = None,
) -> Plan:
    """Plan a reconstruction: a block is all angles and translations of some channels.

    ``block`` gives the blocks as they are stored; one that would not fit is cut along the channels.
    ``options`` are the names of those given; ``grid`` is the number of rows and columns, by default
    as many as translations. Counts of fewer bytes become floating point.
    """
    itemsize = max(itemsize, FLOAT)
    fitting = image_block(
        sizes, itemsize, allowed_mem=allowed_mem, method=method, options=options, grid=grid
    )
    block = dict(fitting if block is None else block)
    image, volume = image_bytes(sizes, itemsize, grid)
    per_channel = bytes_per_channel(image, volume, method, options)
    if per_channel * _channels(block) + READ_BUFFERS > allowed_mem:
        block |= {dim: 1 for dim in block if dim in ("time", "z")}
    if per_channel * _channels(block) + READ_BUFFERS > allowed_mem:
        block["channel"] = cut_to_fit(block["channel"], fitting["channel"])
    channels = _channels(block)
    frames = prod(sizes.get(dim, 1) for dim in ("time", "z")) * sizes["channel"]
    scratch = (per_channel - image - volume) * channels + READ_BUFFERS
    plan = Plan(f"reconstruct ({method})", tuple(block.items()), blocks_of(sizes, block),
                image * channels, scratch, volume * channels,
                frames * image, frames * volume, allowed_mem)  # fmt: skip
    return plan.checked()


def project(
    sizes: Mapping[str, int], rays: Mapping[str, int], itemsize: int, *, allowed_mem: int,
    block: Mapping[str, int] | None = None,
) -> Plan:  # fmt: skip
    """Plan a projection: a block is whole images of some channels; ``rays`` are its results'."""
    scan, grid = {**sizes, **rays}, (sizes["y"], sizes["x"])
    back = reconstruct(
        scan, itemsize, method="project", allowed_mem=allowed_mem, block=block, grid=grid
    )
    kept = tuple((dim, size) for dim, size in back.block if dim not in rays)
    return replace(back, step="project", block=kept,
                   input_mem=back.output_mem, output_mem=back.input_mem,
                   read_bytes=back.written_bytes, written_bytes=back.read_bytes)  # fmt: skip


def self_absorption(
    sizes: Mapping[str, int], itemsize: int, *, allowed_mem: int, block: Mapping[str, int],
    grid: tuple[int, int],
) -> Plan:  # fmt: skip
    """Plan a correction that finds an image of each channel on the way, and hands it back."""
    found = reconstruct(
        sizes, max(itemsize, FLOAT), method="self_absorption", allowed_mem=allowed_mem,
        block=block, grid=grid,
    )  # fmt: skip
    scratch = found.projected_mem - 2 * found.input_mem
    return replace(found, step="self_absorption_correction", scratch_mem=scratch,
                   output_mem=found.input_mem, written_bytes=0)  # fmt: skip


def resample(
    step: str, sizes: Mapping[str, int], pixels: tuple[int, int], itemsize: int, *,
    allowed_mem: int,
) -> Plan:  # fmt: skip
    """Plan images of ``sizes`` sampled anew, from and at so many ``pixels``.

    Beside both blocks a task holds one image in float64, padded and filtered, and eight numbers for
    the place of each new pixel.
    """
    before, after = pixels
    block = image_block(sizes, itemsize, allowed_mem=allowed_mem)
    images = _channels(block)
    frames = prod(sizes.get(dim, 1) for dim in ("time", "z")) * sizes["channel"]
    held = 2 * before * itemsize * images
    return Plan(step, tuple(block.items()), blocks_of(sizes, block), held,
                before * 24 + after * 64 + READ_BUFFERS, 2 * after * itemsize * images,
                frames * before * itemsize, frames * after * itemsize, allowed_mem
                ).checked()  # fmt: skip


def _channels(block: Mapping[str, int]) -> int:
    """Count the channels of all slices and frames of a block."""
    return prod(block.get(dim, 1) for dim in ("time", "z", "channel"))


def find_components(
    sizes: Mapping[str, int], itemsize: int, *, components: int, passes: int, allowed_mem: int,
    block: Mapping[str, int], step: str = "find_components", products: bool = True,
) -> Plan:  # fmt: skip
    """Plan the moments of the spectra: whole spectra of some pixels, and their Gram matrix.

    Without ``products`` of all channels, those with a few directions.
    """
    held = prod(block.values()) * itemsize
    total = prod(sizes.values()) * itemsize
    scores = prod(block.values()) // sizes["channel"] * basis_rank(components) * 8
    beside = gram_bytes(sizes) if products else sketch_bytes(sizes, components)
    plan = Plan(step, tuple(block.items()), blocks_of(sizes, block) * passes,
                held, beside + READ_BUFFERS, scores,
                total * passes, 0, allowed_mem)  # fmt: skip
    if not products:
        return plan.checked("Reopen the store with layout='spectra' and this allowed_mem.")
    way = ", or pass solver='randomized'" if step in ("find_components", "find_clusters") else ""
    return plan.checked(
        f"The channels' Gram matrix alone takes {human(beside)}: give the workers more memory, "
        f"select fewer channels{way}."
    )


def per_pixel(
    step: str, sizes: Mapping[str, int], itemsize: int, *, channels: int, values: int,
    allowed_mem: int, block: Mapping[str, int], slab: int | None = None,
) -> Plan:  # fmt: skip
    """Plan a map made pixel by pixel: whole spectra in, ``values`` numbers per pixel out.

    ``channels`` are copied, of ``slab`` pixels at a time; of all of a block's without one.
    """
    pixels = prod(size for dim, size in block.items() if dim != "channel")
    everywhere = prod(size for dim, size in sizes.items() if dim != "channel")
    held = pixels * sizes["channel"] * itemsize
    scratch = min(pixels, slab or pixels) * channels * (itemsize + 8) + READ_BUFFERS
    plan = Plan(step, tuple(block.items()), blocks_of(sizes, block), held, scratch,
                pixels * values * 8, everywhere * sizes["channel"] * itemsize,
                everywhere * values * itemsize, allowed_mem)  # fmt: skip
    return plan.checked("Reopen the store with layout='spectra' and this allowed_mem.")


def save(
    step: str,
    sizes: Mapping[str, int],
    block: Mapping[str, int],
    itemsize: int,
    *,
    allowed_mem: int,
) -> Plan:
    """Plan the writing of blocks as shards: the block, its padded copy and its encoded bytes."""
    made = correct(step, sizes, block, itemsize, allowed_mem=allowed_mem)
    return replace(made, scratch_mem=2 * made.input_mem, output_mem=0, read_bytes=0,
                   written_bytes=made.read_bytes)  # fmt: skip
