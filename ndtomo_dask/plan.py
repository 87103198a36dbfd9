"""Blocks and bytes, worked out before anything runs.

Integers in, integers out. A plan says how large the blocks of a step are, how many tasks that
makes, what one task holds in memory at its worst moment, and what is read and written. Three words,
after Cubed: ``allowed_mem`` is what one task may hold, ``reserved_mem`` is what a worker holds
while idle, and ``projected_mem`` is what a task of this plan will hold.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from ndtomo_dask.errors import OptionError, PlanError

KB, MB, GB = 10**3, 10**6, 10**9
_UNITS = {"": 1, "B": 1, "KB": KB, "MB": MB, "GB": GB, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip

DEFAULT_ALLOWED_MEM = GB
LARGEST_BLOCK = 128 * MB
"""Beyond this, larger blocks save nothing: a task already takes seconds."""
LEAST_TASKS = 8
"""Enough pieces to keep a few workers busy to the end."""
INNER_CHUNK = MB
"""Bytes of one chunk inside a shard: small enough to hover over, large enough for a disk."""
TILE = 64
"""Edge of the pixel tiles inside a shard of images."""
VECTOR = 16
"""Channels per block are a multiple of this where they can be, to fill the CPU's vectors."""
READ_BUFFERS = 16 * INNER_CHUNK
"""Compressed and decoded inner chunks in flight while a block is read."""
GRAM_ROWS = 2048
"""Pixels per matrix product in the moments of the spectra."""

_HELD = {
    "fbp": (9, 4), "sirt": (14, 9), "os_sirt": (12, 14), "sart": (12, 14), "cgls": (22, 16),
    "mlem": (18, 8), "osem": (8, 14), "tv": (20, 44), "vectorial_tv": (20, 36),
    "nuclear": (20, 48), "project": (4, 4),
}  # fmt: skip
"""Quarters of the sinogram block and of the volume block that each method holds at once: measured.
A quarter is the mask of what is finite."""
_HELD_FOR = {"accelerated": (6, 8), "cutoff": (8, 0), "start": (0, 8), "stop": (5, 0),
             "variance": (12, 28), "weighted": (20, 3)}  # fmt: skip
"""What an option adds to that."""
_WRITING, _WRITING_PROJECTIONS = (4, 12), (8, 4)
"""The same while the result is written, behind corrections whose block may still be held."""


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

    >>> print(table([Plan("save", (("z", 1),), 4, 8 * MB, 0, 0, 0, 32 * MB, GB)]))
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


def human(size: int) -> str:
    """Write a number of bytes as people say it.

    >>> human(1_500_000_000), human(999)
    ('1.5 GB', '999 B')
    """
    for name, unit in (("TB", 1000 * GB), ("GB", GB), ("MB", MB), ("kB", KB)):
        if size >= unit:
            value = size / unit
            return f"{value:.3g} {name}" if value < 999.5 else f"{value:.0f} {name}"
    return f"{size} B"


