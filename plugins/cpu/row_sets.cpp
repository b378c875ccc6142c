#include "cpu/row_sets.h"

#include <algorithm>

#include "core/index_lists.h"
#include "core/packed_layout.h"

namespace laudc {
namespace cpu {
namespace {

bool winograd(const BlockDesc& d) { return d.conv2_algo == Conv2Algo::kWinograd2x2; }

int list_size(const std::vector<int32_t>& list) { return static_cast<int>(list.size()); }

// Appends to a list without a branch per entry: masks are too irregular to predict.
template <class T>
class Filler {
 public:
  Filler(std::vector<T>* list, int most) : list_(list), next_(list->size()) {
    list->resize(next_ + static_cast<size_t>(most) + 1);
  }
  void add(int64_t value, bool wanted) {
    (*list_)[next_] = static_cast<T>(value);
    next_ += wanted ? 1 : 0;
  }
  void finish() { list_->resize(next_); }

 private:
  std::vector<T>* list_;
  size_t next_;
};

class Appender {
 public:
  Appender(const BlockDesc& d, const BlockGeometry& g, const MapStrides& s, int sample, RowSets* out)
      : d_(d), g_(g), s_(s), sample_(sample), out_(out) {}

  // For a sample of which nothing is wanted.
  void nothing() {
    const auto none_of = [](const std::vector<int32_t>& list) { return SampleRange{list_size(list), list_size(list)}; };
    out_->conv1_samples.push_back(none_of(out_->conv1_in));
    if (winograd(d_)) {
      out_->tile_samples.push_back(none_of(out_->tile_in));
    } else {
      out_->conv2_samples.push_back(none_of(out_->conv2_in));
    }
    for (RowSets::Conv3& part : out_->conv3) part.samples.push_back(none_of(part.in));
  }

  void conv1(const uint8_t* needed) {
    const int begin = list_size(out_->conv1_in);
    const int64_t in_base = static_cast<int64_t>(sample_) * d_.hin * d_.win * s_.in_pixel;
    const int64_t h1_base = sample_ * s_.h1_sample + s_.h1_row + s_.h1_pixel;
    Filler<int32_t> in(&out_->conv1_in, d_.hin * d_.win), to(&out_->conv1_out, d_.hin * d_.win);
    for (int y = 0; y < d_.hin; ++y) {
      for (int x = 0; x < d_.win; ++x) {
        const int p = y * d_.win + x;
        in.add(in_base + p * s_.in_pixel, needed[p] != 0);
        to.add(h1_base + y * s_.h1_row + x * s_.h1_pixel, needed[p] != 0);
      }
    }
    in.finish();
    to.finish();
    out_->conv1_samples.push_back({begin, list_size(out_->conv1_in)});
  }

  // Gives every wanted pixel its place in h2, in list order; `h2_of` maps pixel -> h2 offset or -1.
  void conv2_direct(const uint8_t* wanted, std::vector<int32_t>* h2_of) {
    const int begin = list_size(out_->conv2_in);
    const int64_t base = sample_ * s_.h1_sample;
    const int pixels = d_.hout() * d_.wout();
    Filler<int32_t> in(&out_->conv2_in, pixels);
    for (int y = 0; y < d_.hout(); ++y) {
      for (int x = 0; x < d_.wout(); ++x) {
        const int p = y * d_.wout() + x;
        const bool computed = wanted[p] != 0;
        // Where `wanted` is false this is never read.
        (*h2_of)[static_cast<size_t>(p)] = static_cast<int32_t>(out_->h2_rows * s_.h2_pixel);
        out_->h2_rows += computed ? 1 : 0;
        in.add(base + y * d_.stride * s_.h1_row + x * d_.stride * s_.h1_pixel, computed);
      }
    }
    in.finish();
    if (!g_.border_classes.empty()) {
      Filler<uint8_t> classes(&out_->conv2_class, pixels);
      for (int p = 0; p < pixels; ++p) classes.add(g_.border_classes[static_cast<size_t>(p)], wanted[p] != 0);
      classes.finish();
    }
    out_->conv2_samples.push_back({begin, list_size(out_->conv2_in)});
  }

