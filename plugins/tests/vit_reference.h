// A transformer block in plain double precision, written from its definition (docs/architecture.md), and the packing of
// its weights, written from the comments of core/vit_desc.h.
#pragma once

#include <cmath>

#include "core/packed_layout.h"
#include "core/vit_desc.h"
#include "tests/reference.h"

namespace laudc {
namespace test {

// A matrix (outputs, inputs) and a bias.
struct VitLayer {
  int outputs = 0, inputs = 0;
  Floats w, b;
  double of(const double* x, int n) const {
    double sum = b[index(n)];
    for (int k = 0; k < inputs; ++k) sum += x[k] * w[index(static_cast<int64_t>(n) * inputs + k)];
    return sum;
  }
};

inline VitLayer layer(int outputs, int inputs, Random* random) {
  VitLayer made;
  made.outputs = outputs;
  made.inputs = inputs;
  made.w = random->reals(index(static_cast<int64_t>(outputs) * inputs), 1.5f / std::sqrt(static_cast<float>(inputs)));
  made.b = random->reals(index(outputs), 0.3f);
  return made;
}

struct VitNorm {
  Floats w, b;
};

struct VitWeights {
  VitNorm norm1, norm2, policy;
  VitLayer token, head, choice, q, k, v, proj, fc1, fc2;
};

inline VitWeights random_vit(const VitDesc& d, Random* random) {
  const auto norm = [&] { return VitNorm{random->reals(index(d.dim)), random->reals(index(d.dim), 0.3f)}; };
  VitWeights w;
  w.norm1 = norm();
  w.norm2 = norm();
  w.policy = norm();
  w.token = layer(1, d.dim, random);
  w.head = layer(d.heads, d.dim, random);
  w.choice = layer(2, d.dim, random);
  w.q = layer(d.dim, d.dim, random);
  w.k = layer(d.dim, d.dim, random);
  w.v = layer(d.dim, d.dim, random);
  w.proj = layer(d.dim, d.dim, random);
  w.fc1 = layer(d.hidden, d.dim, random);
  w.fc2 = layer(d.dim, d.hidden, random);
  return w;
}

inline void put(const Floats& values, int64_t at, Floats* to) {
  std::copy(values.begin(), values.end(), to->begin() + at);
}

// Rows [first, first + columns) of a layer as panels; returns the floats written.
inline int64_t put_panels(const VitLayer& l, int first, int columns, int panel, int64_t at, Floats* to) {
  for (int n = 0; n < columns; ++n) {
    for (int k = 0; k < l.inputs; ++k) {
      const int64_t place = at + (static_cast<int64_t>(n / panel) * l.inputs + k) * panel + n % panel;
      (*to)[index(place)] = l.w[index(static_cast<int64_t>(first + n) * l.inputs + k)];
    }
  }
  return panel_floats(l.inputs, columns, panel);
}

inline Floats pack_vit(const VitDesc& d, const VitWeights& w) {
  const VitLayout l = vit_layout(d);
  Floats out(index(l.total), 0.0f);
  out[index(l.epsilon)] = 1e-5f;
  put(w.norm1.w, l.norm1_w, &out);
  put(w.norm1.b, l.norm1_b, &out);
  put(w.norm2.w, l.norm2_w, &out);
  put(w.norm2.b, l.norm2_b, &out);
  if (d.norm_policy) put(w.policy.w, l.policy_w, &out), put(w.policy.b, l.policy_b, &out);
  if (d.token_policy) put(w.token.w, l.token_w, &out), put(w.token.b, l.token_b, &out);
  if (d.head_policy) put(w.head.w, l.head_w, &out), put(w.head.b, l.head_b, &out);
  if (d.layer_policy) put(w.choice.w, l.layer_w, &out), put(w.choice.b, l.layer_b, &out);
  int64_t at = l.qkv_w, bias = l.qkv_b;
  for (const VitLayer* part : {&w.q, &w.k, &w.v}) {
    for (int h = 0; h < d.heads; ++h) at += put_panels(*part, h * d.head_dim(), d.head_dim(), d.panel, at, &out);
    put(part->b, bias, &out);
    bias += d.dim;
  }
  put_panels(w.proj, 0, d.dim, d.panel, l.proj_w, &out);
  put(w.proj.b, l.proj_b, &out);
  at = l.fc1_w;
  const int columns = d.hidden / d.hidden_parts();
  for (int part = 0; part < d.hidden_parts(); ++part)
    at += put_panels(w.fc1, part * columns, columns, d.panel, at, &out);
  put(w.fc1.b, l.fc1_b, &out);
  put_panels(w.fc2, 0, d.dim, d.panel, l.fc2_w, &out);
  put(w.fc2.b, l.fc2_b, &out);
  return out;
}

inline Doubles normalised(const double* x, const VitNorm& n) {
  const int dim = static_cast<int>(n.w.size());
  double mean = 0, variance = 0;
  for (int i = 0; i < dim; ++i) mean += x[i] / dim;
  for (int i = 0; i < dim; ++i) variance += (x[i] - mean) * (x[i] - mean) / dim;
  Doubles y(index(dim));
  for (int i = 0; i < dim; ++i)
    y[index(i)] = (x[i] - mean) / std::sqrt(variance + 1e-5) * n.w[index(i)] + n.b[index(i)];
  return y;
}

// One block on one image, dense with masks; appends its margins. Decisions follow the run's own margins `made`, so that
// a value at the threshold cannot turn what follows.
inline void reference_vit_block(const VitDesc& d, const VitWeights& w, const float* made, Doubles* x,
                                Doubles* margins) {
  const int dim = d.dim;
  std::vector<Doubles> u;
  for (int t = 0; t < d.tokens; ++t) u.push_back(normalised(x->data() + t * dim, w.norm1));
  const Doubles policy = d.norm_policy ? normalised(x->data(), w.policy) : Doubles(x->begin(), x->begin() + dim);
  for (int t = 1; t < d.tokens && d.token_policy; ++t) margins->push_back(w.token.of(u[index(t)].data(), 0));
  for (int h = 0; h < d.heads && d.head_policy; ++h) margins->push_back(w.head.of(policy.data(), h));
  for (int s = 0; s < 2 && d.layer_policy; ++s) margins->push_back(w.choice.of(policy.data(), s));
  const auto keeps_token = [&](int t) { return t == 0 || !d.token_policy || made[t - 1] > 0; };
  const auto keeps_head = [&](int h) { return !d.head_policy || made[d.token_margins() + h] > 0; };
  const auto is_on = [&](int s) { return !d.layer_policy || made[d.token_margins() + d.head_margins() + s] > 0; };
  const int width = d.head_dim();
  if (is_on(0)) {
    std::vector<Doubles> q, k, v;
    for (int t = 0; t < d.tokens; ++t) {
      q.emplace_back(), k.emplace_back(), v.emplace_back();
      for (int n = 0; n < dim; ++n) {
        q.back().push_back(w.q.of(u[index(t)].data(), n));
        k.back().push_back(w.k.of(u[index(t)].data(), n));
        v.back().push_back(w.v.of(u[index(t)].data(), n));
      }
    }
    for (int t = 0; t < d.tokens; ++t) {
      if (!keeps_token(t)) continue;
      Doubles mixed(index(dim), 0.0);
      for (int h = 0; h < d.heads; ++h) {
        if (!keeps_head(h)) {
          for (int i = h * width; i < (h + 1) * width && d.dropped_heads == DroppedHead::kValues; ++i)
            mixed[index(i)] = v[index(t)][index(i)];
          continue;
        }
        double total = 0;
        for (int s = 0; s < d.tokens; ++s) {
          if (!keeps_token(s)) continue;
          double score = 0;
          for (int i = h * width; i < (h + 1) * width; ++i) score += q[index(t)][index(i)] * k[index(s)][index(i)];
          const double weight = std::exp(score);
          total += weight;
          for (int i = h * width; i < (h + 1) * width; ++i) mixed[index(i)] += weight * v[index(s)][index(i)];
        }
        for (int i = h * width; i < (h + 1) * width; ++i) mixed[index(i)] /= total;
      }
      for (int n = 0; n < dim; ++n) (*x)[index(t * dim + n)] += w.proj.of(mixed.data(), n);
    }
  }
  for (int t = 0; t < d.tokens && is_on(1); ++t) {
    if (d.tokens_in_mlp && !keeps_token(t)) continue;
    Doubles in = normalised(x->data() + t * dim, w.norm2), hidden;
    for (int i = 0; i < dim; ++i) {
      if (d.head_width == MlpWidth::kInputs && !keeps_head(i / width)) in[index(i)] = 0;
    }
    for (int n = 0; n < d.hidden; ++n) {
      const double z = w.fc1.of(in.data(), n);
      const bool left_out = d.head_width == MlpWidth::kOutputs && !keeps_head(n / (d.hidden / d.heads));
      hidden.push_back(left_out ? 0.0 : 0.5 * z * (1 + std::erf(z / std::sqrt(2.0))));
    }
    for (int n = 0; n < dim; ++n) (*x)[index(t * dim + n)] += w.fc2.of(hidden.data(), n);
  }
}

inline VitDesc vit_desc(int tokens, int heads, int width, int hidden, int panel) {
  return {tokens, heads * width, heads, hidden, true, true, true, true, false, DroppedHead::kNothing, MlpWidth::kInputs,
          false,  panel};
}

inline std::vector<VitDesc> vit_variants() {
  std::vector<VitDesc> all;
  const VitDesc base = vit_desc(11, 3, 8, 48, 16);
  all.push_back(base);
  for (const MlpWidth width : {MlpWidth::kFull, MlpWidth::kOutputs}) {
    all.push_back(base);
    all.back().head_width = width;
  }
  all.push_back(base);
  all.back().dropped_heads = DroppedHead::kValues;
  all.back().head_width = MlpWidth::kFull;
  all.push_back(base);
  all.back().tokens_in_mlp = false;
  all.back().norm_policy = true;
  all.push_back(base);
  all.back().token_policy = all.back().tokens_in_mlp = false;
  all.push_back(base);
  all.back().head_policy = false;
  all.back().head_width = MlpWidth::kFull;
  all.push_back(base);
  all.back().layer_policy = false;
  all.push_back(vit_desc(5, 2, 10, 30, 32));
  all.push_back(vit_desc(70, 1, 70, 90, 64));
  return all;
}

}  // namespace test
}  // namespace laudc