def parse_bytes(size: int | str) -> int:
    """Read a number of bytes from an integer or from words such as "2GB" or "512 MiB".

    >>> parse_bytes("1.5 GB")
    1500000000
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)\s*", str(size))
    unit = match.group(2).upper() if match else ""
    if match is None or unit not in _UNITS:
        raise OptionError(f"{size!r} is not a size in bytes. Write it as '2GB' or '512MiB'.")
    return int(float(match.group(1)) * _UNITS[unit])


def blocks_of(sizes: Mapping[str, int], block: Mapping[str, int]) -> int:
    """Count the blocks of a grid; dimensions without an entry are whole.

    >>> blocks_of({"y": 10, "channel": 7}, {"channel": 3})
    3
    """
    return prod(ceil(size / block.get(dim, size)) for dim, size in sizes.items())


def even(size: int, largest: int) -> int:
    """Cut ``size`` into as few equal pieces as fit ``largest``; return the piece.

    >>> even(160, 64)
    54
    """
    return ceil(size / ceil(size / max(1, largest)))


def divisor(size: int, wanted: int) -> int:
    """Cut ``size`` into equal pieces without a rest, about ``wanted`` long.

    That is the divisor of ``size`` nearest to ``wanted`` by ratio; a prime has only itself.

    >>> divisor(64, 20), divisor(101, 20)
    (16, 101)
    """
    pieces = _divisors(size)
    return min(pieces, key=lambda piece: max(piece, wanted) / min(piece, wanted))


def _divisors(size: int) -> list[int]:
    return [piece for piece in range(1, size + 1) if size % piece == 0]


def _cut(size: int, largest: int) -> int:
    """Cut a stored block into pieces that fit: without a rest, unless they would be tiny."""
    piece = max(piece for piece in _divisors(size) if piece <= max(1, largest))
    return piece if 2 * piece >= largest else even(size, largest)


def shard_of_projections(sizes: Mapping[str, int], itemsize: int) -> dict[str, int]:
    """Block of a raw sinogram: one frame, some angles, all translations, all channels."""
    row = sizes["translation"] * sizes["channel"] * itemsize
    angles = min(max(1, 64 * MB // row), max(1, ceil(sizes["angle"] / LEAST_TASKS)))
    return {**dict.fromkeys(sizes, 1), "angle": angles, "translation": sizes["translation"],
            "channel": sizes["channel"]}  # fmt: skip


def inner_chunk(block: Mapping[str, int], itemsize: int) -> dict[str, int]:
    """Cut a block where the next reader will cut: projections by channel, images into tiles.

    >>> inner_chunk({"angle": 16, "translation": 256, "channel": 4096}, 4)
    {'angle': 16, 'translation': 256, 'channel': 61}
    >>> inner_chunk({"y": 160, "x": 160, "channel": 64}, 4)
    {'y': 54, 'x': 54, 'channel': 64}
    """
    inner = dict(block)
    if "translation" in block and "channel" in block:
        row = prod(size for dim, size in block.items() if dim != "channel") * itemsize
        inner["channel"] = even(block["channel"], max(1, INNER_CHUNK // row))
    for dim in ("y", "x"):
        if dim in block:
            inner[dim] = even(block[dim], TILE)
    return inner


def image_block(
    sizes: Mapping[str, int],
    itemsize: int,
    *,
    allowed_mem: int,
    multiple: int = VECTOR,
    method: str = "fbp",
    options: Collection[str] = (),
    grid: tuple[int, int] | None = None,
) -> dict[str, int]:
    """Block of whole images: one slice, all of each image, as many channels as fit.

    ``sizes`` are those of a sinogram or of a volume; ``multiple`` is the channel extent of the
    stored chunks, so that none is read twice; ``grid`` is what a sinogram is reconstructed on.
    """
    image, volume = _image_bytes(sizes, itemsize, grid)
    per_channel = _per_channel(image, volume, method, options)
    fit = max(0, allowed_mem - READ_BUFFERS) // per_channel
    largest = min(fit, LARGEST_BLOCK // max(image, volume), ceil(sizes["channel"] / LEAST_TASKS))
    channels = _round_down(max(1, largest), min(multiple, sizes["channel"]), fit)
    lead = {dim: 1 for dim in sizes if dim in ("time", "z")}
    return {**lead, **{dim: sizes[dim] for dim in sizes if dim not in lead}, "channel": channels}


def _image_bytes(
    sizes: Mapping[str, int], itemsize: int, grid: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Bytes of one channel's sinogram and of its image; of an image twice where that is all."""
    if "angle" not in sizes:
        return sizes["y"] * sizes["x"] * itemsize, sizes["y"] * sizes["x"] * itemsize
    width = sizes["translation"]
    return sizes["angle"] * width * itemsize, prod(grid or (width, width)) * itemsize


def _per_channel(image: int, volume: int, method: str, options: Collection[str] = ()) -> int:
    """Bytes that one channel takes when a block is reconstructed, or written if that is more."""
    parts = [_HELD[method], *(_HELD_FOR[name] for name in options if name in _HELD_FOR)]
    images, volumes = map(sum, zip(*parts, strict=True))
    held = image * images + volume * volumes
    images, volumes = _WRITING_PROJECTIONS if method == "project" else _WRITING
    return ceil(max(held, image * images + volume * volumes) / 4)


