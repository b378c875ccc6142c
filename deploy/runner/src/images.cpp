#include "images.h"

#include <cctype>
#include <cmath>
#include <cstring>
#include <random>

#include "error.h"
#include "files.h"

namespace laudc {
namespace runner {

namespace {

constexpr int64_t kMaxImages = 4096;

Error bad_file(const std::string& path, const std::string& why, const Manifest& m) {
  const std::string size =
      std::to_string(m.image[0]) + "," + std::to_string(m.image[1]) + "," + std::to_string(m.image[2]);
  return Error("cannot use " + path + " as input", why,
               "Give a float32 .npy array of shape (N," + size + "), or a binary .ppm of " +
                   std::to_string(m.image[2]) + "x" + std::to_string(m.image[1]) +
                   " pixels (ffmpeg -i PHOTO -vf scale=" + std::to_string(m.image[2]) + ":" +
                   std::to_string(m.image[1]) + " OUT.ppm)");
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The value behind a key of the header's dictionary, up to the comma or bracket that ends it.
std::string header_value(const std::string& header, const std::string& key) {
  size_t at = header.find("'" + key + "'");
  if (at == std::string::npos) return "";
  at = header.find(':', at);
  if (at == std::string::npos) return "";
  ++at;
  while (at < header.size() && header[at] == ' ') ++at;
  const char stop = at < header.size() && header[at] == '(' ? ')' : ',';
  const size_t end = header.find(stop, at);
  return end == std::string::npos ? "" : header.substr(at, end - at + (stop == ')' ? 1 : 0));
}

std::vector<int64_t> parse_shape(const std::string& text) {
  std::vector<int64_t> shape;
  for (size_t at = 0; at < text.size();) {
    if (!std::isdigit(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    int64_t number = 0;
    while (at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])) && number < (int64_t{1} << 40)) {
      number = number * 10 + (text[at++] - '0');
    }
    shape.push_back(number);
  }
  return shape;
}

void append_npy(const std::string& path, const Manifest& m, Images* images) {
  const std::vector<char> bytes = read_file(path);
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) {
    throw bad_file(path, "it is not a .npy file", m);
  }
  const bool old = bytes[6] == 1;
  const size_t start = old ? 10 : 12;
  size_t length = 0;
  for (size_t i = start; i-- > 8;) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  if (start + length > bytes.size()) throw bad_file(path, "its header is cut off", m);
  const std::string header(bytes.data() + start, length);
  const std::string kind = header_value(header, "descr");
  if (kind != "'<f4'") throw bad_file(path, "its elements are " + (kind.empty() ? "unknown" : kind) + ", not '<f4'", m);
  if (header_value(header, "fortran_order") != "False") throw bad_file(path, "it is in Fortran order", m);
  std::vector<int64_t> shape = parse_shape(header_value(header, "shape"));
  if (shape.size() == 3) shape.insert(shape.begin(), 1);
  if (shape.size() != 4 || shape[1] != m.image[0] || shape[2] != m.image[1] || shape[3] != m.image[2] || shape[0] < 1 ||
      shape[0] > kMaxImages) {
    throw bad_file(path, "its shape is " + header_value(header, "shape"), m);
  }
  const size_t wanted = static_cast<size_t>(shape[0] * m.values_per_image());
  if (bytes.size() - start - length != wanted * sizeof(float)) throw bad_file(path, "its data is cut off", m);
  const size_t before = images->values.size();
  images->values.resize(before + wanted);
  std::memcpy(images->values.data() + before, bytes.data() + start + length, wanted * sizeof(float));
  images->count += shape[0];
}

// The numbers of a PPM header, separated by white space and comments.
bool header_number(const std::vector<char>& bytes, size_t* at, int64_t* number) {
  while (*at < bytes.size() && (std::isspace(static_cast<unsigned char>(bytes[*at])) || bytes[*at] == '#')) {
    if (bytes[*at] == '#') {
      while (*at < bytes.size() && bytes[*at] != '\n') ++*at;
    } else {
      ++*at;
    }
  }
  const size_t start = *at;
  *number = 0;
  while (*at < bytes.size() && std::isdigit(static_cast<unsigned char>(bytes[*at])) && *number < 1000000) {
    *number = *number * 10 + (bytes[(*at)++] - '0');
  }
  return *at > start;
}

std::vector<float> channel_values(const Json& preprocess, const char* key, std::vector<float> values) {
  const Json* given = preprocess.find(key);
  if (given == nullptr || given->is_null()) return values;
  if (given->items().size() != 3) throw JsonError(std::string("field 'preprocess.") + key + "' has not 3 numbers");
  for (size_t i = 0; i < 3; ++i) values[i] = static_cast<float>(given->items()[i].as_double());
  return values;
}

void append_ppm(const std::string& path, const Manifest& m, const Json& preprocess, Images* images) {
  const std::vector<char> bytes = read_file(path);
  size_t at = 2;
  int64_t width = 0, height = 0, largest = 0;
  if (bytes.size() < 2 || bytes[0] != 'P' || bytes[1] != '6' || !header_number(bytes, &at, &width) ||
      !header_number(bytes, &at, &height) || !header_number(bytes, &at, &largest)) {
    throw bad_file(path, "it is not a binary PPM file", m);
  }
  ++at;  // exactly one white space character before the pixels
  if (m.image[0] != 3 || width != m.image[2] || height != m.image[1] || largest != 255) {
    throw bad_file(path,
                   "it has " + std::to_string(width) + "x" + std::to_string(height) + " pixels of up to " +
                       std::to_string(largest),
                   m);
  }
  const size_t plane = static_cast<size_t>(width * height);
  if (bytes.size() < at + 3 * plane) throw bad_file(path, "its pixels are cut off", m);
  std::vector<float> mean, std_dev;
  try {  // ImageNet's, as in Python, where the manifest does not say
    mean = channel_values(preprocess, "mean", {0.485f, 0.456f, 0.406f});
    std_dev = channel_values(preprocess, "std", {0.229f, 0.224f, 0.225f});
  } catch (const JsonError& error) {
    throw bad_file(path, error.what(), m);
  }
  const size_t before = images->values.size();
  images->values.resize(before + 3 * plane);
  float* out = images->values.data() + before;
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t pixel = 0; pixel < plane; ++pixel) {
      const float value = static_cast<float>(static_cast<unsigned char>(bytes[at + 3 * pixel + channel])) / 255.0f;
      out[channel * plane + pixel] = (value - mean[channel]) / std_dev[channel];
    }
  }
  images->count += 1;
}

}  // namespace

