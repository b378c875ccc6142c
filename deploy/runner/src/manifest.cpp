#include "manifest.h"

#include "error.h"

namespace laudc {
namespace runner {

namespace {

int64_t positive(const Json& value, const char* field) {
  const int64_t number = value.as_int();
  if (number < 1 || number > (int64_t{1} << 31)) throw JsonError(std::string("field '") + field + "' is out of range");
  return number;
}

int64_t count_of(const Json& record, const char* field) {
  const Json* value = record.find(field);
  return value == nullptr || value->is_null() ? 0 : value->as_int();
}

BlockInfo read_block(const Json& block) {
  BlockInfo info;
  info.name = block.get("name").as_string();
  info.execution = block.get("execution").as_string();
  info.reason = block.get("reason").as_string();
  const Json* record = block.find("record");
  if (record != nullptr && !record->is_null()) {
    info.mask_cells = count_of(*record, "mask_groups") * count_of(*record, "mask_h") * count_of(*record, "mask_w");
    info.groups = count_of(*record, "channel_groups");
  }
  return info;
}

}  // namespace

Manifest::Manifest(const Bundle& bundle) {
  const Json& root = bundle.manifest();
  try {
    const Json& backend = root.get("backend");
    device = root.get("device").get("id").as_string();
    if (backend.get("name").as_string() != "tensorrt") {
      throw Error(bundle.path() + " is no engine for TensorRT",
                  "it was built for " + backend.get("name").as_string() + " on " + device,
                  "Run it with laudc itself: laudc run " + bundle.path() + " IMAGE");
    }
    tensorrt = backend.get("version").as_string();
    const Json* state = root.find("compiled");
    compiled = state == nullptr || state->as_bool();
    if (compiled != bundle.has(kPlanMember)) throw JsonError("field 'compiled' does not fit its members");
    precision = root.get("precision").as_string();
    arch = root.get("arch").as_string();
    abi = root.get("native_library").get("abi").as_int();
    const Json& input = root.get("input");
    input_name = input.get("name").as_string();
    const std::vector<Json>& shape = input.get("shape").items();
    if (shape.size() != 4) throw JsonError("field 'input.shape' has not 4 dimensions");
    for (size_t i = 0; i < 3; ++i) image[i] = positive(shape[i + 1], "input.shape");
    const Json& request = root.get("request");
    const std::vector<Json>& wanted = request.get("batch").items();
    if (wanted.size() != 3) throw JsonError("field 'request.batch' has not 3 numbers");
    for (size_t i = 0; i < 3; ++i) batch[i] = positive(wanted[i], "request.batch");
    if (batch[0] > batch[1] || batch[1] > batch[2]) throw JsonError("field 'request.batch' is not in order");
    workspace_mib = positive(request.get("workspace_mib"), "request.workspace_mib");
    for (const Json& block : root.get("schedule").get("blocks").items()) blocks.push_back(read_block(block));
    if (compiled) {
      const Json& record = root.get("gpu");
      gpu = Gpu{record.get("name").as_string(), record.get("sm").as_string(), record.get("cuda").as_string(),
                record.get("driver").as_string()};
    }
  } catch (const JsonError& error) {
    throw Error(bundle.path() + " is not an intact engine", std::string("its manifest is not valid: ") + error.what(),
                "Build it again with laudc build-engine");
  }
}

size_t Manifest::sparse_blocks() const {
  size_t count = 0;
  for (const BlockInfo& block : blocks) count += block.execution == "sparse" ? 1 : 0;
  return count;
}

std::string rebuild_command(const std::string& path) { return "laudc-runner build " + path + " -o " + path; }

}  // namespace runner
}  // namespace laudc