def _round_down(channels: int, multiple: int, fit: int) -> int:
    rounded = channels // multiple * multiple
    if rounded:
        return rounded
    return multiple if multiple <= fit else channels


def spectra_block(
    sizes: Mapping[str, int], itemsize: int, *, allowed_mem: int, tile: Mapping[str, int]
) -> dict[str, int]:
    """Block of whole spectra: as many stored tiles of pixels as fit, with all their channels."""
    spectrum = sizes["channel"] * itemsize
    budget = min(LARGEST_BLOCK, max(0, allowed_mem - READ_BUFFERS - _gram_bytes(sizes)) // 2)
    pixels = max(1, budget // spectrum)
    pixels = min(pixels, max(tile["y"] * tile["x"], ceil(sizes["y"] * sizes["x"] / LEAST_TASKS)))
    across = min(sizes["x"], max(tile["x"], pixels // tile["y"] // tile["x"] * tile["x"]))
    down = min(sizes["y"], max(tile["y"], pixels // across // tile["y"] * tile["y"]))
    lead = {dim: 1 for dim in sizes if dim in ("time", "z")}
    return {**lead, "y": down, "x": across, "channel": sizes["channel"]}


def _gram_bytes(sizes: Mapping[str, int]) -> int:
    """Bytes of the moments beside the block.

    A slab of rows in both precisions, its product and the sum; or, where the sums of two blocks are
    merged, three of these.
    """
    channels = sizes["channel"]
    return max(12 * channels**2 + 13 * GRAM_ROWS * channels, 24 * channels**2)


def correct(
    step: str,
    sizes: Mapping[str, int],
    block: Mapping[str, int],
    itemsize: int,
    *,
    allowed_mem: int,
) -> Plan:
    """Plan an elementwise correction: the block is as stored, two copies are made on the way."""
    held = prod(block.values()) * itemsize
    total = prod(sizes.values()) * itemsize
    return Plan(step, tuple(block.items()), blocks_of(sizes, block), held, 2 * held, held,
                total, 0, allowed_mem)  # fmt: skip


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
    as many as translations.
    """
    fitting = image_block(
        sizes, itemsize, allowed_mem=allowed_mem, method=method, options=options, grid=grid
    )
    block = dict(fitting if block is None else block)
    image, volume = _image_bytes(sizes, itemsize, grid)
    per_channel = _per_channel(image, volume, method, options)
    if per_channel * _channels(block) + READ_BUFFERS > allowed_mem:
        block |= {dim: 1 for dim in block if dim in ("time", "z")}
    if per_channel * _channels(block) + READ_BUFFERS > allowed_mem:
        block["channel"] = _cut(block["channel"], fitting["channel"])
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


def _channels(block: Mapping[str, int]) -> int:
    """Count the channels of all slices and frames of a block."""
    return prod(block.get(dim, 1) for dim in ("time", "z", "channel"))


def find_components(
    sizes: Mapping[str, int], itemsize: int, *, components: int, passes: int, allowed_mem: int,
    block: Mapping[str, int], step: str = "find_components",
) -> Plan:  # fmt: skip
    """Plan the moments of the spectra: whole spectra of some pixels, and their Gram matrix."""
    held = prod(block.values()) * itemsize
    total = prod(sizes.values()) * itemsize
    scores = prod(block.values()) // sizes["channel"] * max(2 * components, components + 8) * 8
    plan = Plan(step, tuple(block.items()), blocks_of(sizes, block) * passes,
                held, _gram_bytes(sizes) + READ_BUFFERS, scores,
                total * passes, 0, allowed_mem)  # fmt: skip
    return plan.checked(
        f"The channels' Gram matrix alone takes {human(_gram_bytes(sizes))}: give the workers more "
        f"memory, or select fewer channels."
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
    return replace(made, output_mem=0, read_bytes=0, written_bytes=made.read_bytes)
