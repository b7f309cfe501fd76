# Two commands do everything on a machine with Python 3.11: `make demo` and `make test`. Both make .venv first.
# `make quick` is for every day: no test of over a second or so, no ComfyUI.

SHELL := /bin/bash
# The first Python that really runs: version managers leave stand-ins on the path that do not.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
DEMO ?= demo.mp4
SPEECH := samples/speech.wav
COMFYUI_DIR ?= $(HOME)/ComfyUI
COMFYUI_PYTHON ?= $(firstword $(wildcard $(COMFYUI_DIR)/venv/bin/python $(COMFYUI_DIR)/.venv/bin/python) python3)
# Two workers keep two cores busy; with a ComfyUI a third one waits for its server, which works in a process of its own.
WORKERS ?= $(if $(wildcard $(COMFYUI_DIR)/main.py),3,2)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
# Bytecode is kept, whatever the environment says: else every worker rewrites the tests' assertions in every run (8 s).
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt

.PHONY: help venv demo test quick cluster lint comfy-requirements clean

help:
	@echo "make demo                a talking video from an embedded sample, written to $(DEMO)"
	@echo "make test                the whole test suite; ARGS='-k mouth -x' picks tests, WORKERS=0 runs in one process"
	@echo "make quick               the tests that take less than a second or so and no ComfyUI"
	@echo "make cluster             takes machines from a real cluster of Ray in network namespaces (root, four minutes)"
	@echo "make lint                ruff's check of style and formatting"
	@echo "make comfy-requirements  installs requirements.txt into ComfyUI's Python (COMFYUI_PYTHON=...)"
	@echo "make clean               removes .venv and what was made"

venv: $(STAMP)

# torch comes first and alone: whatever else wants torch then finds this one in place.
$(STAMP): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python found; install Python 3.11 or say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) -V): mediapipe 0.10.21 needs 3.11 or 3.12; say make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv (a few minutes, once)"; $(PYTHON) -m venv .venv; }
	@$(PIP) setuptools torch
	@$(PIP) --no-build-isolation -e ".[mediapipe,dev]"
	@touch $@

demo: $(STAMP)
	@portrait="$$($(BIN)/python -c 'import pathlib, skimage; print(pathlib.Path(skimage.__file__).parent / "data/astronaut.png")')" && \
	  $(BIN)/python -m portraittalk_core talk --portrait "$$portrait" --speech $(SPEECH) --out "$(CURDIR)/$(DEMO)"

test: $(STAMP)
	$(PYTEST) $(ARGS)

quick: WORKERS = 2
quick: $(STAMP)
	$(PYTEST) -m "not slow and not comfy" $(ARGS)

cluster: $(STAMP)
	$(BIN)/python -m pytest -n 0 --cluster tests/core/batch/test_lost_node.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

comfy-requirements:
	$(COMFYUI_PYTHON) -m pip install -r requirements.txt

clean:
	rm -rf .venv demo.mp4 *.egg-info .pytest_cache .ruff_cache
