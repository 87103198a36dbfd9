"""What can come of a pixel, as numbers that say what they mean."""

from enum import IntEnum
from typing import Self


class Outcome(IntEnum):
    """Members are ``NAME = number, "the sentence that explains it"``."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Attach to each number its sentence."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member
