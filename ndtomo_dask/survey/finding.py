"""What a survey found: an answer to one question, with its evidence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["fine", "look", "alarm", "open"]
"""``look``: worth a glance; ``alarm``: a defect to be mended; ``open``: the data do not tell."""
UNDETERMINED = "undetermined"
MARKS = {"fine": " ", "look": "·", "alarm": "!", "open": "?"}
WORDS = {"alarm": "to be mended", "look": "worth a look", "open": "undetermined", "fine": "fine"}


@dataclass(frozen=True)
class Finding:
    """An answer to one question about a scan."""

    question: str
    answer: str
    evidence: str
    """In words, with its figure."""
    level: Level = "fine"
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The finding as a line for the terminal."""
        return f"{MARKS[self.level]} {self.question:<22} {self.answer}\n{'':25}{self.evidence}"


def undetermined(question: str, evidence: str, **figures: float) -> Finding:
    """Return the finding that the data do not tell."""
    return Finding(question, UNDETERMINED, evidence, "open", figures)


def some(indices: Iterable[float], *, shown: int = 5) -> str:
    """List a few numbers, and how many more there are.

    >>> some(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    numbers = [f"{number:g}" for number in indices]
    more = len(numbers) - shown
    return ", ".join(numbers[:shown]) + (f" and {more} more" if more > 0 else "")