Images load_images(const std::vector<std::string>& files, const Manifest& manifest, const Json& preprocess) {
  Images images;
  for (const std::string& file : files) {
    if (ends_with(file, ".npy")) {
      append_npy(file, manifest, &images);
    } else if (ends_with(file, ".ppm")) {
      append_ppm(file, manifest, preprocess, &images);
    } else {
      throw bad_file(file, "its name ends neither in .npy nor in .ppm", manifest);
    }
    if (images.count > kMaxImages) throw bad_file(file, "more than 4096 images", manifest);
  }
  return images;
}

Images generate_images(int64_t count, const Manifest& manifest) {
  Images images;
  images.count = count;
  images.values.reserve(static_cast<size_t>(count * manifest.values_per_image()));
  std::mt19937 random(0);
  const auto real = [&random] { return static_cast<float>(random() >> 8) / 8388608.0f - 1.0f; };
  for (int64_t map = 0; map < count * manifest.image[0]; ++map) {
    float coarse[4][4];
    for (auto& row : coarse) {
      for (float& value : row) value = 2.0f * real();
    }
    for (int64_t y = 0; y < manifest.image[1]; ++y) {
      const float v = 3.0f * static_cast<float>(y) / static_cast<float>(manifest.image[1]);
      const int top = static_cast<int>(v);
      for (int64_t x = 0; x < manifest.image[2]; ++x) {
        const float u = 3.0f * static_cast<float>(x) / static_cast<float>(manifest.image[2]);
        const int left = static_cast<int>(u);
        const float a = u - static_cast<float>(left), b = v - static_cast<float>(top);
        const float smooth = (1 - b) * ((1 - a) * coarse[top][left] + a * coarse[top][left + 1]) +
                             b * ((1 - a) * coarse[top + 1][left] + a * coarse[top + 1][left + 1]);
        images.values.push_back(smooth + 0.1f * real());
      }
    }
  }
  return images;
}

std::vector<float> batch_of(const Images& images, int64_t first, int64_t count, int64_t values_per_image) {
  std::vector<float> batch;
  batch.reserve(static_cast<size_t>(count * values_per_image));
  for (int64_t i = 0; i < count; ++i) {
    const float* image = images.values.data() + (first + i) % images.count * values_per_image;
    batch.insert(batch.end(), image, image + values_per_image);
  }
  return batch;
}

std::vector<char> encode_npy(const std::vector<float>& values, const std::vector<int64_t>& shape) {
  std::string dims;
  for (int64_t size : shape) dims += std::to_string(size) + ", ";
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + dims + "), }";
  const size_t unpadded = 10 + header.size() + 1;
  header.append((64 - unpadded % 64) % 64, ' ');
  header.push_back('\n');
  std::string out("\x93NUMPY\x01\x00", 8);
  out.push_back(static_cast<char>(header.size() & 255));
  out.push_back(static_cast<char>(header.size() >> 8));
  out += header;
  std::vector<char> bytes(out.begin(), out.end());
  const char* data = reinterpret_cast<const char*>(values.data());
  bytes.insert(bytes.end(), data, data + values.size() * sizeof(float));
  return bytes;
}

}  // namespace runner
}  // namespace laudc
