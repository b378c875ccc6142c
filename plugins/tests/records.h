// Records of blocks as they travel in the `blocks` attribute.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "core/block_desc.h"
#include "tests/check.h"

namespace laudc {
namespace test {

typedef std::vector<int64_t> Record;

// An identity block with a spatial and a channel mask that every check passes.
inline Record good_record() {
  Record r(kBlockFieldCount, 0);
  r[kCin] = r[kCout] = 32;
  r[kWidth] = 16;
  r[kStride] = 1;
  r[kHin] = 8;
  r[kWin] = 10;
  r[kMaskGroups] = 2;
  r[kMaskH] = 4;
  r[kMaskW] = 5;
  r[kChannelGroups] = 4;
  r[kChannelMasker] = static_cast<int64_t>(ChannelMasker::kMlp);
  r[kMaskerHidden] = 6;
  r[kPanel] = 64;
  return r;
}

inline bool parses(const Record& values, std::string* error, std::vector<BlockDesc>* out) {
  error->clear();
  // An exact heap copy, so that the sanitizer sees a read behind the end.
  const std::vector<int64_t> copy(values.begin(), values.end());
  return parse_blocks(copy.data(), copy.size(), out, error);
}

inline std::string complaint_about(const Record& values) {
  std::string error;
  std::vector<BlockDesc> out;
  return parses(values, &error, &out) ? std::string() : error.empty() ? "(no message)" : error;
}

inline BlockDesc desc_of(const Record& record) {
  std::string error;
  std::vector<BlockDesc> out;
  CHECK(parses(record, &error, &out));
  return out.empty() ? BlockDesc() : out.front();
}

// A record that is consistent more often than not, of sizes up to `side` pixels and `channels` channels.
inline Record random_record(Random* random, int side, int channels) {
  Record r(kBlockFieldCount, 0);
  r[kCin] = random->between(1, channels);
  r[kStride] = random->between(1, 2);
  r[kHin] = random->between(1, side);
  r[kWin] = random->between(1, side);
  r[kProjection] = r[kStride] == 2 || random->coin() ? 1 : 0;
  const int groups = random->between(0, 3);
  r[kCout] =
      groups > 1 ? static_cast<int64_t>(groups) * random->between(1, channels / groups) : random->between(1, channels);
  if (!r[kProjection]) r[kCin] = r[kCout];
  if (groups > 0) {
    r[kMaskGroups] = groups;
    r[kMaskH] = random->between(1, static_cast<int>((r[kHin] - 1) / r[kStride] + 1));
    r[kMaskW] = random->between(1, static_cast<int>((r[kWin] - 1) / r[kStride] + 1));
  }
  const int share = random->between(1, 6);
  r[kWidth] = static_cast<int64_t>(share) * random->between(1, std::max(1, channels / share));
  if (random->coin()) {
    r[kChannelGroups] = r[kWidth] / share;
    r[kChannelMasker] = random->between(1, 3);
    r[kMaskerHidden] = r[kChannelMasker] == 1 ? 0 : random->between(1, 20);
  }
  r[kConv2Algo] = r[kStride] == 1 && random->coin() ? 1 : 0;
  r[kPanel] = 16 * random->between(1, 4);
  return r;
}

}  // namespace test
}  // namespace laudc
