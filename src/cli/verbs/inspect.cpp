// switchyard inspect: what is in a checkpoint, without loading it
#include "cli/checkpoint_summary.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "io/safetensors.h"

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

namespace switchyard::cli {
namespace {

struct InspectOptions {
  std::string checkpoint;
  bool tensors = false, json = false;
};

// At most `bytes` of a text, without half a character at the end.
std::string utf8_prefix(const std::string& text, size_t bytes) {
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0U) == 0x80U) --bytes;
  return text.substr(0, bytes);
}

void print_summary(const CheckpointSummary& s, bool tensors) {
  print_result("checkpoint  {}\n", s.path.string());
  if (!s.files.empty()) print_result("files       {}\n", fmt::join(s.files, ", "));
  print_result("tensors     {}\n", s.tensors.size());
  print_result("values      {} ({}), {}\n", s.num_values, format_count(static_cast<double>(s.num_values)), format_bytes(static_cast<double>(s.num_bytes)));
  for (const auto& [dtype, values] : s.values_by_dtype) print_result("  {:<8}  {}\n", dtype, values);
  for (const auto& [key, value] : s.metadata) print_result("metadata    {} = {}\n", key, value);
  for (const auto& [key, value] : s.gguf.items()) {
    const std::string text = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    print_result("metadata    {} = {}\n", key, text.size() > 160 ? utf8_prefix(text, 157) + "..." : text);
  }
  for (const auto& [key, value] : s.config.items()) print_result("config      {} = {}\n", key, value.dump());
  if (!tensors) return;
  std::vector<std::vector<std::string>> rows;
  for (const auto& t : s.tensors) rows.push_back({t.name, t.dtype, show_shape(t.shape), format_bytes(static_cast<double>(t.bytes)), t.file});
  write_result("\n" + format_table({{"tensor"}, {"dtype"}, {"shape"}, {"size", true}, {"file"}}, rows));
}

nlohmann::ordered_json summary_json(const CheckpointSummary& s, bool tensors) {
  nlohmann::ordered_json out = {{"path", s.path.string()}, {"model_type", s.model_type}, {"num_tensors", s.tensors.size()},
                                {"num_values", s.num_values}, {"num_bytes", s.num_bytes}, {"values_by_dtype", s.values_by_dtype},
                                {"files", s.files}, {"metadata", s.metadata}, {"config", s.config}};
  if (!s.gguf.is_null()) out["metadata"] = s.gguf;
  if (!tensors) return out;
  out["tensors"] = nlohmann::ordered_json::array();
  for (const auto& t : s.tensors)
    out["tensors"].push_back({{"name", t.name}, {"dtype", t.dtype}, {"shape", t.shape}, {"bytes", t.bytes}, {"file", t.file}});
  return out;
}

}  // namespace

VerbEntry verb_inspect() {
  return {"inspect", 80, "Show what a checkpoint holds, without loading it", [](CLI::App& verb) {
            auto opt = std::make_shared<InspectOptions>();
            verb.add_option("checkpoint", opt->checkpoint, "model folder, run (its best checkpoint), .safetensors or .gguf file")->required()->type_name("PATH");
            verb.add_flag("--tensors", opt->tensors, "one line per tensor");
            verb.add_flag("--json", opt->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard inspect runs/demo/last\n  switchyard inspect model.gguf --tensors --json");
            verb.callback([opt] {
              const auto summary = summarise_checkpoint(is_run(opt->checkpoint) ? find_model(opt->checkpoint) : std::filesystem::path(opt->checkpoint));
              opt->json ? print_json(summary_json(summary, opt->tensors)) : print_summary(summary, opt->tensors);
            });
          }};
}

}  // namespace switchyard::cli