  void conv2_tiles(const uint8_t* wanted, const uint8_t* grown, std::vector<int32_t>* h2_of) {
    const int begin = list_size(out_->tile_in);
    const int64_t base = sample_ * s_.h1_sample;
    for (int y = 0; y < d_.hout(); y += 2) {
      for (int x = 0; x < d_.wout(); x += 2) {
        if (!grown[y * d_.wout() + x]) continue;
        out_->tile_in.push_back(static_cast<int32_t>(base + y * s_.h1_row + x * s_.h1_pixel));
        for (int i = 0; i < 4; ++i) tile_pixel(y + i / 2, x + i % 2, wanted, h2_of);
      }
    }
    out_->tile_samples.push_back({begin, list_size(out_->tile_in)});
  }

  void conv3(int part, const uint8_t* kept, const std::vector<int32_t>& h2_of) {
    RowSets::Conv3& rows = out_->conv3[static_cast<size_t>(part)];
    const int begin = list_size(rows.in);
    const int pixels = d_.hout() * d_.wout();
    const int64_t out_base = static_cast<int64_t>(sample_) * pixels * s_.out_pixel;
    Filler<int32_t> in(&rows.in, pixels), to(&rows.out, pixels);
    for (int p = 0; p < pixels; ++p) {
      in.add(h2_of[static_cast<size_t>(p)], kept[p] != 0);
      to.add(out_base + p * s_.out_pixel, kept[p] != 0);
    }
    in.finish();
    to.finish();
    rows.samples.push_back({begin, list_size(rows.in)});
  }

  void projection(const uint8_t* wanted) {
    const int pixels = d_.hout() * d_.wout();
    const int64_t in_base = static_cast<int64_t>(sample_) * d_.hin * d_.win * s_.in_pixel;
    const int64_t out_base = static_cast<int64_t>(sample_) * pixels * s_.out_pixel;
    for (const bool kind : {false, true}) {
      Filler<int32_t> in(&out_->proj_in[kind], pixels), to(&out_->proj_out[kind], pixels);
      for (int y = 0; y < d_.hout(); ++y) {
        for (int x = 0; x < d_.wout(); ++x) {
          const int p = y * d_.wout() + x;
          const int64_t source = static_cast<int64_t>(y) * d_.stride * d_.win + x * d_.stride;
          in.add(in_base + source * s_.in_pixel, (wanted[p] != 0) == kind);
          to.add(out_base + p * s_.out_pixel, (wanted[p] != 0) == kind);
        }
      }
      in.finish();
      to.finish();
    }
  }

  void late_relu(int part, const uint8_t* wanted, const uint8_t* kept) {
    const int pixels = d_.hout() * d_.wout();
    const int64_t out_base = static_cast<int64_t>(sample_) * pixels * s_.out_pixel;
    std::vector<int32_t>& list = out_->conv3[static_cast<size_t>(part)].dropped;
    for (int p = 0; p < pixels; ++p) {
      if (wanted[p] && !kept[p]) list.push_back(static_cast<int32_t>(out_base + p * s_.out_pixel));
    }
  }

 private:
  void tile_pixel(int y, int x, const uint8_t* wanted, std::vector<int32_t>* h2_of) {
    int32_t row = -1;
    uint8_t cls = 0;
    if (y < d_.hout() && x < d_.wout()) {
      const int p = y * d_.wout() + x;
      if (wanted[p]) row = (*h2_of)[static_cast<size_t>(p)] = static_cast<int32_t>(out_->h2_rows++ * s_.h2_pixel);
      if (!g_.border_classes.empty()) cls = g_.border_classes[static_cast<size_t>(p)];
    }
    out_->tile_out.push_back(row);
    if (!g_.border_classes.empty()) out_->tile_class.push_back(cls);
  }

