# Two commands do everything, set-up included, on a fresh Debian or Ubuntu with Python >= 3.10 (python3-venv), a C++
# compiler and access to PyPI:
#   make demo    a trained network exported, compiled, verified and profiled against dense; prints the table
#   make test    lint, native tests (also under sanitizers), Python tests
# Variables: PYTHON (interpreter for the virtual environment), MODE (network of the demo: spatial, channel, layer or
# both), PIP_ARGS (for example an index with CPU-only builds of PyTorch), THREADS, OUT.

PYTHON ?= python3
MODE ?= spatial
PIP_ARGS ?=
THREADS ?= $(shell nproc 2>/dev/null || echo 1)
OUT ?= out/demo

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

NATIVE_SOURCES := $(shell find plugins -type f) CMakeLists.txt
PACKAGE_SOURCES := $(NATIVE_SOURCES) $(shell find laudc models/laudnet deploy/devices -name '*.py' -o -name '*.yaml')
CMAKE_NATIVE := cmake -S . -G Ninja -DLAUDC_BUILD_TESTS=ON -DLAUDC_WERROR=ON

.PHONY: demo test lint native native-test native-test-asan linkage pytest clean
.DELETE_ON_ERROR:

# ---- set-up ------------------------------------------------------------------------------------------------------

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "laudc needs Python 3.10 or newer: make PYTHON=python3.x $(MAKECMDGOALS)" >&2; exit 2; }
	@command -v $${CXX:-c++} >/dev/null \
	  || { echo "laudc needs a C++ compiler: apt install g++" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) \
	  || { echo "the venv module is missing: apt install python3-venv" >&2; rm -rf $(VENV); exit 2; }
	@touch $@

# The package as a user gets it: a wheel with the native library inside.
$(VENV)/.installed: $(VENV)/.created pyproject.toml $(PACKAGE_SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) '.[torch]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml $(PACKAGE_SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) '.[torch,dev]'
	@touch $@ $(VENV)/.installed

# ---- demo --------------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed
	@mkdir -p $(OUT)
	$(BIN)/python -m laudc.demo --mode $(MODE) --zoo models/zoo --out $(OUT) --threads $(THREADS)

# ---- checks ------------------------------------------------------------------------------------------------------

test: lint native-test native-test-asan linkage pytest

lint: $(VENV)/.installed-dev
	ruff check .
	mypy
	clang-format --dry-run -Werror $$(find plugins -name '*.h' -o -name '*.cpp')

# The library inside the working tree, for developing without installing the package again.
native: $(VENV)/.installed-dev
	$(CMAKE_NATIVE) -B build/native
	cmake --build build/native
	cmake --install build/native --prefix .

native-test: native
	ctest --test-dir build/native --output-on-failure

native-test-asan: $(VENV)/.installed-dev
	$(CMAKE_NATIVE) -B build/asan -DLAUDC_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	cmake --build build/asan
	UBSAN_OPTIONS=print_stacktrace=1 ctest --test-dir build/asan --output-on-failure

# The library finds ONNX Runtime through the pointer it is handed and never at link time.
linkage: native
	@readelf -d laudc/_native/liblaudc_ort.so | grep NEEDED
	@! readelf -d laudc/_native/liblaudc_ort.so | grep NEEDED | grep -i -E 'onnxruntime|torch|c10'

pytest: $(VENV)/.installed-dev native
	PYTHONPATH=models:. $(BIN)/python -m pytest -q tests models

clean:
	rm -rf build out $(VENV) laudc/_native/*.so
