#include "report/run_files.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "base/files.h"
#include "report/json_fields.h"
#include "report/metrics_file.h"
#include "report/text.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> read_if_present(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  return read_text_file(path);
}

std::string scalar_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// {"a": {"b": 1}} -> ("a.b", "1"). Arrays stay one value.
void flatten(const Json& value, const std::string& prefix, Facts& out) {
  for (const auto& item : value.items()) {
    const std::string key = prefix.empty() ? item.key() : prefix + "." + item.key();
    if (item.value().is_object())
      flatten(item.value(), key, out);
    else if (!item.value().is_null())
      out.emplace_back(key, scalar_text(item.value()));
  }
}

Facts facts_field(const JsonAt& at, const char* key) {
  Facts out;
  const JsonAt field = child(at, key);
  expect_object(field);
  if (!field.value.is_null()) flatten(field.value, "", out);
  return out;
}

std::vector<ModelPart> model_table(const JsonAt& at) {
  expect_array(at);
  std::vector<ModelPart> table;
  for (size_t i = 0; i < at.value.size(); ++i) {
    const JsonAt row = element(at, i);
    table.push_back({text_field(row, "part"), number_field(row, "params"), number_field(row, "active")});
  }
  return table;
}

}  // namespace

double RunInfo::final_number(const char* key) const {
  for (const auto& [name, text] : final) {
    if (name != key) continue;
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end != text.c_str() && *end == '\0') return value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::string RunFiles::name() const {
  if (info && !info->name.empty()) return info->name;
  const fs::path path = fs::path(dir).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

size_t RunFiles::num_moe_layers() const {
  if (trace && !trace->layers.empty()) return trace->layers.size();
  for (auto r = train.rbegin(); r != train.rend(); ++r)
    if (const size_t layers = std::max(r->load.size(), r->load_cv.size()); layers > 0) return layers;
  return 0;
}

std::string RunFiles::layer_name(size_t i) const {
  if (trace && i < trace->layers.size() && trace->layers[i].layer >= 0)
    return fmt::format("layer {}", trace->layers[i].layer);
  return fmt::format("MoE layer {}", i + 1);
}

RunInfo parse_run_info(const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file);
  const JsonAt at{json, file};
  if (!json.is_object()) fail(ErrorKind::checkpoint, "{}: found {}, expected an object", file, json.type_name());
  RunInfo info;
  info.name = text_field(at, "name");
  info.recipe = text_field(at, "recipe");
  info.started = text_field(at, "started");
  info.command = text_field(at, "command");
  info.seed = text_field(at, "seed");
  info.machine = text_field(at, "machine");
  info.threads = count_field(at, "threads");
  const JsonAt model = child(at, "model");
  info.params_total = number_field(model, "total");
  info.params_active = number_field(model, "active");
  info.flops_per_token = number_field(model, "flops_per_token");
  info.table = model_table(child(model, "table"));
  info.dataset = facts_field(at, "dataset");
  info.final = facts_field(at, "final");
  return info;
}

RunFiles read_run(const std::string& dir) {
  std::error_code error;
  if (!fs::is_directory(dir, error))
    fail(ErrorKind::io, "{}: no such run folder; expected a folder with metrics.jsonl, run.json or trace.json", dir);
  RunFiles run;
  run.dir = dir;
  const auto path = [&](const char* name) { return (fs::path(dir) / name).string(); };
  if (const auto text = read_if_present(path("metrics.jsonl"))) parse_metrics(*text, path("metrics.jsonl"), run);
  if (const auto text = read_if_present(path("run.json"))) run.info = parse_run_info(*text, path("run.json"));
  if (const auto text = read_if_present(path("trace.json"))) run.trace = parse_trace(*text, path("trace.json"));
  if (auto text = read_if_present(path("sample.txt"))) run.sample = clean_utf8(*text);
  if (auto text = read_if_present(path("recipe.toml"))) run.recipe = clean_utf8(*text);
  return run;
}

}  // namespace switchyard::report
