#!/usr/bin/env bash
# Builds laudc's CUDA kernels on this machine, checks their numbers, and measures them against the best dense
# alternative. Needs a GPU, nvcc and a Python with PyTorch (CUDA build) and NumPy; no network, no ONNX, nothing installed.
#
#   scripts/gpu_check.sh [--out FOLDER] [--quick] [--no-compile] [--tensorrt FOLDER --engines FOLDER]
#
#   --out FOLDER       results and builds [default: out/gpu-check]: results.json, table.txt
#   --quick            fewer cases and runs: a minute instead of about twenty
#   --no-compile       leave torch.compile out of the dense alternatives
#   --tensorrt FOLDER  an unpacked TensorRT (include, lib): also builds laudc-runner and the plugins
#   --engines FOLDER   uncompiled .laudc files for it: compiled and profiled through laudc-runner
#   --dry-run          say what would be done
# PYTHON, CUDACXX and JOBS are taken from the environment. Exit code 3: something was measured and is not right.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/out/gpu-check
tensorrt='' engines='' dry_run=''
options=()

fail() {
  echo "gpu_check: $1" >&2
  exit 2
}

usage() { sed -n '2,/^set -/p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'; }

while [ $# -gt 0 ]; do
  case $1 in
    --out | --tensorrt | --engines)
      [ $# -ge 2 ] || fail "$1 needs a folder"
      case $1 in
        --out) out=$2 ;;
        --tensorrt) tensorrt=$2 ;;
        --engines) engines=$2 ;;
      esac
      shift 2
      ;;
    --quick | --no-compile)
      options+=("$1")
      shift
      ;;
    --dry-run)
      dry_run=1
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "there is no option '$1'; see $0 --help" ;;
  esac
done

step() { # TITLE COMMAND...
  echo "== $1"
  shift
  if [ -n "$dry_run" ]; then
    printf '   %q' "$@"
    echo
    return
  fi
  "$@"
}

python=${PYTHON:-python3}
nvcc=${CUDACXX:-nvcc}
if ! command -v "$nvcc" > /dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then nvcc=/usr/local/cuda/bin/nvcc; fi
if [ -z "$dry_run" ]; then
  command -v "$nvcc" > /dev/null || fail "nvcc was not found; install the CUDA toolkit or set CUDACXX"
  command -v nvidia-smi > /dev/null || fail "nvidia-smi was not found: there is no driver, or no GPU in this container"
  "$python" -c 'import numpy, torch; assert torch.cuda.is_available()' 2> /dev/null ||
    fail "$python has no PyTorch that sees the GPU; set PYTHON to one that does"
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
fi
[ -z "$tensorrt" ] || [ -e "$tensorrt/include/NvInfer.h" ] || [ -n "$dry_run" ] ||
  fail "$tensorrt has no include/NvInfer.h: give the folder of an unpacked TensorRT"

compute_capability() { nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. '; }
sm=$([ -n "$dry_run" ] && echo 90 || compute_capability)

# By nvcc alone: a machine with CUDA and PyTorch need not have CMake.
build_kernels() {
  "$nvcc" -std=c++14 -O3 -shared -Xcompiler -fPIC,-fvisibility=hidden -Xptxas -v -cudart static \
    -gencode "arch=compute_$sm,code=sm_$sm" -I "$root/plugins" -o "$out/liblaudc_cuda.so" \
    "$root"/plugins/core/*.cpp \
    "$root"/plugins/cuda/*.cpp "$root"/plugins/cuda/*.cu 2> "$out/ptxas.txt" ||
    { tail -n 30 "$out/ptxas.txt" >&2; fail "the kernels do not compile; all of it is in $out/ptxas.txt"; }
}

run_engines() {
  sh "$root/deploy/runner/build.sh" "$root" "$out/device"
  export LD_LIBRARY_PATH="$tensorrt/lib:${LD_LIBRARY_PATH:-}"
  local engine name
  for engine in "$engines"/*.laudc; do
    [ -e "$engine" ] || fail "there are no .laudc files in $engines"
    name=$(basename "$engine" .laudc)
    "$out/device/laudc-runner" build "$engine" -o "$out/$name.finished.laudc"
    "$out/device/laudc-runner" profile "$out/$name.finished.laudc" --runs 200 --json "$out/$name.profile.json"
  done
}

step "building the CUDA kernels for sm_$sm" build_kernels
status=0
PYTHONPATH=$root/scripts:$root step "numerics and measurements" \
  "$python" -m gpu_check --library "$out/liblaudc_cuda.so" --out "$out" ${options[@]+"${options[@]}"} || status=$?
if [ -n "$tensorrt" ]; then
  [ -n "$engines" ] || fail "--tensorrt needs --engines: a folder with uncompiled .laudc files"
  export TENSORRT_ROOT=$tensorrt
  step "TensorRT engines through laudc-runner" run_engines
fi
exit "$status"
