// Everything that makes one plugin instance: what the node's attributes say, and its form inside an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace laudc {
namespace trt {

struct RunState {
  std::string op;                // the scheduled op, which is the plugin's name
  std::vector<int64_t> records;  // the `blocks` attribute
  int precision = 0;
};

// One attribute as TensorRT hands it over.
struct FieldView {
  enum class Type { kInt32, kInt64, kBytes, kOther };
  const char* name;
  const void* data;
  Type type;
  int32_t length;  // elements
};

// Names of the fields: ONNX attributes, and the one that an engine stores instead.
constexpr char kAbiField[] = "abi";
constexpr char kBlocksField[] = "blocks";
constexpr char kPrecisionField[] = "precision";
constexpr char kStateField[] = "state";

// From the attributes of a node of that op, or from an engine's `state`. False and a sentence in `error` if they make
// no run of the op.
bool read_fields(const std::string& op, const std::vector<FieldView>& fields, RunState* state, std::string* error);

// The form inside an engine. Any byte missing, added or changed is found.
std::vector<uint8_t> serialize(const RunState& state);
bool deserialize(const void* data, size_t size, RunState* state, std::string* error);

// Names the computation: equal for equal states, different for others.
std::string fingerprint(const RunState& state);

}  // namespace trt
}  // namespace laudc
