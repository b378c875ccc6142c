# Two commands do everything, set-up included, on a fresh Debian or Ubuntu with Python >= 3.10 (python3-venv), a C++
# compiler and access to PyPI:
#   make demo    a trained network exported, compiled, verified and profiled against dense; prints the table
#   make test    lint, native tests (also under sanitizers), GPU kernels compiled, Python tests
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

NATIVE_SOURCES := $(shell find plugins deploy/runner -type f) CMakeLists.txt
PACKAGE_SOURCES := $(NATIVE_SOURCES) $(shell find laudc models/laudnet deploy/devices -name '*.py' -o -name '*.yaml')
CMAKE_NATIVE := cmake -S . -G Ninja -DLAUDC_BUILD_TESTS=ON -DLAUDC_WERROR=ON

.PHONY: demo test lint native native-test native-test-asan linkage installed pytest gpu-compile test-gpu clean
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
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) '.[torch,demo]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml $(PACKAGE_SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) '.[torch,demo,dev]'
	@touch $@ $(VENV)/.installed

# ---- demo --------------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed
	@mkdir -p $(OUT)
	laudc export models/zoo/$(MODE).pth -o $(OUT)/$(MODE).onnx
	laudc build-engine $(OUT)/$(MODE).onnx --device cpu -o $(OUT)/$(MODE).laudc
	python tools/sample_images.py $(OUT)/$(MODE).onnx $(OUT)/images --count 16
	laudc verify $(OUT)/$(MODE).laudc --reference models/zoo/$(MODE).pth --images $(OUT)/images
	laudc run $(OUT)/$(MODE).laudc $(OUT)/images --top 1
	laudc profile $(OUT)/$(MODE).laudc --images $(OUT)/images --runs 100 --threads $(THREADS) --against-dense \
	  --html $(OUT)/$(MODE).html --json $(OUT)/$(MODE).json
	@echo "The report for a browser: $(CURDIR)/$(OUT)/$(MODE).html"

# ---- checks ------------------------------------------------------------------------------------------------------

test: lint native-test native-test-asan linkage gpu-compile installed pytest

lint: $(VENV)/.installed-dev
	ruff check .
	mypy
	clang-format --dry-run -Werror $$(find plugins deploy/runner -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu')

# The library inside the working tree, for developing without installing the package again.
native: $(VENV)/.installed-dev
	$(CMAKE_NATIVE) -B build/native
	cmake --build build/native
	cmake --install build/native --prefix .

native-test: native
	ctest --test-dir build/native -j $(THREADS) --output-on-failure --no-tests=error

native-test-asan: $(VENV)/.installed-dev
	$(CMAKE_NATIVE) -B build/asan -DLAUDC_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	cmake --build build/asan
	UBSAN_OPTIONS=print_stacktrace=1 ctest --test-dir build/asan -j $(THREADS) --output-on-failure --no-tests=error

# The library finds ONNX Runtime through the pointer it is handed and never at link time.
linkage: native
	@readelf -d laudc/_native/liblaudc_ort.so | grep NEEDED
	@! readelf -d laudc/_native/liblaudc_ort.so | grep NEEDED | grep -i -E 'onnxruntime|torch|c10'

# What pip installed works without the working tree: the native library is in it and is found.
installed: $(VENV)/.installed-dev
	cd / && "$(CURDIR)/$(BIN)/laudc" doctor

pytest: $(VENV)/.installed-dev native
	PYTHONPATH=models:. python -m pytest -q

# ---- GPU ---------------------------------------------------------------------------------------------------------

# Every kernel for every GPU that laudc knows, without a GPU: by nvcc where it is on the path and knows the GPU, else by
# NVRTC from PyPI. Keeps registers and spills in the report. Without either, and no network, the GPU is named and skipped.
gpu-compile: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) 'nvidia-cuda-nvrtc-cu12>=12.9,<13' \
	  || echo "NVRTC could not be installed" >&2
	$(BIN)/python tools/gpu_compile_check.py --report build/gpu-compile.json

# Numerics on this machine's GPU: the native tests of all operators and the vectors that every implementation shares, in
# every precision, under compute-sanitizer where it is installed. Needs nvcc and a Python with numpy, onnx and pytest; no
# network.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
SANITIZER = $(shell command -v compute-sanitizer >/dev/null && echo compute-sanitizer --error-exitcode 1)
test-gpu:
	@command -v nvidia-smi >/dev/null && nvidia-smi -L | grep -q GPU \
	  || { echo "make test-gpu needs an NVIDIA GPU: nvidia-smi finds none" >&2; exit 2; }
	scripts/gpu_check.sh --out build/gpu-check --only operators $(if $(SANITIZER),--sanitize)
	cmake -S plugins/cuda -B build/cuda -DLAUDC_CUDA_ARCHITECTURES=native
	cmake --build build/cuda --parallel
	PYTHONPATH=models:. LAUDC_CUDA_LIBRARY=build/cuda/liblaudc_cuda.so \
	  LAUDC_CUDART=$${LAUDC_CUDART:-$$(dirname $$(dirname $$(command -v nvcc)))/lib64/libcudart.so} \
	  $(SANITIZER) $(GPU_PYTHON) -m pytest -q tests/cuda/test_vectors.py

clean:
	rm -rf build out $(VENV) laudc/_native/*.so
