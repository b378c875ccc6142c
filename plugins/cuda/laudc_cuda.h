/* C interface of the CUDA kernels: runs of dynamic blocks on one GPU.
 *
 * Free of TensorRT and ONNX Runtime types; both adapters are built on it. Records and packed weights are those of the
 * CPU library (core/block_desc.h, core/regnet_desc.h, core/vit_desc.h). Functions that can fail write one sentence to
 * `error`.
 */
#ifndef LAUDC_CUDA_H_
#define LAUDC_CUDA_H_

#include <stddef.h>
#include <stdint.h>

#define LAUDC_CUDA_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct laudc_cuda_run laudc_cuda_run;

enum {
  LAUDC_CUDA_FP32 = 0, /* fp32 multiply-adds everywhere */
  LAUDC_CUDA_TF32 = 1, /* TF32 tensor cores from sm_80; else as FP32 */
  LAUDC_CUDA_FP16 = 2  /* fp16 maps and weights, fp32 sums; tensor cores from sm_70 */
};

typedef struct {
  int32_t sm; /* compute capability, 10 * major + minor; no newer than the kernels were compiled for */
  int32_t multiprocessors;
} laudc_cuda_device;

/* Sizes behind the batch: [hin][win][cin] of a map, [tokens][dim] of a transformer's tokens. */
typedef struct {
  int32_t rank;
  int64_t dims[3];
} laudc_cuda_shape;

/* Pointers of one call, all to device memory. */
typedef struct {
  const void* x;              /* [batch][laudc_cuda_x_shape(run)], fp16 if the precision is, else fp32; a map is not
                                 negative */
  const float* const* packed; /* host array: the packed weights of each block, 16-byte aligned */
  const void* prepared;       /* filled by laudc_cuda_prepare; null if laudc_cuda_prepared_bytes is 0 */
  void* y;                    /* [batch][laudc_cuda_y_shape(run)], type of x; not x itself */
  int32_t* counts;            /* [batch][blocks][4], or null */
  float* margins;             /* [batch][margins_stride], or null */
  int64_t margins_stride;     /* at least laudc_cuda_margins(run); if that is 0, all of it becomes 0 */
  void* workspace;            /* laudc_cuda_workspace_bytes(run, batch), 256-byte aligned */
  size_t workspace_bytes;
  int64_t batch;
} laudc_cuda_io;

/* The calling thread's current GPU. 0 on success. */
LAUDC_CUDA_API int laudc_cuda_current_device(laudc_cuda_device* device, char* error, size_t error_size);

/* `op`: name of the scheduled op, such as BottleneckRun. `records`: `count` values of its `blocks` attribute. Null on
 * failure. The result is immutable: any number of threads may use it at once. */
LAUDC_CUDA_API laudc_cuda_run* laudc_cuda_create(const char* op, const int64_t* records, size_t count, int precision,
                                                 const laudc_cuda_device* device, char* error, size_t error_size);
LAUDC_CUDA_API void laudc_cuda_destroy(laudc_cuda_run* run);

LAUDC_CUDA_API int64_t laudc_cuda_blocks(const laudc_cuda_run* run);
LAUDC_CUDA_API laudc_cuda_shape laudc_cuda_x_shape(const laudc_cuda_run* run);
LAUDC_CUDA_API laudc_cuda_shape laudc_cuda_y_shape(const laudc_cuda_run* run);
LAUDC_CUDA_API int64_t laudc_cuda_margins(const laudc_cuda_run* run); /* decisions per image */
LAUDC_CUDA_API int64_t laudc_cuda_packed_floats(const laudc_cuda_run* run,
                                                int64_t block); /* size of one packed initializer */
LAUDC_CUDA_API size_t laudc_cuda_workspace_bytes(const laudc_cuda_run* run,
                                                 int64_t batch); /* 0: this batch is too large */

/* Kernels may need some weights in another form (in fp16, and for channel masks). It is made once: by asynchronous work
 * on `stream`, which later work must come after. `packed` is that of laudc_cuda_io. */
LAUDC_CUDA_API size_t laudc_cuda_prepared_bytes(const laudc_cuda_run* run);
LAUDC_CUDA_API int laudc_cuda_prepare(const laudc_cuda_run* run, const float* const* packed, void* prepared,
                                      void* stream, char* error, size_t error_size);

/* Queues the run on `stream` (a cudaStream_t) and returns: no synchronisation, no allocation; may be captured into a
 * CUDA graph. 0 on success. */
LAUDC_CUDA_API int laudc_cuda_enqueue(const laudc_cuda_run* run, const laudc_cuda_io* io, void* stream, char* error,
                                      size_t error_size);

/* Device memory for what outlives a call. */
LAUDC_CUDA_API int laudc_cuda_allocate(size_t bytes, void** memory, char* error, size_t error_size);
LAUDC_CUDA_API void laudc_cuda_release(void* memory);
/* Whether work queued on the stream is being recorded instead of run. */
LAUDC_CUDA_API int laudc_cuda_is_capturing(void* stream);

#ifdef __cplusplus
}
#endif

#endif
