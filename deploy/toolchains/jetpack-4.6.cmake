# Cross-compiling for Jetson Nano and TX2 (JetPack 4.6: glibc 2.27, GCC 7, CUDA 10.2, TensorRT 8.2).
#
# LAUDC_SYSROOT is a copy of the device's file system, with libnvinfer-dev, libnvonnxparsers-dev and cuda-cudart-dev-10-2
# installed there:
#   rsync -a --relative nano:/{lib,usr/include,usr/lib,usr/local/cuda-10.2/targets} sysroot/
#   cmake -S deploy/runner -B build -DCMAKE_TOOLCHAIN_FILE=deploy/toolchains/jetpack-4.6.cmake -DLAUDC_SYSROOT=$PWD/sysroot
#
# With a compiler newer than the device's GCC 7, libstdc++ is linked statically: the device's lacks the newer symbols.
# Kernels are compiled by nvcc 10.2, which wants GCC 8 or older on the host: build plugins/ on the device instead, or
# point CUDAHOSTCXX at such a compiler.
if(NOT LAUDC_SYSROOT)
  message(FATAL_ERROR "LAUDC_SYSROOT must be a copy of the device's file system: see ${CMAKE_CURRENT_LIST_FILE}")
endif()
include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux-gnu.cmake)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static-libstdc++ -static-libgcc")
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-static-libstdc++ -static-libgcc")
# Beside the compiler's own paths, JetPack keeps CUDA here.
set(CUDAToolkit_ROOT ${LAUDC_SYSROOT}/usr/local/cuda-10.2/targets/aarch64-linux CACHE PATH "CUDA of the device")
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
