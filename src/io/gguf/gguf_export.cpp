#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "io/gguf/gguf_tokenizer.h"
#include "switchyard/error.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

struct Planner {
  const GgufFamily& family;
  const TensorStore& tensors;
  const GgufPlanOptions& options;
  GgufPlan plan;
  LayoutSizes sizes;
  int64_t layers = 0;
  std::set<std::string> used, missing;
};

GgmlType as_stored(const TensorEntry& entry) {
  if (entry.decode) {
    const BlockFormat* format = find_block_format(entry.stored_as);
    return format && format->values == 1 && format->encode ? format->type : GgmlType::f32;
  }
  switch (entry.dtype) {
    case DType::f32:
    case DType::f64: return GgmlType::f32;
    case DType::f16: return GgmlType::f16;
    case DType::bf16: return GgmlType::bf16;
    default: fail(ErrorKind::unsupported, "tensor '{}' is {}; GGUF models hold floats", entry.name, name_of(entry.dtype));
  }
}

bool is_mxfp4_along_rows(Arrange how, const TensorEntry& entry, const ValueLayout& layout) {
  const bool transposes = how == Arrange::even_columns || how == Arrange::odd_columns || how == Arrange::transposed;
  return transposes && entry.stored_as == "MXFP4" && layout.columns() % format_of(GgmlType::mxfp4).values == 0;
}

// Vectors and routers are small and matter much: they stay float32, as other writers keep them.
GgmlType choose_type(Planner& p, std::string_view gguf_name, const TensorEntry& entry, Arrange how, const ValueLayout& layout) {
  const bool is_bias = gguf_name.ends_with(".bias");  // of all experts together: a matrix by its shape
  const bool is_matrix = layout.gguf_shape.size() >= 2 && !is_bias && gguf_name.find("ffn_gate_inp") == std::string_view::npos &&
                         gguf_name.find("ssm_conv1d") == std::string_view::npos && how != Arrange::negative_exp;
  if (!is_matrix) return GgmlType::f32;
  // Blocks of four bits hold the values of blocks of four bits exactly, where they run along the same rows.
  if (!p.options.type) return is_mxfp4_along_rows(how, entry, layout) ? GgmlType::mxfp4 : as_stored(entry);
  const BlockFormat& format = format_of(*p.options.type);
  if (layout.columns() % format.values == 0) return format.type;
  p.plan.notes.push_back(fmt::format("{}: rows of {} values are no whole number of {} blocks of {}; stored as F16", gguf_name,
                                     layout.columns(), format.name, format.values));
  return GgmlType::f16;
}

struct Target {
  std::string name;
  GgmlType type;
  ValueLayout layout;
  bool negative_exp = false;
};

// The values of a tensor in the order of GGUF. One tensor is in memory.
void write_entry(const TensorEntry& entry, const Target& to, Sink& sink) {
  const BlockFormat& format = format_of(to.type);
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  to_float32(entry, values.data());
  const int64_t columns = to.layout.columns(), stride = to.layout.stride(), rows = values.empty() ? 0 : to.layout.rows();
  std::vector<float> row_values(static_cast<size_t>(columns));
  std::vector<std::byte> bytes(static_cast<size_t>(columns / format.values * format.bytes));
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = values.data() + to.layout.start_of(row);
    for (int64_t i = 0; i < columns; ++i) {
      const float value = from[i * stride];
      row_values[static_cast<size_t>(i)] = to.negative_exp ? static_cast<float>(-std::exp(static_cast<double>(value))) : value;
    }
    encode_blocks(format, row_values, bytes.data(), to.name);
    sink.write(bytes);
  }
}

void add_one(Planner& p, const NameRow& row, int64_t layer) {
  const std::string hf = fill_in(row.hf, layer, -1), name = fill_in(row.gguf, layer, -1);
  const TensorEntry* entry = p.tensors.find(hf);
  if (!entry) {
    if (!row.optional) p.missing.insert(hf);
    return;
  }
  p.used.insert(hf);
  const auto layout = layout_of_hf(row.how, entry->shape, p.sizes);
  if (!layout)
    fail(ErrorKind::checkpoint, "tensor '{}' has shape {}, which does not fit {} heads, {} of keys, and {} experts", hf,
         show_shape(entry->shape), p.sizes.heads, p.sizes.kv_heads, p.sizes.experts);
  const Target to{name, choose_type(p, name, *entry, row.how, *layout), *layout, row.how == Arrange::negative_exp};
  p.plan.tensors.push_back({name, to.type, layout->gguf_shape, [entry, to](Sink& sink) { write_entry(*entry, to, sink); }});
}

void add_stack(Planner& p, const NameRow& row, int64_t layer) {
  const int64_t experts = p.sizes.experts;
  std::vector<const TensorEntry*> entries;
  for (int64_t e = 0; e < experts; ++e) {
    const std::string hf = fill_in(row.hf, layer, e);
    const TensorEntry* entry = p.tensors.find(hf);
    if (entry) entries.push_back(entry), p.used.insert(hf);
    else if (!row.optional || !entries.empty()) p.missing.insert(hf);
  }
  if (static_cast<int64_t>(entries.size()) != experts || entries.empty()) return;
  for (const TensorEntry* entry : entries)
    if (entry->shape != entries.front()->shape || entry->shape.size() != 2)
      fail(ErrorKind::checkpoint, "tensor '{}' has shape {}, the first expert's {}", entry->name, show_shape(entry->shape),
           show_shape(entries.front()->shape));
  const auto one = *layout_of_hf(row.how, entries.front()->shape, p.sizes);
  const std::string name = fill_in(row.gguf, layer, -1);
  const Target to{name, choose_type(p, name, *entries.front(), row.how, one), one};
  p.plan.tensors.push_back({name, to.type, {experts, one.gguf_shape[0], one.gguf_shape[1]}, [entries, to](Sink& sink) {
                              for (const TensorEntry* entry : entries) write_entry(*entry, to, sink);
                            }});
}

