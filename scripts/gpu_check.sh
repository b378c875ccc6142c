#!/usr/bin/env bash
# Builds laudc's CUDA kernels on this machine, checks their numbers, and measures them against the best dense
# alternative. Needs a GPU, nvcc and a Python 3.10 or newer with PyTorch (CUDA build) and NumPy; no network, no CMake,
# no ONNX, nothing installed.
#
#   scripts/gpu_check.sh [--out FOLDER] [--minutes N] [--only PART,...] [--quick] [--compile PART,...] [--sanitize]
#                        [--tensorrt FOLDER --engines FOLDER]
#
#   --out FOLDER       results.json, table.txt, operators.txt and measured.jsonl, from which a later call goes on; all else
#                      is below its folder build [default: out/gpu-check]
#   --minutes N        begin nothing new after N minutes; the same command goes on where it stopped (exit code 4 until
#                      everything is measured)
#   --only PART,...    some of: operators (every operator against its reference, by the native tests), numerics (blocks
#                      of real size against PyTorch), launch (cost of launches), networks, blocks, engines
#   --quick            fewer cases and runs: a few minutes instead of about an hour
#   --compile PART,... parts that also compare with torch.compile: networks, blocks or none [default: networks]. Tuning takes
#                      minutes for every network and block; cases that are measured already stay as they are
#   --sanitize         operators also under compute-sanitizer: memcheck, racecheck, synccheck
#   --tensorrt FOLDER  an unpacked TensorRT (include, lib): also builds laudc-runner and the plugins (needs CMake)
#   --engines FOLDER   uncompiled .laudc files for it: compiled and profiled through laudc-runner
#   --dry-run          say what would be done
# PYTHON and CUDACXX are taken from the environment. Exit code 3: something failed or is not right.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/out/gpu-check
tensorrt='' engines='' dry_run='' minutes='' sanitize='' only=''
parts=operators,numerics,launch,networks,blocks,engines compiled=networks
options=()

fail() {
  echo "gpu_check: $1" >&2
  exit 2
}

usage() { sed -n '2,/^set -/p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'; }

while [ $# -gt 0 ]; do
  case $1 in
    --out | --tensorrt | --engines | --minutes | --only | --compile)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --out) out=$2 ;;
        --tensorrt) tensorrt=$2 ;;
        --engines) engines=$2 ;;
        --minutes) minutes=$2 ;;
        --only) only=$2 parts=$2 ;;
        --compile) compiled=$2 ;;
      esac
      shift 2
      ;;
    --quick)
      options+=("$1")
      shift
      ;;
    --sanitize)
      sanitize=1
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

case $minutes in *[!0-9]*) fail "--minutes needs a whole number, not '$minutes'" ;; esac
[ -z "$minutes" ] || minutes=$((10#$minutes)) # 08 is no octal number
for part in ${parts//,/ }; do
  case $part in
    operators | numerics | launch | networks | blocks | engines) ;;
    *) fail "--only knows no part '$part'; see $0 --help" ;;
  esac
done
for part in ${compiled//,/ }; do
  case $part in
    networks | blocks | none) ;;
    *) fail "--compile knows no part '$part'; see $0 --help" ;;
  esac
done
[ -z "$tensorrt" ] || [ -n "$engines" ] || fail "--tensorrt needs --engines: a folder with uncompiled .laudc files"
[ -z "$engines" ] || [ -n "$tensorrt" ] || fail "--engines needs --tensorrt: the folder of an unpacked TensorRT"
case ,$only, in
  *,engines,*) [ -n "$tensorrt" ] || fail "--only engines needs --tensorrt and --engines" ;;
esac

wanted() { case ,$parts, in *,"$1",*) return 0 ;; *) return 1 ;; esac }
out_of_time() { [ -n "$minutes" ] && [ "$SECONDS" -ge $((minutes * 60)) ]; }

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

# Parts that PyTorch takes part in.
measured=''
for part in numerics launch networks blocks; do
  if wanted "$part"; then measured+=${measured:+,}$part; fi
done

# Of the device that PyTorch takes, which CUDA_VISIBLE_DEVICES may choose.
compute_capability() {
  if [ -z "$measured" ]; then
    local answer
    answer=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 || true)
    [ -n "$answer" ] || fail "nvidia-smi finds no GPU: there is none in this container, or no driver"
    sm=$(tr -d '. ' <<< "$answer")
    case $sm in
      '' | *[!0-9]*)
        fail "nvidia-smi does not tell the compute capability ('$answer'): there is no GPU or the driver is too old for \
that; with a part such as launch, PyTorch is asked instead"
        ;;
    esac
    return
  fi
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null ||
    fail "$python is not a Python 3.10 or newer; set PYTHON to one that has PyTorch"
  "$python" -c 'import numpy, torch' 2> /dev/null || fail "$python has no NumPy or no PyTorch; set PYTHON to one with both"
  sm=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())' 2> /dev/null) ||
    fail "PyTorch of $python sees no GPU: there is none in this container, no driver, or it is a CPU build"
}

