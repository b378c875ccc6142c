// Every kernel instance, named explicitly: for compilers that are given device code only (NVRTC).
#pragma once

#include "cuda/attention.cuh"
#include "cuda/convert.cuh"
#include "cuda/excitation.cuh"
#include "cuda/gemm_mma.cuh"
#include "cuda/gemm_simt.cuh"
#include "cuda/grouped_conv.cuh"
#include "cuda/masker.cuh"
#include "cuda/shapes.h"
#include "cuda/tokens.cuh"

namespace laudc {
namespace cuda {

template __global__ void gemm_simt<float, float, float, SimtSmall>(GemmParams);
template __global__ void gemm_simt<float, float, float, SimtTall>(GemmParams);
template __global__ void gemm_simt<Half, Half, Half, SimtSmall>(GemmParams);
template __global__ void gemm_simt<Half, Half, Half, SimtTall>(GemmParams);
template __global__ void gemm_simt<Half, float, float, SimtSmall>(GemmParams);
template __global__ void gemm_mma<float, MmaSmall>(GemmParams);
template __global__ void gemm_mma<float, MmaTall>(GemmParams);
template __global__ void gemm_mma<float, MmaBig>(GemmParams);
template __global__ void gemm_mma<Half, MmaSmall>(GemmParams);
template __global__ void gemm_mma<Half, MmaTall>(GemmParams);
template __global__ void gemm_mma<Half, MmaBig>(GemmParams);
template __global__ void gemm_mma<Half, MmaSmall, TuringHalf>(GemmParams);
template __global__ void gemm_mma<Half, MmaTall, TuringHalf>(GemmParams);
template __global__ void gemm_mma<Half, MmaBig, TuringHalf>(GemmParams);
template __global__ void gemm_mma<Half, MmaSmall, VoltaHalf>(GemmParams);
template __global__ void gemm_mma<Half, MmaTall, VoltaHalf>(GemmParams);
template __global__ void gemm_mma<Half, MmaBig, VoltaHalf>(GemmParams);
template __global__ void masker<float, float>(MaskerParams);
template __global__ void masker<Half, Half>(MaskerParams);
template __global__ void masker<Half, float>(MaskerParams);
template __global__ void grouped_conv<float, kNarrowGroup>(GroupedParams);
template __global__ void grouped_conv<float, kWideGroup>(GroupedParams);
template __global__ void grouped_conv<Half, kNarrowGroup>(GroupedParams);
template __global__ void grouped_conv<Half, kWideGroup>(GroupedParams);
template __global__ void excite<float>(ExciteParams);
template __global__ void excite<Half>(ExciteParams);
template __global__ void scale_rows<float>(ScaleParams);
template __global__ void scale_rows<Half>(ScaleParams);
template __global__ void choose<float>(ChooseParams);
template __global__ void choose<Half>(ChooseParams);
template __global__ void normalise<float>(NormParams);
template __global__ void normalise<Half>(NormParams);
template __global__ void attention<float, NarrowHeads>(AttentionParams);
template __global__ void attention<float, WideHeads>(AttentionParams);
template __global__ void attention<Half, NarrowHeads>(AttentionParams);
template __global__ void attention<Half, WideHeads>(AttentionParams);
template __global__ void convert<float>(ConvertParams);
template __global__ void convert<Half>(ConvertParams);

}  // namespace cuda
}  // namespace laudc
