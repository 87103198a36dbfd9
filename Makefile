# make demo    install, simulate a scan, run the main job on it, write demo/report.html
# make test    install, run the tests
# make check   install, run every check of style, types and architecture
# make format  rewrite the code in the house's format

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check format clean

demo: $(VENV)/user
	$(BIN)/ndtomo-dask demo demo

test: $(VENV)/developer
	$(BIN)/python -m pytest

check: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python tests/check_file_sizes.py

format: $(VENV)/developer
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo

$(VENV)/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/user: pyproject.toml | $(VENV)/pip
	$(BIN)/python -m pip install --quiet --editable '.[plot,fast]'
	touch $@

$(VENV)/developer: pyproject.toml | $(VENV)/pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/user
