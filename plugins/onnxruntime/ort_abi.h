// The part of ONNX Runtime's C ABI that custom operators need, bound without ONNX Runtime's headers.
//
// The wheels that users install ship no headers, and a build against any one header would still have to run on many
// runtimes. ONNX Runtime promises that OrtApi only ever grows at its end, so a function is known by its slot: its index
// in that table of pointers. The slots used here exist since API version 17 (release 1.17). ort_abi_check.cpp compares
// every slot, offset and enumerator with the real header when one is given to the build (ONNXRUNTIME_INCLUDE).
#pragma once

#include <cstddef>
#include <cstdint>

namespace laudc {
namespace ort {

// Opaque runtime objects.
struct Status;
struct Value;
struct TensorInfo;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct ShapeInferContext;

enum ElementType : int { kUndefined = 0, kFloat = 1, kInt32 = 6, kInt64 = 7, kFloat16 = 10 };
enum ErrorCode : int { kFail = 1, kInvalidArgument = 2, kRuntimeException = 6, kInvalidGraph = 10 };
enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };

// First API version that has every slot below.
constexpr uint32_t kMinApiVersion = 17;

enum Slot : size_t {
  kCreateStatus = 0,
  kGetTensorMutableData = 51,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelContextGetInputCount = 88,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseStatus = 93,
  kReleaseTensorTypeAndShapeInfo = 99,
  kReleaseCustomOpDomain = 101,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kKernelInfoGetAttributeArrayInt64 = 163,
  kKernelContextGetGpuComputeStream = 193,
  kKernelInfoGetInputCount = 230,
  kKernelInfoGetConstantInputTensor = 249,
  kKernelContextParallelFor = 274,
};

struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const void* api, const KernelInfo*);
  const char* (*get_name)(const CustomOp*);
  const char* (*get_execution_provider)(const CustomOp*);
  ElementType (*get_input_type)(const CustomOp*, size_t);
  size_t (*get_input_count)(const CustomOp*);
  ElementType (*get_output_type)(const CustomOp*, size_t);
  size_t (*get_output_count)(const CustomOp*);
  void (*kernel_compute)(void* kernel, KernelContext*);
  void (*kernel_destroy)(void* kernel);
  Characteristic (*get_input_characteristic)(const CustomOp*, size_t);
  Characteristic (*get_output_characteristic)(const CustomOp*, size_t);
  int (*get_input_memory_type)(const CustomOp*, size_t);
  int (*get_variadic_input_min_arity)(const CustomOp*);
  int (*get_variadic_input_homogeneity)(const CustomOp*);
  int (*get_variadic_output_min_arity)(const CustomOp*);
  int (*get_variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const void* api, const KernelInfo*, void** kernel);
  Status* (*kernel_compute_v2)(void* kernel, KernelContext*);
  Status* (*infer_output_shape)(const CustomOp*, ShapeInferContext*);
  int (*get_start_version)(const CustomOp*);
  int (*get_end_version)(const CustomOp*);
  size_t (*get_may_inplace)(int** input_index, int** output_index);
  void (*release_may_inplace)(int* input_index, int* output_index);
  size_t (*get_alias_map)(int** input_index, int** output_index);
  void (*release_alias_map)(int* input_index, int* output_index);
};

struct ApiBase {
  const void* (*get_api)(uint32_t version);
  const char* (*get_version_string)();
};

// Typed calls through the table.
class Api {
 public:
  explicit Api(const void* table = nullptr) : table_(static_cast<void* const*>(table)) {}

  Status* create_status(ErrorCode code, const char* message) const {
    return at<Status* (*)(int, const char*)>(kCreateStatus)(code, message);
  }
  void release(Status* status) const { at<void (*)(Status*)>(kReleaseStatus)(status); }
  Status* tensor_data(Value* value, void** data) const {
    return at<Status* (*)(Value*, void**)>(kGetTensorMutableData)(value, data);
  }
  Status* element_type(const TensorInfo* info, int* type) const {
    return at<Status* (*)(const TensorInfo*, int*)>(kGetTensorElementType)(info, type);
  }
  Status* rank(const TensorInfo* info, size_t* rank) const {
    return at<Status* (*)(const TensorInfo*, size_t*)>(kGetDimensionsCount)(info, rank);
  }
  Status* dimensions(const TensorInfo* info, int64_t* dims, size_t rank) const {
    return at<Status* (*)(const TensorInfo*, int64_t*, size_t)>(kGetDimensions)(info, dims, rank);
  }
  Status* tensor_info(const Value* value, TensorInfo** info) const {
    return at<Status* (*)(const Value*, TensorInfo**)>(kGetTensorTypeAndShape)(value, info);
  }
  void release(TensorInfo* info) const { at<void (*)(TensorInfo*)>(kReleaseTensorTypeAndShapeInfo)(info); }
  Status* attribute(const KernelInfo* info, const char* name, int64_t* value) const {
    return at<Status* (*)(const KernelInfo*, const char*, int64_t*)>(kKernelInfoGetAttributeInt64)(info, name, value);
  }
  Status* attribute_array(const KernelInfo* info, const char* name, int64_t* values, size_t* count) const {
    return at<Status* (*)(const KernelInfo*, const char*, int64_t*, size_t*)>(kKernelInfoGetAttributeArrayInt64)(
        info, name, values, count);
  }
  Status* input_count(const KernelInfo* info, size_t* count) const {
    return at<Status* (*)(const KernelInfo*, size_t*)>(kKernelInfoGetInputCount)(info, count);
  }
  Status* constant_input(const KernelInfo* info, size_t index, int* is_constant, const Value** value) const {
    return at<Status* (*)(const KernelInfo*, size_t, int*, const Value**)>(kKernelInfoGetConstantInputTensor)(
        info, index, is_constant, value);
  }
  Status* input(const KernelContext* context, size_t index, const Value** value) const {
    return at<Status* (*)(const KernelContext*, size_t, const Value**)>(kKernelContextGetInput)(context, index, value);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* dims, size_t rank, Value** value) const {
    return at<Status* (*)(KernelContext*, size_t, const int64_t*, size_t, Value**)>(kKernelContextGetOutput)(
        context, index, dims, rank, value);
  }
  Status* gpu_stream(const KernelContext* context, void** stream) const {
    return at<Status* (*)(const KernelContext*, void**)>(kKernelContextGetGpuComputeStream)(context, stream);
  }
  Status* parallel_for(const KernelContext* context, void (*task)(void*, size_t), size_t total, size_t batches,
                       void* data) const {
    return at<Status* (*)(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(
        kKernelContextParallelFor)(context, task, total, batches, data);
  }
  Status* create_domain(const char* name, CustomOpDomain** domain) const {
    return at<Status* (*)(const char*, CustomOpDomain**)>(kCreateCustomOpDomain)(name, domain);
  }
  Status* add_op(CustomOpDomain* domain, const CustomOp* op) const {
    return at<Status* (*)(CustomOpDomain*, const CustomOp*)>(kCustomOpDomainAdd)(domain, op);
  }
  Status* add_domain(SessionOptions* options, CustomOpDomain* domain) const {
    return at<Status* (*)(SessionOptions*, CustomOpDomain*)>(kAddCustomOpDomain)(options, domain);
  }
  void release(CustomOpDomain* domain) const { at<void (*)(CustomOpDomain*)>(kReleaseCustomOpDomain)(domain); }

 private:
  template <class Function>
  Function at(Slot slot) const {
    return reinterpret_cast<Function>(table_[slot]);
  }
  void* const* table_;
};

}  // namespace ort
}  // namespace laudc
