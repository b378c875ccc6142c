#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "commands.h"
#include "engine.h"
#include "error.h"
#include "files.h"
#include "statistics.h"
#include "version.h"

namespace laudc {
namespace runner {

namespace {

// The same as in Python: more images change no rate that a profile shows.
constexpr int64_t kMaxImages = 64;
constexpr int64_t kGenerated = 8;
constexpr int64_t kProfiledRuns = 10;

struct Settings {
  int64_t runs, warmup, batch;
  bool graph;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Kept over possible decisions of every sparse block, means over all images; negative: no such mask.
struct Rates {
  std::vector<double> spatial, channel;
};

struct Activity {
  Rates rates;
  std::vector<float> margins;  // images x decisions
  int64_t decisions = 0, images = 0;
};

std::vector<const BlockInfo*> sparse_blocks(const Manifest& manifest) {
  std::vector<const BlockInfo*> blocks;
  for (const BlockInfo& block : manifest.blocks) {
    if (block.execution == "sparse") blocks.push_back(&block);
  }
  return blocks;
}

// One pass over every image: what its masks keep.
Activity observe(Engine* engine, const Images& images, int64_t batch) {
  const Manifest& manifest = engine->manifest();
  const std::vector<const BlockInfo*> blocks = sparse_blocks(manifest);
  std::vector<double> cells(blocks.size()), groups(blocks.size());
  Activity activity;
  activity.images = images.count;
  for (int64_t first = 0; first < images.count; first += batch) {
    const int64_t used = std::min(batch, images.count - first);
    engine->session().set_input(batch_of(images, first, batch, manifest.values_per_image()), batch);
    const Results results = interpret(engine->session().run(), batch, used);
    if (results.counted_blocks != static_cast<int64_t>(blocks.size())) {
      throw Error("the engine does not fit its manifest",
                  "it reports " + std::to_string(results.counted_blocks) + " blocks, the schedule has " +
                      std::to_string(blocks.size()),
                  "Build the engine again");
    }
    for (size_t i = 0; i < results.counts.size(); i += 4) {
      cells[i / 4 % blocks.size()] += results.counts[i + 2];
      groups[i / 4 % blocks.size()] += results.counts[i + 3];
    }
    for (const std::vector<float>& row : results.margins) {
      activity.decisions = static_cast<int64_t>(row.size());
      activity.margins.insert(activity.margins.end(), row.begin(), row.end());
    }
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    const double n = static_cast<double>(images.count);
    const BlockInfo& block = *blocks[i];
    activity.rates.spatial.push_back(block.mask_cells > 0 ? cells[i] / (n * static_cast<double>(block.mask_cells))
                                                          : -1.0);
    activity.rates.channel.push_back(block.groups > 0 ? groups[i] / (n * static_cast<double>(block.groups)) : -1.0);
  }
  return activity;
}

std::vector<double> measure(Engine* engine, const Images& images, const Settings& settings, Console* console) {
  std::vector<double> samples;
  const Manifest& manifest = engine->manifest();
  const int64_t batches = (images.count + settings.batch - 1) / settings.batch;
  for (int64_t run = -settings.warmup; run < settings.runs; ++run) {
    const int64_t which = (run + settings.warmup) % batches;
    engine->session().set_input(batch_of(images, which * settings.batch, settings.batch, manifest.values_per_image()),
                                settings.batch);
    const double time = engine->session().time_us();
    if (run >= 0) samples.push_back(time);
    if (run >= 0 && run % 10 == 0)
      console->progress("measuring " + std::to_string(run) + "/" + std::to_string(settings.runs));
  }
  return samples;
}

Json rate(double value) { return value < 0 ? Json() : Json::number(value); }

// A run of several blocks is one layer named "first-last"; only a block that is a layer by itself has a time.
Json block_records(const Manifest& manifest, const Rates& rates, const std::vector<LayerTime>& layers) {
  Json blocks = Json::array();
  size_t index = 0;
  for (const BlockInfo& block : manifest.blocks) {
    const bool sparse = block.execution == "sparse";
    Json record = Json::object();
    record.set("name", Json::string(block.name));
    record.set("execution", Json::string(block.execution));
    record.set("reason", Json::string(block.reason));
    record.set("spatial_rate", sparse ? rate(rates.spatial[index]) : Json());
    record.set("channel_rate", sparse ? rate(rates.channel[index]) : Json());
    record.set("timing", Json());
    for (const LayerTime& layer : layers) {
      if (sparse && layer.name == block.name) record.set("timing", Timing(layer.samples_us).to_json());
    }
    for (const char* unknown :
         {"activation", "ideal_speedup", "dense", "speedup", "token_rate", "head_rate", "layer_rate", "predicted"}) {
      record.set(unknown, Json());
    }
    blocks.push(record);
    index += sparse ? 1 : 0;
  }
  return blocks;
}

Json layer_records(const std::vector<LayerTime>& layers) {
  Json records = Json::array();
  for (const LayerTime& layer : layers) {
    Json record = Json::object();
    record.set("name", Json::string(layer.name));
    record.set("timing", Timing(layer.samples_us).to_json());
    records.push(record);
  }
  return records;
}

Json environment(const Engine& engine, bool graph) {
  const Gpu gpu = engine.device().gpu();
  Json facts = Json::object();
  facts.set("gpu", Json::string(gpu.name));
  facts.set("sm", Json::string(gpu.sm));
  facts.set("cuda", Json::string(gpu.cuda));
  facts.set("driver", Json::string(gpu.driver));
  facts.set("tensorrt", Json::string(engine.device().tensorrt()));
  facts.set("laudc", Json::string(kVersion));
  facts.set("native_library", Json::parse(engine.plugin().description()));
  utsname system;
  if (uname(&system) == 0) {
    facts.set("system", Json::string(std::string(system.sysname) + " " + system.release + " " + system.machine));
  }
  facts.set("clock",
            Json::string(std::string("CUDA events around ") + (graph ? "one graph launch" : "the kernel launches") +
                         ", without copies to and from the GPU; layers: TensorRT's profiler in a pass of its own"));
  return facts;
}

Json engine_facts(const Engine& engine) {
  const Json& root = engine.bundle().manifest();
  Json facts = Json::object();
  facts.set("arch", root.get("arch"));
  facts.set("config", root.get("config"));
  facts.set("input", root.get("input").get("shape"));
  facts.set("precision", root.get("precision"));
  facts.set("device", root.get("device").get("id"));
  facts.set("isa", Json());
  facts.set("backend", Json::string("tensorrt " + engine.manifest().tensorrt));
  facts.set("source_onnx_sha256", root.get("source").get("onnx_sha256"));
  facts.set("checkpoint_sha256", root.get("source").get("checkpoint_sha256"));
  return facts;
}

Json image_facts(const std::vector<std::string>& files, const Images& images) {
  Json facts = Json::object();
  facts.set("kind", Json::string(files.empty() ? "generated" : "files"));
  facts.set("count", Json::integer(images.count));
  if (files.empty()) return facts;
  Json names = Json::array();
  for (const std::string& file : files) names.push(Json::string(name_of(file)));
  facts.set("names", names);
  return facts;
}

Json notes(bool generated, const Timing& total, bool graph_wanted, bool graph_used) {
  Json texts = Json::array();
  if (generated) {
    texts.push(
        Json::string("The images were generated, so the activation rates say nothing about real ones (use --input)."));
  }
  if (total.cv > 0.10) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "The runs vary by %.0f %% (standard deviation over mean): lock the GPU's clocks (nvidia-smi -lgc, "
                  "jetson_clocks).",
                  100.0 * total.cv);
    texts.push(Json::string(text));
  }
  if (graph_wanted && !graph_used) texts.push(Json::string("The engine could not be captured as a CUDA graph."));
  texts.push(
      Json::string("Activation and FLOP-ideal are not counted on the device (laudc profile --target adds them)."));
  return texts;
}

double plugin_time(const std::vector<LayerTime>& layers, const Manifest& manifest) {
  double sum = 0.0;
  for (const LayerTime& layer : layers) {
    const std::string first = layer.name.substr(0, layer.name.find('-'));
    const bool ours = std::any_of(manifest.blocks.begin(), manifest.blocks.end(), [&first](const BlockInfo& block) {
      return block.execution == "sparse" && block.name == first;
    });
    if (ours) sum += Timing(layer.samples_us).median_us;
  }
  return sum;
}

void show(const Console& console, const Timing& total, const std::vector<LayerTime>& layers, double residual,
          bool graph) {
  char text[200];
  std::snprintf(text, sizeof text, "end to end  median %.1f us  p95 %.1f us  (%lld runs%s)", total.median_us,
                total.p95_us, static_cast<long long>(total.runs), graph ? ", CUDA graph" : "");
  console.say(text);
  for (const LayerTime& layer : layers) {
    const Timing timing(layer.samples_us);
    std::snprintf(text, sizeof text, "  %-48.48s  median %9.1f us  p95 %9.1f us", layer.name.c_str(), timing.median_us,
                  timing.p95_us);
    console.say(text);
  }
  std::snprintf(text, sizeof text, "residual    %.1f us  (end to end minus the blocks' layers)", residual);
  console.say(text);
}

}  // namespace

int profile_command(const Options& options, Console* console) {
  const Settings settings{options.number("runs", 50, 1), options.number("warmup", 5, 0), options.number("batch", 1, 1),
                          !options.has("no-graph")};
  console->progress("loading " + options.arguments[0]);
  Engine engine(options.arguments[0], options, settings.graph);
  const Manifest& manifest = engine.manifest();
  if (settings.batch < manifest.batch[0] || settings.batch > manifest.batch[2]) {
    throw Error("the engine cannot run a batch of " + std::to_string(settings.batch),
                "it takes " + std::to_string(manifest.batch[0]) + " to " + std::to_string(manifest.batch[2]),
                "Give a fitting --batch");
  }
  const std::vector<std::string> files = lines_of(options.get("input"));
  Images images = files.empty() ? generate_images(std::max(kGenerated, settings.batch), manifest) : engine.load(files);
  images.count = std::min(images.count, std::max(kMaxImages, settings.batch));
  console->progress("activation");
  const Activity activity = observe(&engine, images, settings.batch);
  const std::vector<double> samples = measure(&engine, images, settings, console);
  const bool graph = engine.session().uses_graph();
  console->progress("profiling layers");
  const std::vector<LayerTime> layers = engine.session().layer_times(kProfiledRuns);
  console->clear();

  const Timing total(samples);
  const double residual = total.median_us - plugin_time(layers, manifest);
  show(*console, total, layers, residual, graph);
  if (options.has("margins")) {
    const std::vector<char> bytes = encode_npy(activity.margins, {activity.images, activity.decisions});
    write_file(options.get("margins"), bytes.data(), bytes.size());
  }
  Json measured = Json::object();
  measured.set("runs", Json::integer(settings.runs));
  measured.set("warmup", Json::integer(settings.warmup));
  measured.set("batch", Json::integer(settings.batch));
  measured.set("threads", Json());
  measured.set("interleaved", Json::boolean(false));
  measured.set("idle_gap_ms", Json::number(0.0));
  measured.set("cuda_graph", Json::boolean(graph));
  Json result = Json::object();
  result.set("kind", Json::string("profile"));
  result.set("engine", engine_facts(engine));
  result.set("images", image_facts(files, images));
  result.set("settings", measured);
  result.set("environment", environment(engine, graph));
  result.set("end_to_end", total.to_json());
  result.set("blocks", block_records(manifest, activity.rates, layers));
  result.set("layers", layer_records(layers));
  result.set("residual_us", Json::number(residual));
  for (const char* unknown : {"activation", "ideal_speedup", "dense", "comparison", "found"})
    result.set(unknown, Json());
  result.set("notes", notes(files.empty(), total, settings.graph, graph));
  console->write(result);
  return 0;
}

}  // namespace runner
}  // namespace laudc
