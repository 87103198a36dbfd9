"""Every correction takes back what it should of the defect it is for."""

import pytest

from benchmarks.corrections import BAR, CASES, Row, measure, table
from benchmarks.corrections_page import page

SMALL = {"size": 96, "angles": 144, "channels": 80, "grains": 40}
SLACK = 0.08
"""Of the share taken back: the scan of the test is smaller than that of the page."""


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_correction_takes_back_its_share(case):
    row = measure(case, **SMALL)
    assert row.spoilt > 1.5 * row.floor, "the defect does not show"
    assert row.share > case.bar - SLACK


def test_what_takes_back_less_says_why():
    assert all(bool(case.why) == (case.bar < BAR) for case in CASES)


def test_the_page_has_a_row_for_each_case():
    rows = [Row(case, 0.1, 1.0, 0.2) for case in CASES]
    assert table(rows).count("\n") == len(CASES) + 1
    assert all(case.name in page(rows) for case in CASES)
    assert rows[0].share == pytest.approx(0.8 / 0.9)
