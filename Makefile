# Everything a newcomer needs; `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOOPS  := $(VENV)/.compiled

# Every process would compile the program again, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo annotate test check audit clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) $(LOOPS) ## create .venv with everything installed, and compile the generator's loops
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	$(BIN)/pip install --quiet --no-deps lvis==0.5.3  # it asks for opencv-python, over which opencv-python-headless breaks
	touch $(STAMP)

# Machine code of other loops would never be taken for theirs; it goes, or it would pile up.
$(LOOPS): $(STAMP) $(wildcard sam_core/llvm_*.py sam_core/machine_code.py $(addprefix sam_core/,masks/*.py model/*.py scenes/*.py))
	find sam_core -name '*.nb[ic]' -delete
	$(BIN)/python -m sam_core.compile_ahead
	touch $(LOOPS)

demo: setup ## masks for real photographs, a summary by SQL, report.html
	$(BIN)/sam-engine generate samples demo
	$(BIN)/sam-engine sql demo "SELECT * FROM summary"
	$(BIN)/sam-engine report demo --out report.html

annotate: demo ## the annotation app on the demo data set
	$(BIN)/sam-engine embed demo
	$(BIN)/sam-engine annotate demo

test: setup ## every test
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

check: setup audit ## ruff, strict mypy and the audit below
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: setup ## dependencies against the list of known holes; skipped, and said so, where that cannot be reached
	$(BIN)/python -m tests.audit

clean: ## remove what the commands above made
	rm -rf $(VENV) demo report.html