check_machine() {
  command -v "$nvcc" > /dev/null || fail "nvcc was not found; install the CUDA toolkit or set CUDACXX"
  compute_capability
  local known
  known=$("$nvcc" --list-gpu-code 2> /dev/null || true)
  [ -z "$known" ] || grep -qx "sm_$sm" <<< "$known" ||
    fail "this GPU is sm_$sm, which $nvcc is too old (or too new) to compile for; set CUDACXX to another"
  nvcc=$(command -v "$nvcc")
  nvcc=$(cd "$(dirname "$nvcc")" && pwd)/$(basename "$nvcc")
  if [ -n "$sanitize" ] && wanted operators; then find_sanitizer; fi
  if [ -n "$tensorrt" ] && wanted engines; then check_engines; fi
  mkdir -p "$out/build"
  out=$(cd "$out" && pwd)
}

# CUDA's folder bin need not be in PATH.
find_sanitizer() {
  local beside
  beside=$(dirname "$nvcc")/compute-sanitizer
  sanitizer=$(command -v compute-sanitizer || true)
  if [ -z "$sanitizer" ] && [ -x "$beside" ]; then sanitizer=$beside; fi
  [ -n "$sanitizer" ] || fail "--sanitize needs compute-sanitizer of CUDA, which is neither in PATH nor beside $nvcc"
}

