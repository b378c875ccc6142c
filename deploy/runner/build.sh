#!/bin/sh
# Builds the runner and the plugins on the device itself, for its own GPU and TensorRT.
#
#   sh deploy/runner/build.sh [SOURCES [OUTPUT]]
#
# SOURCES is the folder that holds deploy/runner and plugins (default: where this script lies). OUTPUT receives
# laudc-runner and liblaudc_trtN.so side by side (default: ./laudc-device).
# TENSORRT_ROOT, CUDAToolkit_ROOT: where TensorRT and CUDA are, if not in the usual places.
set -eu
sources=$(cd "${1:-$(dirname "$0")/../..}" && pwd)
output=${2:-$PWD/laudc-device}
work="$output.building"
jobs=$(nproc 2>/dev/null || echo 1)
# nvcc takes about 1 GB per job, and a Nano has 4 GB in all.
memory=$(awk '/MemTotal/ {print int($2 / 1500000)}' /proc/meminfo 2>/dev/null || echo 1)
[ "$memory" -ge 1 ] || memory=1
[ "$jobs" -le "$memory" ] || jobs=$memory

for tool in cmake c++; do
  command -v "$tool" > /dev/null || { echo "error: $tool not found (apt install cmake g++)" >&2; exit 2; }
done
cuda=${CUDAToolkit_ROOT:-/usr/local/cuda}
if ! command -v nvcc > /dev/null && [ -x "$cuda/bin/nvcc" ]; then
  PATH="$PATH:$cuda/bin"
  export PATH
fi
command -v nvcc > /dev/null || { echo "error: nvcc not found (apt install nvidia-jetpack, or cuda-nvcc)" >&2; exit 2; }

build() { # FOLDER NAME OPTION...
  folder=$1 name=$2
  shift 2
  mkdir -p "$work/$name"
  (
    cd "$work/$name" # -S and -B are too new for JetPack 4.6's CMake 3.10
    cmake -G "Unix Makefiles" -DTENSORRT_ROOT="${TENSORRT_ROOT:-}" -DCUDAToolkit_ROOT="$cuda" "$@" "$folder"
    cmake --build . -- -j"$jobs"
  )
}

rm -rf "$work"
mkdir -p "$work"
build "$sources/deploy/runner" runner
# The runner says which kernels are wanted: "5.3" becomes 53.
sm=$("$work/runner/laudc-runner" device | sed -n 's/^sm //p' | tr -d .)
version=$(cat "$sources/deploy/runner/VERSION" 2> /dev/null || sed -n 's/^__version__ = "\(.*\)"/\1/p' "$sources/laudc/__init__.py")
build "$sources/plugins/tensorrt" plugins -DLAUDC_CUDA_ARCHITECTURES="$sm" -DLAUDC_VERSION_TEXT="$version"
mkdir -p "$work/made"
cp "$work/runner/laudc-runner" "$work/made/"
find "$work/plugins" -name 'liblaudc_trt*.so' -exec cp {} "$work/made/" ';'
ls "$work/made"/liblaudc_trt*.so > /dev/null || { echo "error: no plugin library was built" >&2; exit 2; }
# Only our files are replaced, each at once: the folder may hold other things, and the runner may be running.
mkdir -p "$output"
mv -f "$work/made"/* "$output/"
rm -rf "$work"
echo "built $output for sm $sm"
