#include "io/gguf/gguf_family.h"

#include "switchyard/error.h"

#include <algorithm>
#include <charconv>

namespace switchyard::io {

GgufFamily gguf_family_llama();
GgufFamily gguf_family_mixtral();
GgufFamily gguf_family_qwen2();
GgufFamily gguf_family_qwen3();
GgufFamily gguf_family_qwen2_moe();
GgufFamily gguf_family_qwen3_moe();
GgufFamily gguf_family_olmoe();
GgufFamily gguf_family_deepseek();
GgufFamily gguf_family_deepseek_v2();
GgufFamily gguf_family_deepseek_v3();
GgufFamily gguf_family_glm4_moe();
GgufFamily gguf_family_dbrx();
GgufFamily gguf_family_granitemoe();
GgufFamily gguf_family_granitemoeshared();
GgufFamily gguf_family_gpt_oss();
GgufFamily gguf_family_phimoe();
GgufFamily gguf_family_arctic();
GgufFamily gguf_family_jamba();

const std::vector<GgufFamily>& gguf_families() {
  static const std::vector<GgufFamily> all = {
      gguf_family_llama(),       gguf_family_mixtral(),          gguf_family_qwen2(),
      gguf_family_qwen3(),       gguf_family_qwen2_moe(),        gguf_family_qwen3_moe(),
      gguf_family_olmoe(),       gguf_family_deepseek(),         gguf_family_deepseek_v2(),
      gguf_family_deepseek_v3(), gguf_family_glm4_moe(),         gguf_family_dbrx(),
      gguf_family_granitemoe(),  gguf_family_granitemoeshared(), gguf_family_gpt_oss(),
      gguf_family_phimoe(),      gguf_family_arctic(),           gguf_family_jamba()};
  return all;
}

namespace {

std::string known(std::string_view GgufFamily::*name) {
  std::string out;
  for (const GgufFamily& family : gguf_families())
    if (fmt::format(", {},", out).find(fmt::format(", {},", family.*name)) == std::string::npos)
      out += fmt::format("{}{}", out.empty() ? "" : ", ", family.*name);
  return out;
}

}  // namespace

const GgufFamily& gguf_family_of(std::string_view model_type) {
  for (const GgufFamily& family : gguf_families())
    if (family.model_type == model_type) return family;
  fail(ErrorKind::unsupported, "model_type '{}' has no GGUF form here; known: {}", model_type, known(&GgufFamily::model_type));
}

const GgufFamily& family_of(const GgufMetadata& metadata, const std::string& file) {
  const GgufValue* architecture = find(metadata, "general.architecture");
  if (!architecture || !architecture->string())
    fail(ErrorKind::checkpoint, "{}: metadata 'general.architecture' is missing or no string", file);
  const std::string& name = *architecture->string();
  const KeyReader reader(name, metadata, {}, file);
  bool there = false;
  for (const GgufFamily& family : gguf_families()) {
    if (family.architecture != name) continue;
    if (!family.is || family.is(reader)) return family;
    there = true;
  }
  if (there)
    fail(ErrorKind::unsupported, "{}: general.architecture '{}' is known here, but not with the experts that the metadata say",
         file, name);
  fail(ErrorKind::unsupported, "{}: general.architecture '{}' is not known here; known: {}", file, name,
       known(&GgufFamily::architecture));
}

std::string fill_in(std::string_view pattern, int64_t layer, int64_t expert) {
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.substr(i, 3) == "{i}") out += std::to_string(layer), i += 2;
    else if (pattern.substr(i, 3) == "{e}") out += std::to_string(expert), i += 2;
    else out += pattern[i];
  }
  return out;
}

std::optional<NameNumbers> match(std::string_view pattern, std::string_view name) {
  NameNumbers numbers;
  while (!pattern.empty()) {
    const bool layer = pattern.starts_with("{i}");
    if (layer || pattern.starts_with("{e}")) {
      int64_t& number = layer ? numbers.layer : numbers.expert;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      const auto digits = static_cast<size_t>(end - name.data());
      if (error != std::errc{} || number < 0 || (digits > 1 && name[0] == '0')) return std::nullopt;
      name.remove_prefix(digits);
      pattern.remove_prefix(3);
    } else {
      if (name.empty() || name[0] != pattern[0]) return std::nullopt;
      name.remove_prefix(1);
      pattern.remove_prefix(1);
    }
  }
  return name.empty() ? std::optional(numbers) : std::nullopt;
}

}  // namespace switchyard::io
