// See NvInferRuntime.h here. Which major it stands for is up to the build.
#pragma once

#ifndef LAUDC_DOUBLE_MAJOR
#define LAUDC_DOUBLE_MAJOR 10
#endif
#ifndef LAUDC_DOUBLE_MINOR
#define LAUDC_DOUBLE_MINOR 0
#endif
#define NV_TENSORRT_MAJOR LAUDC_DOUBLE_MAJOR
#define NV_TENSORRT_MINOR LAUDC_DOUBLE_MINOR
#define NV_TENSORRT_PATCH 0
