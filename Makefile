# hybrid: `make demo` on a fresh machine, `make help` for the rest.
#
#   PYTHON        interpreter the environment is made from (3.10 to 3.13)
#   CONSTRAINTS   file of pinned versions for pip; empty takes the newest of everything
#   PIP_FLAGS     more arguments for pip, such as another index for torch

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
PIP_FLAGS ?=
CXX_FOUND := $(shell command -v $${CXX:-c++} || command -v g++ || command -v clang++)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) $(PIP_FLAGS)
# A change in any of these needs a new installation; Python files are used where they stand.
BUILT_FROM := pyproject.toml $(CONSTRAINTS) $(wildcard kernels/native/CMakeLists.txt kernels/*/*.cpp kernels/*/*.h)

.PHONY: demo test test-gpu sanitize-gpu fix native wheel clean help
.DEFAULT_GOAL := help

demo: $(VENV)/installed  ## install, print the packaged model's plan, generate text
	$(BIN)/hybrid plan demo
	$(BIN)/hybrid run -m demo -p "Once upon a time" -n 96 --temp 0.8 -s 7 --display-prompt

test: $(VENV)/installed-dev  ## install with the checkers, then the whole check
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/check.sh

test-gpu: $(VENV)/installed-dev  ## the tests that need a CUDA device
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("no CUDA device: nothing was tested")'
	$(BIN)/python -m pytest -q -m 'gpu and not alone' -n 6 --dist loadfile tests
	$(BIN)/python -m pytest -q -m 'gpu and alone' tests

sanitize-gpu: $(VENV)/installed-dev  ## small GPU cases under NVIDIA's compute-sanitizer
	tools/sanitize_gpu.sh

fix: $(VENV)/installed-dev  ## rewrite files as the formatters want them
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/fix.sh

native:  ## compile the C++ library into the source tree (needs cmake), warnings are errors
	cmake -S kernels/native -B build/in-tree -DCMAKE_BUILD_TYPE=Release
	cmake --build build/in-tree --parallel

wheel: $(BIN)/python  ## build dist/*.whl and look at what is in it
	rm -rf dist
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python -m tools.check_wheel dist/*.whl

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist kernels/native/*.so kernels/native/*.dylib
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "hybrid needs Python 3.10 or newer, and $(PYTHON) is not: make demo PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment: install its venv module" \
	         "(Debian and Ubuntu: apt install python3-venv)" >&2; \
	    exit 1; }

$(VENV)/installed: $(BIN)/python $(BUILT_FROM)
	$(call need-compiler)
	@echo "Installing into $(VENV); the first time torch is downloaded, which takes a while."
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(BIN)/python $(BUILT_FROM)
	$(call need-compiler)
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/installed $@

define need-compiler
@test -n "$(CXX_FOUND)" || { \
    echo "hybrid needs a C++17 compiler: install g++ or clang++" \
         "(Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)" >&2; \
    exit 1; }
endef
