// Network input: arrays in NumPy's .npy format, and plain pixels in binary PPM files of exactly the network's size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "json.h"
#include "manifest.h"

namespace laudc {
namespace runner {

struct Images {
  int64_t count = 0;
  std::vector<float> values;  // count x channels x rows x columns, normalised
};

// All images of the files, one after another. .npy: float32, C order, (N,C,H,W) or (C,H,W), already normalised. .ppm:
// P6, normalised here with the mean and std of the manifest's "preprocess". Throws Error.
Images load_images(const std::vector<std::string>& files, const Manifest& manifest, const Json& preprocess);

// Smooth blobs with a little noise, always the same: for timing only, their activation rates mean nothing.
Images generate_images(int64_t count, const Manifest& manifest);

// `count` images starting at image `first`, going round.
std::vector<float> batch_of(const Images& images, int64_t first, int64_t count, int64_t values_per_image);

// float32 array in .npy format.
std::vector<char> encode_npy(const std::vector<float>& values, const std::vector<int64_t>& shape);

}  // namespace runner
}  // namespace laudc