void add_row(Planner& p, const NameRow& row, int64_t layer) {
  if (row.how == Arrange::old_expert || row.how == Arrange::old_whole) return;
  if (row.how == Arrange::stack) add_stack(p, row, layer);
  else add_one(p, row, layer);
}

void add_config_tensors(Planner& p, const ordered_json& config) {
  for (const std::string_view name : p.family.config_tensors) {
    const std::vector<float> values = p.family.config_tensor(config, name);
    if (values.empty()) continue;
    p.plan.tensors.push_back({std::string(name), GgmlType::f32, {static_cast<int64_t>(values.size())}, [values](Sink& sink) {
                                sink.write(std::as_bytes(std::span(values)));
                              }});
  }
}

// Rows outside of layers, and the rows of all layers where the table has them.
void add_all(Planner& p) {
  const auto& rows = p.family.names;
  const auto in_layer = [](const NameRow& row) { return row.gguf.find("{i}") != std::string_view::npos; };
  const auto first = std::find_if(rows.begin(), rows.end(), in_layer);
  const auto end = std::find_if_not(first, rows.end(), in_layer);
  for (auto row = rows.begin(); row != first; ++row) add_row(p, *row, -1);
  for (int64_t layer = 0; layer < p.layers; ++layer)
    for (auto row = first; row != end; ++row) add_row(p, *row, layer);
  for (auto row = end; row != rows.end(); ++row) add_row(p, *row, -1);
}

// "model.layers.61.eh_proj.weight" of a model with 61 layers.
bool is_of_extra_layer(const Planner& p, std::string_view name) {
  constexpr std::string_view kHead = "model.layers.";
  if (!p.family.drops_extra_layers || !name.starts_with(kHead)) return false;
  int64_t layer = -1;
  std::from_chars(name.data() + kHead.size(), name.data() + name.size(), layer);
  return layer >= p.layers;
}

void check_names(Planner& p, bool tied) {
  std::string text;
  int64_t extra = 0;
  for (const std::string& name : p.missing) text += fmt::format("; '{}' is missing", name);
  for (const TensorEntry* entry : p.tensors.entries()) {
    const bool leftover = entry->name.ends_with(".rotary_emb.inv_freq") || (tied && entry->name == "lm_head.weight");
    if (is_of_extra_layer(p, entry->name)) ++extra;
    else if (!p.used.count(entry->name) && !leftover) text += fmt::format("; '{}' does not belong", entry->name);
  }
  if (!text.empty())
    fail(ErrorKind::checkpoint, "{}: the tensors are not those of '{}'{}", p.tensors.path().string(), p.family.model_type, text);
  if (extra > 0)
    p.plan.notes.push_back(
        fmt::format("{} tensors of layers behind the last one, which predict further tokens, are left out", extra));
}

// general.file_type of llama.cpp for the most used type.
std::optional<int64_t> file_type(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return 0;
    case GgmlType::f16: return 1;
    case GgmlType::q8_0: return 7;
    case GgmlType::q4_k: return 14;
    case GgmlType::q6_k: return 18;
    case GgmlType::bf16: return 32;
    case GgmlType::mxfp4: return 38;
    default: return std::nullopt;
  }
}

void add_general(GgufPlan& plan) {
  std::map<GgmlType, int64_t> bytes;
  bool quantised = false;
  for (const GgufTensorSource& tensor : plan.tensors) {
    bytes[tensor.type] += tensor.byte_size();
    quantised |= format_of(tensor.type).values > 1;
  }
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != bytes.end())
    if (const auto type = file_type(most->first)) plan.metadata.emplace_back("general.file_type", gguf_u32(*type));
  if (quantised) plan.metadata.emplace_back("general.quantization_version", gguf_u32(2));
}

}  // namespace

GgufPlan plan_gguf(const ordered_json& config, const TensorStore& tensors, const ordered_json* tokenizer,
                   const ordered_json& tokenizer_config, const GgufPlanOptions& options) {
  const GgufFamily& family = gguf_family_of(config.value("model_type", ""));
  if (options.type && !format_of(*options.type).encode)
    fail(ErrorKind::usage, "{} cannot be written; expected one of {}", format_of(*options.type).name, encodable_formats());
  Planner p{family, tensors, options, {}, {}, 0, {}, {}};
  p.plan.metadata = metadata_of(config, family);
  const TensorFacts none;
  const KeyReader keys(family.architecture, p.plan.metadata, none, "config.json");
  p.sizes = layout_sizes(keys);
  p.layers = layer_count(keys);
  add_all(p);
  add_config_tensors(p, config);
  const bool tied = config.value("tie_word_embeddings", false);
  if (tied) std::erase_if(p.plan.tensors, [](const GgufTensorSource& tensor) { return tensor.name == "output.weight"; });
  check_names(p, tied);
  add_general(p.plan);
  add_tokenizer(tokenizer, config, tokenizer_config, p.plan.metadata, p.plan.notes);
  return std::move(p.plan);
}

}  // namespace switchyard::io