# The libraries are looked for from other folders, too: absolute paths.
check_engines() {
  local given
  [ -e "$tensorrt/include/NvInfer.h" ] ||
    fail "$tensorrt has no include/NvInfer.h: give the folder of an unpacked TensorRT"
  tensorrt=$(cd "$tensorrt" && pwd)
  given=("$engines"/*.laudc)
  [ -e "${given[0]}" ] || fail "there are no .laudc files in $engines"
  engines=$(cd "$engines" && pwd)
}

# Of the contents, which say what was built and measured; times of files do not when they are copied.
hash_of() { # FILE-OR-FOLDER-BELOW-ROOT...
  (cd "$root" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
}

sm=90 # of a dry run
[ -n "$dry_run" ] || check_machine
build=$out/build
library=$build/liblaudc_cuda.so

# By nvcc alone: a machine with CUDA and PyTorch need not have CMake.
build_kernels() {
  local stamp made
  made="sm_$sm $("$nvcc" --version | tail -n 1) $(hash_of plugins/core plugins/cuda)"
  stamp=$(cat "$library.made" 2> /dev/null || true)
  if [ -e "$library" ] && [ "$stamp" = "$made" ]; then
    echo "   is there already"
    return
  fi
  rm -f "$library.made"
  "$nvcc" -std=c++14 -O3 -shared -Xcompiler -fPIC,-fvisibility=hidden -Xptxas -v -cudart static \
    -gencode "arch=compute_$sm,code=sm_$sm" -I "$root/plugins" -o "$library" \
    "$root"/plugins/core/*.cpp \
    "$root"/plugins/cuda/*.cpp "$root"/plugins/cuda/*.cu 2> "$build/ptxas.txt" ||
    { tail -n 30 "$build/ptxas.txt" >&2; fail "the kernels do not compile; all of it is in $build/ptxas.txt"; }
  echo "$made" > "$library.made"
}

# The native tests of the kernels, on this GPU in place of the emulated one.
check_operators() {
  local name failed=0 tool made done=$build/operators.done
  local tools=('')
  made="sanitize: $sanitize $(cat "$library.made") $(hash_of plugins)"
  if [ "$(cat "$done" 2> /dev/null || true)" = "$made" ]; then
    echo "   right, by an earlier call"
    return
  fi
  [ -z "$sanitize" ] || tools+=(memcheck racecheck synccheck)
  rm -f "$done"
  : > "$out/operators.txt"
  for name in run regnet vit; do
    build_test "$name" || return 3
    for tool in "${tools[@]}"; do
      echo "test_cuda_$name${tool:+ under $tool}" >> "$out/operators.txt"
      ${tool:+"$sanitizer" --tool "$tool" --error-exitcode 1} "$build/test_cuda_$name" >> "$out/operators.txt" 2>&1 ||
        failed=1
    done
  done
  grep -v '^ok ' "$out/operators.txt" || true
  if [ "$failed" -ne 0 ]; then
    echo "   FAILED: all of it is in $out/operators.txt"
    return 3
  fi
  echo "   all of $(grep -c '^ok ' "$out/operators.txt") right"
  echo "$made" > "$done"
}

build_test() { # NAME
  local tests=$root/plugins/tests release why
  "$nvcc" -std=c++17 -O1 -cudart static -I "$root/plugins" -o "$build/test_cuda_$1" "$tests/test_cuda_$1.cpp" \
    "$tests/real_gpu.cpp" "$tests/emulated_device.cpp" "$root"/plugins/core/*.cpp \
    -Xlinker -rpath,"$build" -L"$build" -llaudc_cuda >> "$out/operators.txt" 2>&1 && return
  why="the native tests do not compile; all of it is in $out/operators.txt"
  release=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
  [ "${release:-11}" -ge 11 ] ||
    why="the part operators needs CUDA 11.0 or newer, whose nvcc knows C++17; $nvcc is of CUDA $release"
  echo "FAILED: $why" >> "$out/operators.txt"
  echo "   FAILED: $why"
  return 1
}

# Every engine that this runner, these plugins and this TensorRT have not profiled yet. What fails does not keep the
# others from it.
run_engines() {
  local engine name made base failed=0 runner=$build/device/laudc-runner
  base="sm_$sm $tensorrt $(hash_of "$tensorrt/include")"
  base+=" $(hash_of plugins/core plugins/cuda plugins/tensorrt deploy/runner)"
  export LD_LIBRARY_PATH="$tensorrt/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  for engine in "$engines"/*.laudc; do
    name=$(basename "$engine" .laudc)
    made="$base $(hash_of "$engine")"
    if [ -e "$out/$name.profile.json" ] && [ "$(cat "$build/$name.profiled" 2> /dev/null || true)" = "$made" ]; then
      echo "   $name: by an earlier call"
      continue
    fi
    ! out_of_time || return $((failed ? 3 : 4))
    build_runner "$base" || return 3
    rm -f "$build/$name.profiled" "$out/$name.profile.json"
    if "$runner" build "$engine" -o "$build/$name.finished.laudc" &&
      "$runner" profile "$build/$name.finished.laudc" --runs 200 --json "$out/$name.profile.json"; then
      echo "$made" > "$build/$name.profiled"
    else
      rm -f "$out/$name.profile.json"
      echo "   FAILED: $name; laudc-runner says why above"
      failed=1
    fi
  done
  return $((failed ? 3 : 0))
}

build_runner() { # WHAT-IT-IS-MADE-OF
  [ "$(cat "$build/device.made" 2> /dev/null || true)" != "$1" ] || return 0
  rm -f "$build/device.made"
  if ! CUDACXX=$nvcc CUDAToolkit_ROOT=${CUDAToolkit_ROOT:-$(dirname "$(dirname "$nvcc")")} \
    PATH=$(dirname "$nvcc"):$PATH sh "$root/deploy/runner/build.sh" "$root" "$build/device"; then
    echo "   FAILED: laudc-runner and its plugins do not build"
    return 1
  fi
  echo "$1" > "$build/device.made"
}

# What this call leaves open, and what was wrong, outlasts the steps that follow.
status=0
keep_status() { [ "$1" -eq 0 ] || { [ "$status" -ne 0 ] && [ "$status" -ne 4 ]; } || status=$1; }

step "building the CUDA kernels for sm_$sm" build_kernels
if wanted operators; then step "every operator against its reference" check_operators || keep_status $?; fi
if [ -n "$measured" ]; then
  [ -z "$minutes" ] || options+=(--seconds "$((minutes * 60 > SECONDS ? minutes * 60 - SECONDS : 0))")
  # What torch.compile has tuned is found again by the next call.
  export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$build/inductor}
  PYTHONPATH=$root/scripts:$root step "measurements" "$python" -m gpu_check \
    --library "$library" --out "$out" --only "$measured" --compile "$compiled" ${options[@]+"${options[@]}"} || keep_status $?
fi
if [ -n "$tensorrt" ] && wanted engines; then
  if out_of_time; then
    keep_status 4
  else
    export TENSORRT_ROOT=$tensorrt
    step "TensorRT engines through laudc-runner" run_engines || keep_status $?
  fi
fi
[ "$status" -ne 4 ] || echo "not everything is measured yet: give the same command again"
exit "$status"
