#include "options.h"

#include <cerrno>
#include <cstdlib>

#include "error.h"
#include "version.h"

namespace laudc {
namespace runner {

namespace {

struct OptionSpec {
  const char* name;
  const char* value;  // what the help calls it; null for a flag
  const char* help;
};

struct VerbSpec {
  const char* name;
  const char* arguments;
  size_t least, most;
  const char* help;
  std::vector<OptionSpec> options;
};

const OptionSpec kPlugin = {"plugin", "LIB", "plugin library [default: $LAUDC_TENSORRT_PLUGIN, beside the runner]"};
const OptionSpec kJson = {"json", "FILE", "write the result as JSON, to standard output for '-'"};
const OptionSpec kQuiet = {"quiet", nullptr, "say only errors (-q)"};
const OptionSpec kVerbose = {"verbose", nullptr, "also say what TensorRT complains about (-v)"};

const std::vector<VerbSpec>& verbs() {
  static const std::vector<VerbSpec> all = {
      {"build",
       "ENGINE.laudc",
       1,
       1,
       "Compiles an engine on this device: finishes an uncompiled one, or makes it anew.",
       {{"output", "FILE", "engine to write (-o); may be the one that is read"},
        {"timing-cache", "FILE", "what TensorRT has measured before [default: in ~/.cache/laudc; 'none': no cache]"},
        {"workspace", "MIB", "GPU memory that TensorRT may use while it compiles [default: as in the engine]"},
        kPlugin,
        kJson,
        kQuiet,
        kVerbose}},
      {"run",
       "ENGINE.laudc INPUT...",
       2,
       static_cast<size_t>(-1),
       "Runs an engine on .npy arrays or .ppm pictures.",
       {{"top", "N", "classes to show [default: 5]"},
        {"output", "FILE.npy", "write the logits (-o)"},
        kPlugin,
        kJson,
        kQuiet,
        kVerbose}},
      {"profile",
       "ENGINE.laudc",
       1,
       1,
       "Measures an engine with CUDA events: end to end and per layer.",
       {{"input", "FILE", ".npy or .ppm; may be repeated [default: generated images]"},
        {"runs", "N", "measured runs [default: 50]"},
        {"warmup", "N", "runs before that [default: 5]"},
        {"batch", "N", "images per run [default: 1]"},
        {"margins", "FILE.npy", "also write every decision's margin, images x decisions"},
        {"no-graph", nullptr, "launch every kernel by itself instead of one CUDA graph"},
        kPlugin,
        kJson,
        kQuiet,
        kVerbose}},
      {"check",
       "ENGINE.laudc",
       1,
       1,
       "Says whether an engine is intact and runs (or can be compiled) here; exit code 3 if not.",
       {kPlugin, kJson, kQuiet, kVerbose}},
      {"device", "", 0, 0, "Says what GPU and TensorRT are here.", {kJson, kQuiet}},
  };
  return all;
}

std::string column(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text + "  ";
}

std::string general_help() {
  std::string text =
      "Usage: laudc-runner COMMAND ...\n\nFinishes, runs and measures laudc engines for TensorRT on the device.\n\n";
  for (const VerbSpec& verb : verbs()) text += "  " + column(verb.name, 8) + verb.help + "\n";
  return text +
         "\n'laudc-runner COMMAND --help' says more.\n\nExample:\n  laudc-runner build model.laudc -o finished.laudc\n "
         " "
         "laudc-runner profile finished.laudc --json profile.json\n\nExit codes: 0 fine, 1 internal error, 2 wrong "
         "input or usage, 3 checked and failed.";
}

std::string verb_help(const VerbSpec& verb) {
  std::string text =
      std::string("Usage: laudc-runner ") + verb.name + " " + verb.arguments + " [OPTIONS]\n\n" + verb.help + "\n\n";
  for (const OptionSpec& option : verb.options) {
    const std::string left =
        std::string("--") + option.name + (option.value != nullptr ? std::string(" ") + option.value : "");
    text += "  " + column(left, 20) + option.help + "\n";
  }
  text.pop_back();
  return text;
}

Error usage(const std::string& why, const std::string& verb) {
  return Error("the command line cannot be used", why,
               "See laudc-runner " + (verb.empty() ? std::string("--help") : verb + " --help"));
}

const OptionSpec& find_option(const VerbSpec& verb, const std::string& given) {
  std::string name = given;
  if (given == "-o") name = "--output";
  if (given == "-q") name = "--quiet";
  if (given == "-v") name = "--verbose";
  for (const OptionSpec& option : verb.options) {
    if (name == std::string("--") + option.name) return option;
  }
  throw usage("there is no option '" + given + "'", verb.name);
}

const VerbSpec& find_verb(const std::string& name) {
  for (const VerbSpec& verb : verbs()) {
    if (name == verb.name) return verb;
  }
  throw usage("there is no command '" + name + "'", "");
}

}  // namespace

std::string Options::get(const std::string& name, const std::string& otherwise) const {
  const auto found = values.find(name);
  return found == values.end() ? otherwise : found->second;
}

int64_t Options::number(const std::string& name, int64_t otherwise, int64_t least) const {
  if (!has(name)) return otherwise;
  const std::string text = get(name);
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < least || value > 1000000000) {
    throw usage("--" + name + " is '" + text + "', wanted a whole number of at least " + std::to_string(least), verb);
  }
  return value;
}

Options parse_options(const std::vector<std::string>& given) {
  Options options;
  if (given.empty() || given[0] == "--help" || given[0] == "-h") {
    options.text = general_help();
    return options;
  }
  if (given[0] == "--version") {
    options.text = std::string("laudc-runner ") + kVersion;
    return options;
  }
  const VerbSpec& verb = find_verb(given[0]);
  for (size_t i = 1; i < given.size(); ++i) {
    std::string word = given[i];
    if (word == "--help" || word == "-h") {
      options.text = verb_help(verb);
      return options;
    }
    if (word.size() < 2 || word[0] != '-') {
      options.arguments.push_back(word);
      continue;
    }
    const size_t equals = word.compare(0, 2, "--") == 0 ? word.find('=') : std::string::npos;
    const bool inline_value = equals != std::string::npos;
    const OptionSpec& option = find_option(verb, word.substr(0, equals));
    if (option.value == nullptr) {
      if (inline_value) throw usage(std::string("--") + option.name + " takes no value", verb.name);
      options.values[option.name] = "1";
      continue;
    }
    if (!inline_value && i + 1 == given.size()) throw usage(word + " needs a value", verb.name);
    const std::string value = inline_value ? word.substr(equals + 1) : given[++i];
    std::string& stored = options.values[option.name];
    const bool repeats = std::string(option.name) == "input" && !stored.empty();
    stored = repeats ? stored + "\n" + value : value;
  }
  if (options.arguments.size() < verb.least || options.arguments.size() > verb.most) {
    throw usage(std::string("it takes ") + verb.arguments, verb.name);
  }
  options.verb = verb.name;
  return options;
}

}  // namespace runner
}  // namespace laudc
