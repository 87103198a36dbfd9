import pytest

from benchmarks import methods


@pytest.fixture(scope="module")
def data():
    return methods.make_data(24, 16, 3, noise=0.02)


def test_every_method_has_a_row(data):
    header, rule, *rows = methods.compare(data, steps=10, rounds=1)
    assert header.count("|") == rule.count("|") == 7
    assert [row.split("`")[1] for row in rows] == list(methods.contestants(data))
    plain = next(row for row in rows if row.startswith("| `sirt` |"))
    assert "| 1.0 | 10 | 1.00 |" in plain  # the unit of the others


def test_errors_are_those_of_each_step(data):
    curve = methods.errors(methods.solvers.sirt, data, 5)
    assert len(curve) == 6
    assert curve[0] == pytest.approx(1)  # of a volume of zeros
    assert curve == sorted(curve, reverse=True)
