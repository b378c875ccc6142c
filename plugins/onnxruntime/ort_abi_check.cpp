// Compares ort_abi.h with ONNX Runtime's own header. Compiled only when the build is given one; runs nothing.
#include <onnxruntime_c_api.h>

#include "onnxruntime/ort_abi.h"

namespace laudc {
namespace ort {

#define LAUDC_CHECK_SLOT(ours, theirs) \
  static_assert(offsetof(OrtApi, theirs) == (ours) * sizeof(void*), #theirs " moved in OrtApi")

LAUDC_CHECK_SLOT(kCreateStatus, CreateStatus);
LAUDC_CHECK_SLOT(kGetTensorMutableData, GetTensorMutableData);
LAUDC_CHECK_SLOT(kGetTensorElementType, GetTensorElementType);
LAUDC_CHECK_SLOT(kGetDimensionsCount, GetDimensionsCount);
LAUDC_CHECK_SLOT(kGetDimensions, GetDimensions);
LAUDC_CHECK_SLOT(kGetTensorTypeAndShape, GetTensorTypeAndShape);
LAUDC_CHECK_SLOT(kKernelInfoGetAttributeInt64, KernelInfoGetAttribute_int64);
LAUDC_CHECK_SLOT(kKernelContextGetInputCount, KernelContext_GetInputCount);
LAUDC_CHECK_SLOT(kKernelContextGetInput, KernelContext_GetInput);
LAUDC_CHECK_SLOT(kKernelContextGetOutput, KernelContext_GetOutput);
LAUDC_CHECK_SLOT(kReleaseStatus, ReleaseStatus);
LAUDC_CHECK_SLOT(kReleaseTensorTypeAndShapeInfo, ReleaseTensorTypeAndShapeInfo);
LAUDC_CHECK_SLOT(kReleaseCustomOpDomain, ReleaseCustomOpDomain);
LAUDC_CHECK_SLOT(kCreateCustomOpDomain, CreateCustomOpDomain);
LAUDC_CHECK_SLOT(kCustomOpDomainAdd, CustomOpDomain_Add);
LAUDC_CHECK_SLOT(kAddCustomOpDomain, AddCustomOpDomain);
LAUDC_CHECK_SLOT(kKernelInfoGetAttributeArrayInt64, KernelInfoGetAttributeArray_int64);
LAUDC_CHECK_SLOT(kKernelContextGetGpuComputeStream, KernelContext_GetGPUComputeStream);
LAUDC_CHECK_SLOT(kKernelInfoGetInputCount, KernelInfo_GetInputCount);
LAUDC_CHECK_SLOT(kKernelInfoGetConstantInputTensor, KernelInfoGetConstantInput_tensor);
LAUDC_CHECK_SLOT(kKernelContextParallelFor, KernelContext_ParallelFor);

#define LAUDC_CHECK_FIELD(ours, theirs) \
  static_assert(offsetof(CustomOp, ours) == offsetof(OrtCustomOp, theirs), #theirs " moved in OrtCustomOp")

LAUDC_CHECK_FIELD(create_kernel, CreateKernel);
LAUDC_CHECK_FIELD(get_name, GetName);
LAUDC_CHECK_FIELD(get_execution_provider, GetExecutionProviderType);
LAUDC_CHECK_FIELD(get_input_type, GetInputType);
LAUDC_CHECK_FIELD(get_input_count, GetInputTypeCount);
LAUDC_CHECK_FIELD(get_output_type, GetOutputType);
LAUDC_CHECK_FIELD(get_output_count, GetOutputTypeCount);
LAUDC_CHECK_FIELD(kernel_compute, KernelCompute);
LAUDC_CHECK_FIELD(kernel_destroy, KernelDestroy);
LAUDC_CHECK_FIELD(get_input_characteristic, GetInputCharacteristic);
LAUDC_CHECK_FIELD(get_output_characteristic, GetOutputCharacteristic);
LAUDC_CHECK_FIELD(get_input_memory_type, GetInputMemoryType);
LAUDC_CHECK_FIELD(get_variadic_input_min_arity, GetVariadicInputMinArity);
LAUDC_CHECK_FIELD(get_variadic_input_homogeneity, GetVariadicInputHomogeneity);
LAUDC_CHECK_FIELD(get_variadic_output_min_arity, GetVariadicOutputMinArity);
LAUDC_CHECK_FIELD(get_variadic_output_homogeneity, GetVariadicOutputHomogeneity);
LAUDC_CHECK_FIELD(create_kernel_v2, CreateKernelV2);
LAUDC_CHECK_FIELD(kernel_compute_v2, KernelComputeV2);
LAUDC_CHECK_FIELD(infer_output_shape, InferOutputShapeFn);
LAUDC_CHECK_FIELD(get_start_version, GetStartVersion);
LAUDC_CHECK_FIELD(get_end_version, GetEndVersion);
LAUDC_CHECK_FIELD(get_may_inplace, GetMayInplace);
LAUDC_CHECK_FIELD(release_may_inplace, ReleaseMayInplace);
LAUDC_CHECK_FIELD(get_alias_map, GetAliasMap);
LAUDC_CHECK_FIELD(release_alias_map, ReleaseAliasMap);

static_assert(kFloat == static_cast<int>(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT), "float");
static_assert(kInt32 == static_cast<int>(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32), "int32");
static_assert(kInt64 == static_cast<int>(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64), "int64");
static_assert(kFloat16 == static_cast<int>(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16), "float16");
static_assert(kFail == static_cast<int>(ORT_FAIL), "ORT_FAIL");
static_assert(kInvalidArgument == static_cast<int>(ORT_INVALID_ARGUMENT), "ORT_INVALID_ARGUMENT");
static_assert(kRuntimeException == static_cast<int>(ORT_RUNTIME_EXCEPTION), "ORT_RUNTIME_EXCEPTION");
static_assert(kInvalidGraph == static_cast<int>(ORT_INVALID_GRAPH), "ORT_INVALID_GRAPH");
static_assert(kOptional == static_cast<int>(INPUT_OUTPUT_OPTIONAL), "INPUT_OUTPUT_OPTIONAL");
static_assert(kVariadic == static_cast<int>(INPUT_OUTPUT_VARIADIC), "INPUT_OUTPUT_VARIADIC");
static_assert(offsetof(ApiBase, get_version_string) == offsetof(OrtApiBase, GetVersionString), "OrtApiBase");

}  // namespace ort
}  // namespace laudc