  const BlockDesc& d_;
  const BlockGeometry& g_;
  const MapStrides& s_;
  const int sample_;
  RowSets* out_;
};

}  // namespace

MapStrides map_strides(const BlockDesc& d, int64_t in_pixel) {
  MapStrides s;
  s.in_pixel = in_pixel;
  s.h1_pixel = round_up(d.width, kAlign);
  s.h1_row = (d.win + 3) * s.h1_pixel;
  s.h1_sample = (d.hin + 3) * s.h1_row;
  s.h2_pixel = s.h1_pixel;
  s.out_pixel = round_up(d.cout, kAlign);
  return s;
}

BlockGeometry::BlockGeometry(const BlockDesc& d) {
  if (d.spatial()) {
    row_lut = nearest_lut(d.mask_h, d.hout());
    col_lut = nearest_lut(d.mask_w, d.wout());
  }
  if (d.channel()) {
    for (int y = 0; y < d.hout(); ++y) {
      for (int x = 0; x < d.wout(); ++x) {
        border_classes.push_back(static_cast<uint8_t>(border_class(y, x, d.stride, d.hin, d.win)));
      }
    }
  }
}

void RowSets::clear(const BlockDesc& desc) {
  for (auto* list :
       {&conv1_in, &conv1_out, &conv2_in, &tile_in, &tile_out, &proj_in[0], &proj_in[1], &proj_out[0], &proj_out[1]}) {
    list->clear();
  }
  conv2_class.clear();
  tile_class.clear();
  conv1_samples.clear();
  conv2_samples.clear();
  tile_samples.clear();
  h2_rows = 0;
  conv3.resize(static_cast<size_t>(desc.conv3_parts()));
  for (Conv3& part : conv3) {
    part.in.clear();
    part.out.clear();
    part.dropped.clear();
    part.samples.clear();
  }
}

void append_rows(const BlockDesc& d, const BlockGeometry& geometry, const MapStrides& strides, int sample,
                 const uint8_t* keep, RowSetScratch* scratch, RowSets* out) {
  const int cells = d.mask_h * d.mask_w;
  Appender append(d, geometry, strides, sample, out);
  // A skipped block must cost no more than its masker. With a projection every pixel is computed all the same.
  if (d.spatial() && !d.projection && std::count(keep, keep + d.mask_groups * cells, 0) == d.mask_groups * cells) {
    return append.nothing();
  }
  const size_t pixels_out = static_cast<size_t>(d.hout()) * d.wout();
  const size_t pixels_in = static_cast<size_t>(d.hin) * d.win;
  scratch->wanted.assign(pixels_out, d.spatial() ? 0 : 1);
  for (int g = 0; g < d.mask_groups; ++g) {
    upsample_or(keep + g * cells, d.mask_w, geometry.row_lut, geometry.col_lut, scratch->wanted.data());
  }
  const uint8_t* wanted = scratch->wanted.data();

  // Winograd tiles are computed whole, so conv1 must cover every pixel their windows read.
  const uint8_t* computed = wanted;
  if (winograd(d)) {
    scratch->grown.resize(pixels_out);
    grow_to_tiles(wanted, d.hout(), d.wout(), scratch->grown.data());
    computed = scratch->grown.data();
  }
  scratch->needed.resize(pixels_in);
  scratch->rows.resize(static_cast<size_t>(d.hin) * d.wout());
  dilate(computed, d.hout(), d.wout(), d.stride, d.hin, d.win, scratch->rows.data(), scratch->needed.data());

  std::vector<int32_t>& h2_of = scratch->h2_of;
  h2_of.assign(pixels_out, -1);
  append.conv1(scratch->needed.data());
  if (winograd(d)) {
    append.conv2_tiles(wanted, computed, &h2_of);
  } else {
    append.conv2_direct(wanted, &h2_of);
  }
  if (d.projection) append.projection(wanted);
  if (d.mask_groups <= 1) {
    append.conv3(0, wanted, h2_of);
    return;
  }
  for (int g = 0; g < d.mask_groups; ++g) {
    scratch->group.assign(pixels_out, 0);
    upsample_or(keep + g * cells, d.mask_w, geometry.row_lut, geometry.col_lut, scratch->group.data());
    append.conv3(g, scratch->group.data(), h2_of);
    if (d.projection) append.late_relu(g, wanted, scratch->group.data());
  }
}

}  // namespace cpu
}  // namespace laudc
