# make demo: installs bixt3d, trains and evaluates a small model, and writes a report with pictures
# make test: installs what the tests need, then runs lint and tests; nothing is compiled
# make test-cluster: builds torch-cluster, an optional backend, and runs its tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --disable-pip-version-check -q
ROOT := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && echo yes)
# Open3D opens windows with libusb, libgl, libegl, libgomp, and draws without a display with vulkan; torch's compiler and
# torch-cluster need g++ and Python's headers
SYSTEM := libusb-1.0-0 libgl1 libegl1 libgomp1 libvulkan1 mesa-vulkan-drivers g++ python3-dev

.PHONY: demo setup test test-cluster check test-gpu bench clean
.DELETE_ON_ERROR:

# an interrupted demo resumes, and a finished one is kept
demo: $(VENV)/core.done
	@if [ -f runs/demo/result.json ]; then echo "runs/demo is trained already: rm -r runs/demo for a new one"; \
	elif [ -f runs/demo/run.json ]; then $(BIN)/bixt3d train cls --resume runs/demo; \
	else $(BIN)/bixt3d train cls --cfg shapes_cls --run_dir runs/demo; fi
	$(BIN)/bixt3d test cls --checkpoint runs/demo
	@echo "The report is $(CURDIR)/runs/demo/report.html: open it in a browser."

setup: $(VENV)/core.done

# the tests start many programs: Python keeps what it has compiled, whatever the environment says
test: $(VENV)/test.done check
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $$(nproc) --dist loadfile --no-loadscope-reorder

test-cluster: $(VENV)/cluster.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster tests/ops

check: $(VENV)/test.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

test-gpu: $(VENV)/test.done
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/test.done
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "bixt3d needs Python 3.10 to 3.13: choose one with make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$(ROOT)" ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
		{ echo "This Python has no venv: sudo apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.done: $(VENV)/bin/python pyproject.toml
	@echo "Installing bixt3d and its dependencies into $(VENV) (PyTorch with CUDA libraries: 5 GB, a few minutes)"
	$(PIP) -e '.[all]'
	@touch $@

$(VENV)/test.done: $(VENV)/core.done requirements.txt
	@echo "Installing the dependencies of the tests (Open3D and others)"
	grep '^[a-z]' requirements.txt | xargs $(PIP)  # all but bixt3d itself, which core.done has installed
	@missing=$$(for package in $(SYSTEM); do dpkg -s $$package >/dev/null 2>&1 || echo $$package; done); \
	if [ -z "$$missing" ]; then :; \
	elif [ "$(ROOT)" ]; then echo "Installing system libraries: $$missing"; { apt-get update -qq && apt-get install -y -qq $$missing >/dev/null; } || echo "Could not be installed: $$missing"; \
	else echo "Not installed, not root: $$missing (sudo apt-get install $$missing)"; fi
	@touch $@

# built from source against the installed torch; a cached wheel may be of another torch: then it does not import
$(VENV)/cluster.done: $(VENV)/test.done requirements-cluster.txt
	@echo "Building torch-cluster against the installed torch, once: about 10 minutes on one core"
	-$(PIP) setuptools wheel ninja
	-MAX_JOBS=$$(nproc) $(PIP) --no-build-isolation -r requirements-cluster.txt
	@$(BIN)/python -W ignore -c 'import torch_cluster' 2>/dev/null || \
		MAX_JOBS=$$(nproc) $(PIP) --no-build-isolation --force-reinstall --no-deps --no-cache-dir -r requirements-cluster.txt || \
		{ echo "torch-cluster could not be built; everything but the backend 'cluster' works without it"; exit 1; }
	@touch $@
