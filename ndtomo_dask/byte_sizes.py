"""Numbers of bytes, as programs count them and as people write them."""

import re

from ndtomo_dask.errors import OptionError

KB, MB, GB = 10**3, 10**6, 10**9
_UNITS = {"": 1, "B": 1, "KB": KB, "MB": MB, "GB": GB, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


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
