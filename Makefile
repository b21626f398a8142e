PYTHON ?= python3
VENV := .venv
DATA ?= ../shared/data
CLUSTER := .venv-cluster
UV := .venv-uv/bin/uv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(BIN)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV), some minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(BIN)/.installed  ## a virtual environment in .venv with all that development needs

demo: $(BIN)/.installed  ## build the saliency store of the sample images; draw demo/sheet.png and demo/report.html
	@mkdir -p demo
	$(BIN)/augcache build-saliency samples --store demo/samples.augcache
	$(BIN)/augcache preview demo/samples.augcache --source samples -o demo/sheet.png
	$(BIN)/augcache report demo/samples.augcache --source samples -o demo/report.html

test: $(BIN)/.installed lint types  ## lint, types and tests
	$(BIN)/python -m pytest -n 2

test-slow: $(BIN)/.installed  ## the tests that take ten seconds or more
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(BIN)/.installed  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/.installed  ## mypy
	$(BIN)/mypy

golden: $(BIN)/.installed  ## write the golden digests and the command reference anew; look at the difference
	$(BIN)/python -m pytest --write-golden tests/transforms/test_transforms.py tests/test_readme.py -k "version or reference"

test-pipelines: $(BIN)/.installed  ## install the extra `train`, and run every pipeline on a small sample
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,train]'
	$(BIN)/python -m pytest tests/pipelines tests/training/test_policies.py --durations 0

$(CLUSTER)/.installed: pyproject.toml constraints.txt constraints-cluster.txt
	test -x $(CLUSTER)/bin/python || $(PYTHON) -m venv $(CLUSTER)
	$(CLUSTER)/bin/python -m pip install --quiet --upgrade pip
	$(CLUSTER)/bin/python -m pip install --quiet --constraint constraints-cluster.txt \
		--editable '.[dev,dask,ray,s3]' 'moto[server]'
	touch $@

test-cluster: $(CLUSTER)/.installed  ## Dask, Ray and an S3 server for real, in an environment of their own, .venv-cluster
	$(CLUSTER)/bin/python -m pytest tests/building/test_cluster*.py --durations 5

$(UV):
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet uv

# The tests in an environment that is made anew: $(1) is its name, $(2) the version of Python, $(3) what uv prefers.
# Wheels alone, so that the lowest versions are those that install on that Python without a compiler; a Python of pyenv's
# is found although it is not the one that pyenv has been told to use.
define tests_in
	PYENV_VERSION=$$(pyenv latest $(2) 2>/dev/null) $(UV) venv --quiet --clear --seed --no-project --python $(2) .venv-$(1)
	$(UV) pip install --quiet --compile-bytecode --python .venv-$(1) --only-binary :all: --resolution $(3) --requirements pyproject.toml --extra dev
	$(UV) pip install --quiet --python .venv-$(1) --no-deps --editable .
	$(UV) pip freeze --python .venv-$(1) | paste -sd ' '
	.venv-$(1)/bin/python -m pytest -n 2
endef

test-newest-%: $(UV)  ## test-newest-3.13: the tests on Python 3.13 and the newest version of everything; some GB
	$(call tests_in,newest-$*,$*,highest)

test-lowest-%: $(UV)  ## test-lowest-3.11: the tests on Python 3.11 and the lowest versions that pyproject.toml allows
	$(call tests_in,lowest-$*,$*,lowest-direct)

test-package: $(BIN)/.installed  ## build wheel and sdist, and install them in an empty environment; a part of `test`
	$(BIN)/python -m pytest tests/test_package.py

bench: $(BIN)/.installed  ## the benchmarks of the README on the folder DATA, one after the other; hours
	$(BIN)/python benchmarks/saliency_speed.py $(DATA)
	$(BIN)/python benchmarks/saliency_quality.py $(DATA)
	$(BIN)/python benchmarks/lookup.py $(DATA)/saliency
	$(BIN)/python benchmarks/loader.py $(DATA)/saliency
	$(BIN)/python benchmarks/map_encodings.py
	$(BIN)/python benchmarks/store_scale.py
	$(BIN)/python benchmarks/resize.py $(DATA)
	$(BIN)/python benchmarks/loading.py $(DATA)
	$(BIN)/python benchmarks/frames.py $(DATA)
	$(BIN)/python benchmarks/policies.py $(DATA)
	$(BIN)/python benchmarks/training_cost.py $(DATA)
	$(BIN)/python benchmarks/scaling.py $(DATA)/saliency

hooks: $(BIN)/.installed  ## run lint and types before every commit, by pre-commit
	$(BIN)/python -m pip install --quiet pre-commit
	$(BIN)/pre-commit install

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(CLUSTER) .venv-uv .venv-newest-* .venv-lowest-* demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help install demo test test-slow lint types golden test-pipelines test-cluster test-package bench hooks clean
