# make demo   sets up, restores the sample clip, writes pictures
# make test   sets up, runs all tests
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test matrix fuzz kill-test op-calls lint package docs sanitize cuda gpu pack bench bench-peer clean

demo: $(READY)
	$(BIN)/python test.py --set name=demo

test: $(READY)
	$(BIN)/python -m pytest

# Mutated input of every kind for MINUTES on all cores; a table, and how each fault can be seen again.
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

# N commands ended at random moments, started again, and compared bit for bit with undisturbed runs.
kill-test: $(READY)
	$(BIN)/python -m tests.kill --runs $(or $(N),200) --seed $(or $(SEED),1)

# The quick tests on every Python that is installed here, with the oldest and the newest torch: hours, and gigabytes to download.
matrix:
	$(PYTHON) .ci/matrix.py

# CALLS random calls of the compiled ops under the sanitizers.
op-calls: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" bash .ci/sanitize.sh calls $(or $(CALLS),20000) $(or $(SEED),1)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff davsr tests benchmarks integrations examples train.py test.py setup.py
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.h csrc/*.cpp csrc/*.cu
	$(BIN)/python -m pytest --collect-only --quiet --quiet

# What people install: sdist, wheels, fresh environments away from this folder.
package: $(READY)
	bash .ci/package.sh $(BIN)/python

# The documentation as a site, in site/; the examples of its gallery are run.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[docs]'
	$(BIN)/python examples/gallery.py docs/gallery
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

sanitize: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" bash .ci/sanitize.sh

cuda:
	bash .ci/cuda_compile.sh $(BIN)/python

# On a machine with a CUDA build of torch and nvcc: everything that a GPU is needed for, in one go. With $(PYTHON), as it is.
gpu:
	PYTHON=$(PYTHON) bash .ci/gpu.sh

# Training data to take there: data/pack, at most 55 MB.
pack: $(READY)
	$(BIN)/python .ci/pack.py -opt options/train/prior_clips.yml --out data/pack

bench: $(READY)
	$(BIN)/python -m benchmarks

# torchvision is the peer of the alignment benchmark; its torch is several GB, so it lives in its own environment, with the extension
# built for that torch.
bench-peer: .venv-peer/.ready
	DAVSR_EXTENSION_FOLDER=.venv-peer/built/davsr .venv-peer/bin/python -m benchmarks

.venv-peer/.ready: setup.py csrc/*
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/pip install --quiet --upgrade pip setuptools wheel
	.venv-peer/bin/pip install --quiet torch==2.14.1 torchvision==0.29.1
	.venv-peer/bin/pip install --quiet -r requirements.txt
	PATH="$(CURDIR)/.venv-peer/bin:$$PATH" .venv-peer/bin/python setup.py -q build_ext --build-lib .venv-peer/built --build-temp .venv-peer/objects
	touch $@

# torch goes in first, so that nothing else chooses its build.
$(READY): setup.py pyproject.toml requirements.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("DAVSR needs Python 3.10 or newer, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-peer build site docs/gallery results davsr/*.so *.egg-info
