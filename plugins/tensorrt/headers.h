// TensorRT's own headers, whichever release they are of, without their warnings.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <NvInferRuntime.h>
#include <NvInferVersion.h>
#pragma GCC diagnostic pop

// ILoggerFinder came with the registries that load libraries themselves.
#if NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6)
#define LAUDC_HAS_LOGGER_FINDER 1
#else
#define LAUDC_HAS_LOGGER_FINDER 0
#endif
