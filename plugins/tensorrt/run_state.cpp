#include "tensorrt/run_state.h"

#include <cstdio>
#include <cstring>

#include "core/block_desc.h"

namespace laudc {
namespace trt {
namespace {

// Serialised: the header, the records as int64, the checksum of all of that. Little endian, as every device that
// TensorRT runs on.
constexpr char kMagic[8] = {'L', 'A', 'U', 'D', 'C', 'R', 'U', 'N'};
constexpr uint32_t kFormat = 2;
constexpr size_t kMaxRecords = 1 << 20;

struct Header {
  char magic[8];
  char op[16];  // padded with zeros
  uint32_t format;
  uint32_t abi;
  uint32_t precision;
  uint32_t record_count;
};
static_assert(sizeof(Header) == 40, "no padding");

uint32_t crc32(const uint8_t* data, size_t size) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

std::string rebuild(const std::string& what) { return what + "; build the engine again"; }

const FieldView* find(const std::vector<FieldView>& fields, const char* name) {
  for (const FieldView& field : fields) {
    if (field.name != nullptr && std::strcmp(field.name, name) == 0) return &field;
  }
  return nullptr;
}

// Data may lie anywhere: copied, not pointed at.
bool integers(const FieldView& field, std::vector<int64_t>* values, std::string* error) {
  const bool wide = field.type == FieldView::Type::kInt64;
  if (field.length < 0 || static_cast<size_t>(field.length) > kMaxRecords ||
      (field.length > 0 && field.data == nullptr) || (!wide && field.type != FieldView::Type::kInt32)) {
    *error = std::string("attribute ") + field.name + " does not hold integers";
    return false;
  }
  const uint8_t* from = static_cast<const uint8_t*>(field.data);
  values->clear();
  for (int32_t i = 0; i < field.length; ++i) {
    int64_t value = 0;
    int32_t narrow = 0;
    if (wide) {
      std::memcpy(&value, from + 8 * static_cast<size_t>(i), 8);
    } else {
      std::memcpy(&narrow, from + 4 * static_cast<size_t>(i), 4);
      value = narrow;
    }
    values->push_back(value);
  }
  return true;
}

bool integer(const std::vector<FieldView>& fields, const char* name, int64_t* value, std::string* error) {
  const FieldView* field = find(fields, name);
  std::vector<int64_t> values;
  if (field == nullptr) {
    *error = std::string("attribute ") + name + " is missing";
    return false;
  }
  if (!integers(*field, &values, error)) return false;
  if (values.size() != 1) {
    *error = std::string("attribute ") + name + " is not one integer";
    return false;
  }
  *value = values[0];
  return true;
}

bool right_abi(int64_t abi, std::string* error) {
  if (abi == kAbiVersion) return true;
  *error = rebuild("the model was scheduled for laudc ABI " + std::to_string(abi) + ", this plugin has ABI " +
                   std::to_string(kAbiVersion));
  return false;
}

}  // namespace

bool read_fields(const std::string& op, const std::vector<FieldView>& fields, RunState* state, std::string* error) {
  const FieldView* stored = find(fields, kStateField);
  if (stored != nullptr) {
    if (stored->type != FieldView::Type::kBytes || stored->length < 0) {
      *error = rebuild("the stored state of the plugin is not a byte string");
      return false;
    }
    if (!deserialize(stored->data, static_cast<size_t>(stored->length), state, error)) return false;
    if (state->op == op) return true;
    *error = rebuild("the stored state is that of a " + state->op + ", not of a " + op);
    return false;
  }
  int64_t abi = 0, precision = 0;
  if (!integer(fields, kAbiField, &abi, error) || !right_abi(abi, error)) return false;
  if (find(fields, kPrecisionField) != nullptr && !integer(fields, kPrecisionField, &precision, error)) return false;
  const FieldView* blocks = find(fields, kBlocksField);
  if (blocks == nullptr) {
    *error = "attribute blocks is missing";
    return false;
  }
  if (precision < 0 || precision > 2) {
    *error = "precision is " + std::to_string(precision) + ", not 0 (fp32), 1 (tf32) or 2 (fp16)";
    return false;
  }
  state->op = op;
  state->precision = static_cast<int>(precision);
  return integers(*blocks, &state->records, error);
}

std::vector<uint8_t> serialize(const RunState& state) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  state.op.copy(header.op, sizeof(header.op) - 1);
  header.format = kFormat;
  header.abi = static_cast<uint32_t>(kAbiVersion);
  header.precision = static_cast<uint32_t>(state.precision);
  header.record_count = static_cast<uint32_t>(state.records.size());
  const size_t record_bytes = state.records.size() * sizeof(int64_t);
  std::vector<uint8_t> out(sizeof(header) + record_bytes + sizeof(uint32_t));
  std::memcpy(out.data(), &header, sizeof(header));
  if (record_bytes > 0) std::memcpy(out.data() + sizeof(header), state.records.data(), record_bytes);
  const uint32_t crc = crc32(out.data(), out.size() - sizeof(uint32_t));
  std::memcpy(out.data() + out.size() - sizeof(crc), &crc, sizeof(crc));
  return out;
}

bool deserialize(const void* data, size_t size, RunState* state, std::string* error) {
  Header header;
  uint32_t crc = 0;
  if (data == nullptr || size < sizeof(header) + sizeof(crc)) {
    *error = rebuild("the stored state of the plugin is cut off after " + std::to_string(size) + " bytes");
    return false;
  }
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  std::memcpy(&header, bytes, sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    *error = rebuild("the stored state was not written by this plugin");
    return false;
  }
  if (header.format != kFormat) {
    *error = rebuild("the stored state has format " + std::to_string(header.format) + ", this plugin reads format " +
                     std::to_string(kFormat));
    return false;
  }
  const size_t wanted = sizeof(header) + static_cast<size_t>(header.record_count) * sizeof(int64_t) + sizeof(crc);
  if (header.record_count > kMaxRecords || size != wanted) {
    *error =
        rebuild("the stored state of the plugin has " + std::to_string(size) + " bytes, not " + std::to_string(wanted));
    return false;
  }
  std::memcpy(&crc, bytes + size - sizeof(crc), sizeof(crc));
  if (crc != crc32(bytes, size - sizeof(crc))) {
    *error = rebuild("the stored state of the plugin is damaged");
    return false;
  }
  if (!right_abi(header.abi, error)) return false;
  state->op.assign(header.op, strnlen(header.op, sizeof(header.op)));
  state->precision = static_cast<int>(header.precision);
  state->records.resize(header.record_count);
  if (header.record_count > 0) std::memcpy(state->records.data(), bytes + sizeof(header), 8 * state->records.size());
  return true;
}

std::string fingerprint(const RunState& state) {
  // FNV-1a: collisions of two states of one network are out of the question at 64 bits.
  uint64_t hash = 0xcbf29ce484222325u;
  for (const uint8_t byte : serialize(state)) hash = (hash ^ byte) * 0x100000001b3u;
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace trt
}  // namespace laudc
