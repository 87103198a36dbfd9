"""Refuse source files that have grown past the ceiling: they are two files by now."""

import subprocess
import sys
from pathlib import Path

CEILING = 400


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    lengths = {
        name: len(Path(name).read_text().splitlines()) for name in listed if Path(name).exists()
    }
    too_long = {name: length for name, length in lengths.items() if length > CEILING}
    for name, length in too_long.items():
        print(f"{name} has {length} lines; the ceiling is {CEILING}.", file=sys.stderr)
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
