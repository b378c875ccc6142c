// What TensorRT and the lowering know the plugin by.
#pragma once

namespace laudc {
namespace trt {

constexpr char kPluginName[] = "BottleneckRun";
constexpr char kPluginVersion[] = "1";
constexpr char kPluginNamespace[] = "laudc";

}  // namespace trt
}  // namespace laudc
