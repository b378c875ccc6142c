# Included by everything that holds CUDA kernels: finds nvcc and defines the object library laudc_cuda_kernels once.
#
# LAUDC_CUDA_ARCHITECTURES: compute capabilities, "53;62" or "native". The default is what the found nvcc can build of
# the GPUs that laudc has device profiles for.
include_guard(GLOBAL)
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "laudc's CUDA kernels need nvcc, which was not found. Install the CUDA toolkit, or say where it "
                      "is with CUDACXX=/usr/local/cuda/bin/nvcc.")
endif()
# The flags below name the architectures; CMake 3.18 and later would add its own.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES OFF)
endif()
enable_language(CUDA)
find_package(Threads REQUIRED)
set(CMAKE_CUDA_STANDARD 14)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)  # engines bring no version of their own

if(NOT LAUDC_CUDA_ARCHITECTURES)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 11.1)
    set(LAUDC_CUDA_ARCHITECTURES 53 62 70 75)
  elseif(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 11.8)
    set(LAUDC_CUDA_ARCHITECTURES 53 62 70 75 80 86)
  elseif(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.0)
    set(LAUDC_CUDA_ARCHITECTURES 53 62 70 75 80 86 87 90)
  else()
    set(LAUDC_CUDA_ARCHITECTURES 75 80 86 87 90)
  endif()
endif()
if(LAUDC_CUDA_ARCHITECTURES STREQUAL "native")
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE LAUDC_FOUND_SM
                  RESULT_VARIABLE LAUDC_NO_GPU OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(LAUDC_NO_GPU)
    message(FATAL_ERROR "LAUDC_CUDA_ARCHITECTURES=native needs a GPU and nvidia-smi; name a number instead, such as 80.")
  endif()
  string(REGEX REPLACE "\\.|\n.*" "" LAUDC_CUDA_ARCHITECTURES "${LAUDC_FOUND_SM}")
endif()
set(LAUDC_CUDA_FLAGS "")
foreach(sm ${LAUDC_CUDA_ARCHITECTURES})
  list(APPEND LAUDC_CUDA_FLAGS "-gencode=arch=compute_${sm},code=sm_${sm}")
  set(LAUDC_NEWEST_SM ${sm})
endforeach()
# Later GPUs compile this at first use.
list(APPEND LAUDC_CUDA_FLAGS "-gencode=arch=compute_${LAUDC_NEWEST_SM},code=compute_${LAUDC_NEWEST_SM}")
string(REPLACE ";" "," LAUDC_CUDA_SM_LIST "${LAUDC_CUDA_ARCHITECTURES}")

get_filename_component(LAUDC_PLUGINS ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
if(NOT LAUDC_VERSION_TEXT)  # outside of the project's own build; sources copied to a device may come without Python
  set(LAUDC_VERSION_TEXT unknown)
  if(EXISTS ${LAUDC_PLUGINS}/../laudc/__init__.py)
    file(STRINGS ${LAUDC_PLUGINS}/../laudc/__init__.py LAUDC_VERSION_LINE REGEX "^__version__")
    string(REGEX REPLACE ".*\"(.*)\".*" "\\1" LAUDC_VERSION_TEXT "${LAUDC_VERSION_LINE}")
  endif()
endif()
set(LAUDC_CUDA_HOST_SOURCES
    ${LAUDC_PLUGINS}/core/block_desc.cpp ${LAUDC_PLUGINS}/core/packed_layout.cpp ${LAUDC_PLUGINS}/core/regnet_desc.cpp
    ${LAUDC_PLUGINS}/core/vit_desc.cpp
    ${LAUDC_PLUGINS}/cuda/block_call.cpp ${LAUDC_PLUGINS}/cuda/bottleneck_run.cpp ${LAUDC_PLUGINS}/cuda/conv_run.cpp
    ${LAUDC_PLUGINS}/cuda/gemm_tiles.cpp ${LAUDC_PLUGINS}/cuda/laudc_cuda.cpp ${LAUDC_PLUGINS}/cuda/regnet_run.cpp
    ${LAUDC_PLUGINS}/cuda/run.cpp ${LAUDC_PLUGINS}/cuda/vit_call.cpp ${LAUDC_PLUGINS}/cuda/vit_run.cpp
    ${LAUDC_PLUGINS}/cuda/vit_workspace.cpp ${LAUDC_PLUGINS}/cuda/workspace.cpp)
add_library(laudc_cuda_kernels OBJECT ${LAUDC_PLUGINS}/cuda/kernels.cu ${LAUDC_CUDA_HOST_SOURCES})
target_include_directories(laudc_cuda_kernels PRIVATE ${LAUDC_PLUGINS} ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
set_target_properties(laudc_cuda_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_STANDARD 14
                                                    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
target_compile_options(laudc_cuda_kernels PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${LAUDC_CUDA_FLAGS}>
                                                  $<$<COMPILE_LANGUAGE:CXX>:-Wall$<SEMICOLON>-Wextra>)

# What every library around the kernels needs: only the symbols of its map are seen, nothing stays undefined, and no
# symbol of another copy of the kernels in the process is taken for ours.
function(laudc_cuda_library target map)
  target_include_directories(${target} PRIVATE ${LAUDC_PLUGINS})
  target_link_libraries(${target} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  set_target_properties(${target} PROPERTIES CXX_STANDARD 14 LINKER_LANGUAGE CUDA CXX_VISIBILITY_PRESET hidden
                                             LINK_DEPENDS ${map} CUDA_RESOLVE_DEVICE_SYMBOLS OFF)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall$<SEMICOLON>-Wextra>)
  target_link_libraries(${target} PRIVATE -Wl,--no-undefined -Wl,-Bsymbolic -Wl,--version-script=${map})
endfunction()
