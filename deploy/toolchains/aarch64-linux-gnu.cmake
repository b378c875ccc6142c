# Cross-compiling for 64-bit ARM with the distribution's compiler (apt install g++-aarch64-linux-gnu):
#   cmake -S deploy/runner -B build -DCMAKE_TOOLCHAIN_FILE=deploy/toolchains/aarch64-linux-gnu.cmake
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

# A copy of the device's file system, where one is given: only its headers and libraries count then, the host's tools
# stay the host's.
if(LAUDC_SYSROOT)
  set(CMAKE_SYSROOT ${LAUDC_SYSROOT})
  set(CMAKE_FIND_ROOT_PATH ${LAUDC_SYSROOT})
endif()
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LAUDC_SYSROOT)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
