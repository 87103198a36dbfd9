"""What a survey shows: a list in the terminal, a table in notebooks."""

from xml.etree import ElementTree as ET

import pytest

import ndtomo_dask as nd
from ndtomo_dask.errors import OptionError
from ndtomo_dask.survey.finding import MARKS
from tests.io.files import write_hdf5


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("survey") / "a <b> & c.h5"
    scan = nd.simulate_scan(size=24, angles=30, channels=20, grains=8, jitter=0, seed=4).load()
    scan.sinogram[1::2] = scan.sinogram.values[1::2, ::-1]
    write_hdf5(path, raw__counts=scan.sinogram.values, raw__rot=scan.angle.values,
               raw__two_theta=scan.tth.values)  # fmt: skip
    return nd.survey_scan(path)


def test_a_notebook_shows_every_finding_and_the_recipe(found):
    page = ET.fromstring(found._repr_html_())
    rows = [[cell.text or "" for cell in row] for row in page.iterfind("table/tbody/tr")]
    assert rows == [[MARKS[f.level], f.question, f.answer, f.evidence] for f in found.findings]
    assert page.findtext("p/b") == found.path
    assert page.findtext("details/pre") == found.recipe
    assert f"{len(found.alarms)} to be mended" in "".join(page.find("p").itertext())
    alarm = next(row for row in page.iterfind("table/tbody/tr") if row[1].text == "zigzag")
    assert alarm.get("title") == "to be mended"


def test_a_page_without_recipe_has_none(tmp_path, rng):
    path = write_hdf5(tmp_path / "scan.h5", raw__counts=rng.random((24, 24)) + 5)
    assert ET.fromstring(nd.survey_scan(path)._repr_html_()).find("details") is None


def test_the_list_has_a_legend(found):
    assert repr(found) == str(found)
    assert str(found).endswith("! to be mended   · worth a look   ? undetermined")


def test_a_question_that_is_not_asked_is_named(found):
    with pytest.raises(OptionError, match=r"does not ask 'rotation centre'.*'rotation center'"):
        found["rotation centre"]
