#include "io/gguf/pre_tokenizers.h"

#include "io/tokenizer/splitter.h"

#include <algorithm>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

// Of names that split alike the first is written.
const std::vector<GgufPreTokenizer>& table() {
  static const std::vector<GgufPreTokenizer> all = [] {
    const std::vector<std::string_view> llama3 = {"llama3"}, qwen2 = {"qwen2"}, deepseek = {"three digits", "deepseek cjk", "deepseek words"}, o200k = {"o200k"};
    return std::vector<GgufPreTokenizer>{
        {"gpt-2", {}},
        {"olmo", {}},
        {.name = "llama-bpe", .splits = llama3, .ignore_merges = true, .add_bos = true},
        {.name = "llama3", .splits = llama3, .ignore_merges = true, .add_bos = true},
        {.name = "llama-v3", .splits = llama3, .ignore_merges = true, .add_bos = true},
        {"dbrx", llama3},
        {"smaug-bpe", llama3},
        {"glm4", llama3},
        {"chatglm-bpe", llama3},
        {.name = "qwen2", .splits = qwen2, .nfc = true},
        {"deepseek-r1-qwen", qwen2},
        {"deepseek-v3", deepseek},
        {"gpt-4o", o200k},
        {"minimax-m2", o200k},
        {.name = "refact", .splits = {}, .digits = true},  // Granite's
        {.name = "starcoder", .splits = {}, .digits = true},
        {.name = "command-r", .splits = {}, .digits = true},
        {.name = "smollm", .splits = {}, .digits = true},
    };
  }();
  return all;
}

std::string_view pattern_of(std::string_view name) {
  for (const KnownExpression& known : known_expressions())
    if (known.name == name) return known.pattern;
  return {};
}

ordered_json byte_level(bool splits) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", splits}}; }

// What the steps of a tokenizer.json do; nothing when one of them is of another kind.
struct Steps {
  std::vector<std::string_view> splits;
  bool digits = false;
};

bool add_step(Steps& out, const ordered_json& step, bool last) {
  const std::string type = step.value("type", "");
  if (type == "ByteLevel") {
    const bool splits = step.value("use_regex", true);
    return last && !step.value("add_prefix_space", false) && splits == out.splits.empty();
  }
  if (type == "Digits") return out.splits.empty() && !last && (out.digits = step.value("individual_digits", false));
  if (type != "Split" || last || step.value("behavior", "") != "Isolated" || step.value("invert", false)) return false;
  const KnownExpression* known = find_known_expression(step.at("pattern").value("Regex", ""));
  if (known) out.splits.push_back(known->name);
  return known != nullptr;
}

}  // namespace

const GgufPreTokenizer* find_pre_tokenizer(std::string_view name) {
  const auto found = std::find_if(table().begin(), table().end(), [&](const GgufPreTokenizer& p) { return p.name == name; });
  return found == table().end() ? nullptr : &*found;
}

std::string pre_tokenizer_names() {
  std::string out;
  for (const GgufPreTokenizer& pre : table()) out += (out.empty() ? "" : ", ") + std::string(pre.name);
  return out;
}

ordered_json splitting_of(const GgufPreTokenizer& pre) {
  ordered_json steps = ordered_json::array();
  if (pre.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  for (const auto& name : pre.splits)
    steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", pattern_of(name)}}}, {"behavior", "Isolated"}, {"invert", false}});
  if (steps.empty()) return byte_level(true);
  steps.push_back(byte_level(pre.splits.empty()));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

std::optional<std::string> splitting_name(const ordered_json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) return std::nullopt;
  const bool many = pre_tokenizer.value("type", "") == "Sequence";
  const ordered_json steps = many ? pre_tokenizer.at("pretokenizers") : ordered_json::array({pre_tokenizer});
  Steps found;
  for (size_t i = 0; i < steps.size(); ++i)
    if (!add_step(found, steps[i], i + 1 == steps.size())) return std::nullopt;
  if (steps.empty() || steps.back().value("type", "") != "ByteLevel") return std::nullopt;
  for (const GgufPreTokenizer& pre : table())
    if (pre.splits == found.splits && pre.digits == found.digits) return std::string(pre.name);
  return std::nullopt;
}

}  // namespace switchyard::io
