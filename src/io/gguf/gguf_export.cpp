#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "io/gguf/gguf_tokenizer.h"
#include "io/gguf/rope_rows.h"
#include "switchyard/error.h"

#include <algorithm>
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
  std::set<std::string> used, missing;

  [[nodiscard]] int64_t size(std::string_view key, std::optional<int64_t> absent = {}) const {
    return gguf_size(plan.metadata, family, key, "config.json", absent);
  }
};

GgmlType as_stored(const TensorEntry& entry) {
  if (entry.decode) {
    const BlockFormat* format = find_block_format(entry.stored_as);
    return format && format->values == 1 && format->encode ? format->type : GgmlType::f32;
  }
  switch (entry.dtype) {
    case DType::f32: case DType::f64: return GgmlType::f32;
    case DType::f16: return GgmlType::f16;
    case DType::bf16: return GgmlType::bf16;
    default: fail(ErrorKind::unsupported, "tensor '{}' is {}; GGUF models hold floats", entry.name, name_of(entry.dtype));
  }
}

// Vectors and routers are small and matter much: they stay float32, as other writers keep them.
GgmlType choose_type(Planner& p, std::string_view gguf_name, const TensorEntry& entry) {
  const bool is_matrix = entry.shape.size() >= 2 && gguf_name.find("ffn_gate_inp") == std::string_view::npos;
  if (!is_matrix) return GgmlType::f32;
  if (!p.options.type) return as_stored(entry);
  const BlockFormat& format = format_of(*p.options.type);
  if (entry.shape.back() % format.values == 0) return format.type;
  p.plan.notes.push_back(
      fmt::format("{}: rows of {} values are no whole number of {} blocks of {}; stored as F16", gguf_name, entry.shape.back(), format.name, format.values));
  return GgmlType::f16;
}

// The values of a tensor as `type`, rows of each head (of c rows, 0 = none) interleaved. One tensor is in memory.
void write_entry(const TensorEntry& entry, GgmlType type, int64_t c, const std::string& name, Sink& sink) {
  const BlockFormat& format = format_of(type);
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  to_float32(entry, values.data());
  const size_t columns = entry.shape.empty() ? 1 : static_cast<size_t>(entry.shape.back());
  const size_t row_bytes = columns / static_cast<size_t>(format.values) * static_cast<size_t>(format.bytes);
  std::vector<std::byte> bytes(row_bytes);
  for (size_t row = 0; row * columns < values.size(); ++row) {
    const auto from = c > 0 ? static_cast<size_t>(hf_row_of(static_cast<int64_t>(row), c)) : row;
    encode_blocks(format, std::span(values).subspan(from * columns, columns), bytes.data(), name);
    sink.write(bytes);
  }
}

void add_one(Planner& p, const NameRow& row, int64_t layer, int64_t heads) {
  const std::string hf = fill_in(row.hf, layer, -1), name = fill_in(row.gguf, layer, -1);
  const TensorEntry* entry = p.tensors.find(hf);
  if (!entry) {
    if (!row.optional) p.missing.insert(hf);
    return;
  }
  p.used.insert(hf);
  if (heads > 0 && (entry->shape.size() != 2 || entry->shape[0] % (2 * heads) != 0))
    fail(ErrorKind::checkpoint, "tensor '{}' has shape {}, expected rows for {} heads of an even size", hf, show_shape(entry->shape), heads);
  const int64_t c = heads > 0 ? entry->shape[0] / heads : 0;
  const GgmlType type = choose_type(p, name, *entry);
  p.plan.tensors.push_back({name, type, entry->shape, [entry, type, c, name](Sink& sink) { write_entry(*entry, type, c, name, sink); }});
}

void add_stack(Planner& p, const NameRow& row, int64_t layer) {
  const int64_t experts = p.size("expert_count");
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
      fail(ErrorKind::checkpoint, "tensor '{}' has shape {}, the first expert's {}", entry->name, show_shape(entry->shape), show_shape(entries.front()->shape));
  const std::string name = fill_in(row.gguf, layer, -1);
  const GgmlType type = choose_type(p, name, *entries.front());
  p.plan.tensors.push_back({name, type, {experts, entries.front()->shape[0], entries.front()->shape[1]}, [entries, type, name](Sink& sink) {
                              for (const TensorEntry* entry : entries) write_entry(*entry, type, 0, name, sink);
                            }});
}

void add_row(Planner& p, const NameRow& row, int64_t layer) {
  switch (row.how) {
    case Arrange::plain: return add_one(p, row, layer, 0);
    case Arrange::query_rows: return add_one(p, row, layer, p.size("attention.head_count"));
    case Arrange::key_rows: return add_one(p, row, layer, p.size("attention.head_count_kv", p.size("attention.head_count")));
    case Arrange::stack: return add_stack(p, row, layer);
    case Arrange::old_expert: return;
    default: fail(ErrorKind::unsupported, "'{}': its values cannot be put into the layout of GGUF's '{}' yet", row.hf, row.gguf);
  }
}

// Rows outside of layers, and the rows of all layers where the table has them.
void add_all(Planner& p) {
  const auto& rows = p.family.names;
  const auto in_layer = [](const NameRow& row) { return row.gguf.find("{i}") != std::string_view::npos; };
  const auto first = std::find_if(rows.begin(), rows.end(), in_layer);
  const auto end = std::find_if_not(first, rows.end(), in_layer);
  for (auto row = rows.begin(); row != first; ++row) add_row(p, *row, -1);
  for (int64_t layer = 0; layer < p.size("block_count"); ++layer)
    for (auto row = first; row != end; ++row) add_row(p, *row, layer);
  for (auto row = end; row != rows.end(); ++row) add_row(p, *row, -1);
}

void check_names(const Planner& p, bool tied) {
  std::string text;
  for (const std::string& name : p.missing) text += fmt::format("; '{}' is missing", name);
  for (const TensorEntry* entry : p.tensors.entries()) {
    const bool leftover = entry->name.ends_with(".rotary_emb.inv_freq") || (tied && entry->name == "lm_head.weight");
    if (!p.used.count(entry->name) && !leftover) text += fmt::format("; '{}' does not belong", entry->name);
  }
  if (!text.empty()) fail(ErrorKind::checkpoint, "{}: the tensors are not those of '{}'{}", p.tensors.path().string(), p.family.model_type, text);
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
  const auto most = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != bytes.end())
    if (const auto type = file_type(most->first)) plan.metadata.emplace_back("general.file_type", gguf_u32(*type));
  if (quantised) plan.metadata.emplace_back("general.quantization_version", gguf_u32(2));
}

}  // namespace

GgufPlan plan_gguf(const ordered_json& config, const TensorStore& tensors, const ordered_json* tokenizer, const ordered_json& tokenizer_config,
                   const GgufPlanOptions& options) {
  const GgufFamily& family = gguf_family_of(config.value("model_type", ""));
  if (options.type && !format_of(*options.type).encode)
    fail(ErrorKind::usage, "{} cannot be written; expected one of {}", format_of(*options.type).name, encodable_formats());
  Planner p{family, tensors, options, {}, {}, {}};
  p.plan.metadata = metadata_of(config, family);
  add_all(p);
  const bool tied = config.value("tie_word_embeddings", false);
  if (tied) std::erase_if(p.plan.tensors, [](const GgufTensorSource& tensor) { return tensor.name == "output.weight"; });
  check_names(p, tied);
  add_general(p.plan);
  add_tokenizer(tokenizer, config, tokenizer_config, p.plan.metadata, p.plan.notes);
  return std::move(p.plan);
}

}  // namespace switchyard::io
