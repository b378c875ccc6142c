// What TensorRT and the lowering know the plugins by.
#pragma once

namespace laudc {
namespace trt {

// One plugin per scheduled op.
constexpr const char* kPluginNames[] = {"BottleneckRun", "RegNetRun", "VitRun"};
constexpr char kPluginVersion[] = "1";
constexpr char kPluginNamespace[] = "laudc";

}  // namespace trt
}  // namespace laudc
