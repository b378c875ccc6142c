// Whole runs of transformer blocks against a plain double-precision reference, and the promises of execute(): results
// that do not depend on the number of threads, on earlier calls, or on calls at the same time.
#include <cmath>
#include <memory>
#include <thread>

#include "core/packed_layout.h"
#include "cpu/vit_run.h"
#include "tests/check.h"
#include "tests/threads.h"

namespace laudc {
namespace test {
namespace {

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

size_t index(int64_t i) { return static_cast<size_t>(i); }

// A matrix (outputs, inputs) and a bias.
struct Layer {
  int outputs = 0, inputs = 0;
  Floats w, b;
  double of(const double* x, int n) const {
    double sum = b[index(n)];
    for (int k = 0; k < inputs; ++k) sum += x[k] * w[index(static_cast<int64_t>(n) * inputs + k)];
    return sum;
  }
};

Layer layer(int outputs, int inputs, Random* random) {
  Layer made;
  made.outputs = outputs;
  made.inputs = inputs;
  made.w = random->reals(index(static_cast<int64_t>(outputs) * inputs), 1.5f / std::sqrt(static_cast<float>(inputs)));
  made.b = random->reals(index(outputs), 0.3f);
  return made;
}

struct Norm {
  Floats w, b;
};

struct Weights {
  Norm norm1, norm2, policy;
  Layer token, head, choice, q, k, v, proj, fc1, fc2;
};

Weights random_weights(const VitDesc& d, Random* random) {
  const auto norm = [&] { return Norm{random->reals(index(d.dim)), random->reals(index(d.dim), 0.3f)}; };
  Weights w;
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

void put(const Floats& values, int64_t at, Floats* to) { std::copy(values.begin(), values.end(), to->begin() + at); }

// Rows [first, first + columns) of a layer as panels; returns the floats written.
int64_t put_panels(const Layer& l, int first, int columns, int panel, int64_t at, Floats* to) {
  for (int n = 0; n < columns; ++n) {
    for (int k = 0; k < l.inputs; ++k) {
      const int64_t place = at + (static_cast<int64_t>(n / panel) * l.inputs + k) * panel + n % panel;
      (*to)[index(place)] = l.w[index(static_cast<int64_t>(first + n) * l.inputs + k)];
    }
  }
  return panel_floats(l.inputs, columns, panel);
}

Floats pack(const VitDesc& d, const Weights& w) {
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
  for (const Layer* part : {&w.q, &w.k, &w.v}) {
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

Doubles normalised(const double* x, const Norm& n) {
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
void reference_block(const VitDesc& d, const Weights& w, const float* made, Doubles* x, Doubles* margins) {
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

struct Results {
  Floats y, margins;
  std::vector<int32_t> counts;
  std::vector<int64_t> block_ns;
};

// A run with random weights, in exact heap copies.
struct Network {
  std::vector<VitDesc> blocks;
  std::vector<Weights> weights;
  std::vector<Floats> packed;
  std::unique_ptr<cpu::VitRun> run;

  Network(const std::vector<VitDesc>& descs, Random* random) : blocks(descs) {
    for (const VitDesc& d : blocks) weights.push_back(random_weights(d, random));
  }

  void build() {
    std::vector<const float*> data;
    std::vector<int64_t> sizes;
    packed.clear();
    for (size_t i = 0; i < blocks.size(); ++i) packed.push_back(pack(blocks[i], weights[i]));
    for (const Floats& p : packed) {
      data.push_back(p.data());
      sizes.push_back(static_cast<int64_t>(p.size()));
    }
    std::string error;
    run = cpu::VitRun::create(blocks, data, sizes, &error);
    CHECK(run != nullptr && error.empty());
  }

  Results execute(const Floats& x, int64_t batch, const cpu::Parallel& parallel) const {
    const int64_t count = run->block_count();
    Results r;
    r.y.resize(index(batch * run->out_tokens() * run->dim()));
    r.margins.resize(index(batch * run->total_margins()));
    r.counts.resize(index(batch * count * cpu::kVitCountsPerBlock));
    r.block_ns.resize(index(count));
    run->execute(x.data(), batch, parallel, {r.y.data(), r.counts.data(), r.margins.data(), r.block_ns.data()});
    return r;
  }

  void check(const Floats& x, int64_t batch, const Results& r) const {
    const int64_t floats = static_cast<int64_t>(run->tokens()) * run->dim();
    const int64_t wanted = static_cast<int64_t>(run->out_tokens()) * run->dim();
    for (int64_t s = 0; s < batch; ++s) {
      Doubles stream(x.begin() + s * floats, x.begin() + (s + 1) * floats), margins;
      const float* made = r.margins.data() + s * run->total_margins();
      for (size_t i = 0; i < blocks.size(); ++i) {
        reference_block(blocks[i], weights[i], made + margins.size(), &stream, &margins);
      }
      for (size_t i = 0; i < margins.size(); ++i) CHECK_NEAR(made[i], margins[i], 2e-4);
      for (int64_t i = 0; i < wanted; ++i)
        CHECK_NEAR(r.y[index(s * wanted + i)], stream[index(i)], 2e-4 * (1 + std::abs(stream[index(i)])));
    }
  }
};

VitDesc desc(int tokens, int heads, int width, int hidden, int panel) {
  return {tokens, heads * width, heads, hidden, true, true, true, true, false, DroppedHead::kNothing, MlpWidth::kInputs,
          false,  panel};
}

std::vector<VitDesc> variants() {
  std::vector<VitDesc> all;
  const VitDesc base = desc(11, 3, 8, 48, 16);
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
  all.push_back(desc(5, 2, 10, 30, 32));
  all.push_back(desc(70, 1, 70, 90, 64));
  return all;
}

TEST(every_variant) {
  Random random(11);
  for (const VitDesc& d : variants()) {
    VitDesc last = d;
    last.first_only = true;
    for (const std::vector<VitDesc>& blocks : {std::vector<VitDesc>{d}, {d, d, d}, {d, last}}) {
      Network network(blocks, &random);
      network.build();
      const int64_t batch = 3;
      const Floats x = random.reals(index(batch * d.tokens * d.dim), 2.0f);
      const Results one = network.execute(x, batch, cpu::Inline());
      network.check(x, batch, one);
      for (const int threads : {2, 5}) {
        const Results more = network.execute(x, batch, Threads(threads));
        CHECK(more.margins == one.margins && more.counts == one.counts);
        for (size_t i = 0; i < one.y.size(); ++i) CHECK_NEAR(more.y[i], one.y[i], 1e-4 * (1 + std::abs(one.y[i])));
      }
    }
  }
}

// Decisions forced one way: +1000 keeps, -1000 drops.
TEST(nothing_and_everything_kept) {
  Random random(12);
  for (const VitDesc& d : variants()) {
    for (int bits = 0; bits < 8; ++bits) {
      Network network({d, d}, &random);
      for (Weights& w : network.weights) {
        for (float& b : w.token.b) b += (bits & 1) != 0 ? 1000.0f : -1000.0f;
        for (float& b : w.head.b) b += (bits & 2) != 0 ? 1000.0f : -1000.0f;
        for (float& b : w.choice.b) b += (bits & 4) != 0 ? 1000.0f : -1000.0f;
      }
      network.build();
      const Floats x = random.reals(index(2 * d.tokens * d.dim));
      const Results r = network.execute(x, 2, cpu::Inline());
      network.check(x, 2, r);
      const int32_t tokens = d.token_policy && (bits & 1) == 0 ? 1 : d.tokens;
      const int32_t heads = d.head_policy && (bits & 2) == 0 ? 0 : d.heads;
      const bool on = !d.layer_policy || (bits & 4) != 0;
      CHECK(r.counts[0] == (on ? tokens : 0) && r.counts[1] == (on ? (d.tokens_in_mlp ? tokens : d.tokens) : 0));
      CHECK(r.counts[2] == tokens && r.counts[3] == heads);
      if (!on) CHECK(r.y == x);
    }
  }
}

TEST(large_batches_are_cut_and_results_do_not_depend_on_neighbours) {
  Random random(13);
  const VitDesc d = desc(7, 2, 8, 32, 16);
  Network network({d, d}, &random);
  network.build();
  const int64_t batch = 19, floats = 7 * 16;
  const Floats x = random.reals(index(batch * floats));
  const Results all = network.execute(x, batch, Threads(2));
  network.check(x, batch, all);
  for (const int64_t s : {0, 7, 8, 18}) {
    const Floats single(x.begin() + s * floats, x.begin() + (s + 1) * floats);
    const Results one = network.execute(single, 1, cpu::Inline());
    for (int64_t i = 0; i < floats; ++i) CHECK_NEAR(one.y[index(i)], all.y[index(s * floats + i)], 1e-5);
  }
}

TEST(calls_at_the_same_time) {
  Random random(14);
  const VitDesc d = desc(40, 2, 16, 64, 16);
  Network network({d}, &random);
  network.build();
  const Floats x = random.reals(index(2 * 40 * 32));
  const Results wanted = network.execute(x, 2, cpu::Inline());
  std::vector<Results> found(4);
  std::vector<std::thread> threads;
  for (Results& r : found) threads.emplace_back([&] { r = network.execute(x, 2, Threads(2)); });
  for (std::thread& t : threads) t.join();
  for (const Results& r : found) CHECK(r.counts == wanted.counts && r.margins == wanted.margins);
}

TEST(optional_outputs_may_be_missing) {
  Random random(15);
  const VitDesc d = desc(6, 2, 4, 16, 16);
  Network network({d}, &random);
  network.build();
  const Floats x = random.reals(48);
  Floats y(48);
  network.run->execute(x.data(), 1, cpu::Inline(), {y.data(), nullptr, nullptr, nullptr});
  CHECK(y == network.execute(x, 1, cpu::Inline()).y);
}

TEST(sizes_that_disagree_are_refused) {
  Random random(16);
  const VitDesc d = desc(6, 2, 4, 16, 16);
  std::string error;
  const float weight = 0;
  CHECK(cpu::VitRun::create({}, {}, {}, &error) == nullptr);
  CHECK(cpu::VitRun::create({d}, {&weight}, {1, 2}, &error) == nullptr);
  CHECK(cpu::VitRun::create({d}, {&weight}, {1}, &error) == nullptr);
  CHECK(error.find("its record needs") != std::string::npos);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
