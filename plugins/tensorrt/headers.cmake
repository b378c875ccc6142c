# Which TensorRT some headers belong to. They name the numbers directly, or through other macros of the same file.
function(laudc_tensorrt_version include result)
  file(STRINGS ${include}/NvInferVersion.h lines REGEX "^#define ")
  set(version "")
  foreach(part MAJOR MINOR PATCH)
    set(name NV_TENSORRT_${part})
    foreach(depth RANGE 3)
      string(REGEX MATCH "#define ${name}[ \t]+([A-Za-z0-9_]+)" found "${lines}")
      set(name "${CMAKE_MATCH_1}")
      if(name MATCHES "^[0-9]+$")
        break()
      endif()
    endforeach()
    list(APPEND version ${name})
  endforeach()
  string(REPLACE ";" "." version "${version}")
  if(NOT version MATCHES "^[0-9]+[.][0-9]+[.][0-9]+$")
    message(FATAL_ERROR "${include}/NvInferVersion.h does not say which TensorRT it belongs to.")
  endif()
  set(${result} ${version} PARENT_SCOPE)
endfunction()

# Where NVIDIA's headers are; if nowhere, `missing` says what was tried and what to do.
function(laudc_find_tensorrt result missing)
  set(${missing} "" PARENT_SCOPE)
  find_path(LAUDC_FOUND_TENSORRT NvInferRuntime.h HINTS ${TENSORRT_ROOT} $ENV{TENSORRT_ROOT}
            PATH_SUFFIXES include include/${CMAKE_LIBRARY_ARCHITECTURE})
  if(LAUDC_FOUND_TENSORRT)
    set(${result} ${LAUDC_FOUND_TENSORRT} PARENT_SCOPE)
    return()
  endif()
  if(LAUDC_FETCH_TENSORRT)
    laudc_fetch_tensorrt(folder trouble)
    if(NOT trouble)
      set(${result} ${folder} PARENT_SCOPE)
      return()
    endif()
  else()
    set(trouble "LAUDC_FETCH_TENSORRT names no release to download them of (such as v10.3.0 or release/8.6)")
  endif()
  set(${missing}
      "NvInferRuntime.h was found neither in TENSORRT_ROOT ('${TENSORRT_ROOT}$ENV{TENSORRT_ROOT}') nor in \
CMAKE_PREFIX_PATH ('${CMAKE_PREFIX_PATH}') nor in the system's folders, and ${trouble}. Install TensorRT's headers (on \
Ubuntu libnvinfer-headers-dev or libnvinfer-dev), or point TENSORRT_ROOT at an unpacked TensorRT."
      PARENT_SCOPE)
endfunction()

# The public headers of a release, from NVIDIA's repository.
function(laudc_fetch_tensorrt result trouble)
  string(REPLACE "/" "_" name "${LAUDC_FETCH_TENSORRT}")
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/tensorrt-${name})
  set(${trouble} "" PARENT_SCOPE)
  if(NOT EXISTS ${folder}/include/NvInferRuntime.h)
    find_program(GIT_PROGRAM git)
    if(NOT GIT_PROGRAM)
      set(${trouble} "git, which would download them, is not installed" PARENT_SCOPE)
      return()
    endif()
    message(STATUS "Downloading the headers of TensorRT ${LAUDC_FETCH_TENSORRT}")
    # Files are fetched as they are checked out, which keeps the download to the headers.
    execute_process(
      COMMAND ${GIT_PROGRAM} clone --quiet --depth 1 --filter=blob:none --no-checkout --branch ${LAUDC_FETCH_TENSORRT}
              https://github.com/NVIDIA/TensorRT.git ${folder}
      RESULT_VARIABLE failed ERROR_VARIABLE said)
    if(NOT failed)
      execute_process(COMMAND ${GIT_PROGRAM} -C ${folder} checkout --quiet HEAD -- include RESULT_VARIABLE failed
                      ERROR_VARIABLE said)
    endif()
    if(failed)
      file(REMOVE_RECURSE ${folder})
      string(STRIP "${said}" said)
      set(${trouble} "they could not be downloaded (${said})" PARENT_SCOPE)
      return()
    endif()
  endif()
  set(${result} ${folder}/include PARENT_SCOPE)
endfunction()
