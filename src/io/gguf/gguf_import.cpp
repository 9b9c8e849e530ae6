#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "io/gguf/gguf_rope.h"
#include "io/gguf/gguf_tokenizer.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace switchyard::io {
namespace {

namespace fs = std::filesystem;

struct Source {
  const GgufFamily& family;
  const GgufFile& file;
  KeyReader keys;
  LayoutSizes sizes;
  int64_t layers = 0;

  [[nodiscard]] const std::string& name() const { return keys.file(); }
};

// Part of a Hugging Face tensor: a whole GGUF tensor.
struct Part {
  const GgufTensor* tensor;
  ValueLayout layout;
  bool log_of_negative;  // Arrange::negative_exp
};
using Joint = std::map<std::string, std::vector<Part>, std::less<>>;

// Formats that a safetensors entry can have as they are.
std::optional<DType> plain_dtype(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return DType::f32;
    case GgmlType::f16: return DType::f16;
    case GgmlType::bf16: return DType::bf16;
    case GgmlType::f64: return DType::f64;
    case GgmlType::i8: return DType::i8;
    case GgmlType::i16: return DType::i16;
    case GgmlType::i32: return DType::i32;
    case GgmlType::i64: return DType::i64;
    default: return std::nullopt;
  }
}

TensorEntry entry_of(const BlockFormat& format, std::span<const std::byte> bytes, std::vector<int64_t> shape, std::string name) {
  TensorEntry entry{std::move(name), DType::f32, std::move(shape), bytes};
  if (const auto dtype = plain_dtype(format.type)) {
    entry.dtype = *dtype;
    return entry;
  }
  if (!format.decode)
    fail(ErrorKind::unsupported, "tensor '{}' is stored as {}, which cannot be read here", entry.name, format.name);
  entry.stored_as = format.name;
  entry.decode = [&format, bytes](float* out) { decode_blocks(format, bytes, out); };
  return entry;
}

void decode_part(const Part& part, float* out) {
  const BlockFormat& format = *part.tensor->format;
  const int64_t columns = part.layout.columns(), rows = part.layout.rows(), stride = part.layout.stride();
  const auto row_bytes = static_cast<size_t>(columns / format.values * format.bytes);
  std::vector<float> values(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; ++row) {
    decode_blocks(format, part.tensor->bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes), values.data());
    float* const to = out + part.layout.start_of(row);
    for (int64_t i = 0; i < columns; ++i) {
      const float value = values[static_cast<size_t>(i)];
      to[i * stride] = part.log_of_negative ? static_cast<float>(std::log(-static_cast<double>(value))) : value;
    }
  }
}

TensorEntry joined_entry(const std::string& name, const std::vector<Part>& parts, const std::string& file) {
  TensorEntry entry{name, DType::f32, parts.front().layout.hf_shape, parts.front().tensor->bytes};
  entry.stored_as = parts.front().tensor->format->name;
  int64_t values = 0;
  for (const Part& part : parts) {
    const BlockFormat& format = *part.tensor->format;
    if (!format.decode)
      fail(ErrorKind::unsupported, "{}: tensor '{}' is stored as {}, which cannot be read here", file, part.tensor->name,
           format.name);
    if (part.layout.hf_shape != entry.shape)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' makes a '{}' of shape {}, but '{}' one of {}", file, part.tensor->name, name,
           show_shape(part.layout.hf_shape), parts.front().tensor->name, show_shape(entry.shape));
    if (format.name != entry.stored_as) entry.stored_as = "F32";
    values += part.tensor->numel();
  }
  entry.decode = [parts](float* out) {
    for (const Part& part : parts) decode_part(part, out);
  };
  if (values != entry.numel())
    fail(ErrorKind::checkpoint, "{}: '{}' has {} values, but the tensors that it is made of have {}: one is missing beside '{}'",
         file, name, entry.numel(), values, parts.front().tensor->name);
  return entry;
}

void add_experts(const GgufTensor& tensor, const NameRow& row, int64_t layer, const Source& source, TensorView& out) {
  const int64_t experts = source.keys.size("expert_count");
  if (tensor.shape.size() < 2 || experts < 1 || tensor.shape.front() != experts)
    fail(ErrorKind::checkpoint, "{}: tensor '{}' has shape {}, expected {} experts (expert_count)", source.name(), tensor.name,
         show_shape(tensor.shape), experts);
  const size_t size = tensor.bytes.size() / static_cast<size_t>(experts);
  const std::vector<int64_t> shape(tensor.shape.begin() + 1, tensor.shape.end());
  for (int64_t e = 0; e < experts; ++e)
    out.add(entry_of(*tensor.format, tensor.bytes.subspan(static_cast<size_t>(e) * size, size), shape, fill_in(row.hf, layer, e)),
            source.file.path());
}

void add_tensor(const GgufTensor& tensor, const NameRow& row, const NameNumbers& numbers, const Source& source, TensorView& out,
                Joint& joint) {
  const auto name = fill_in(row.hf, numbers.layer, numbers.expert);
  if (row.how == Arrange::plain || row.how == Arrange::old_expert || row.how == Arrange::old_whole)
    return out.add(entry_of(*tensor.format, tensor.bytes, tensor.shape, name), source.file.path());
  if (row.how == Arrange::stack) return add_experts(tensor, row, numbers.layer, source, out);
  auto layout = layout_of_gguf(row.how, tensor.shape, source.sizes);
  if (!layout) {
    const int64_t heads = row.how == Arrange::key_rows ? source.sizes.kv_heads : source.sizes.heads;
    fail(ErrorKind::checkpoint, "{}: tensor '{}' has shape {}, which does not fit {} heads and {} experts", source.name(),
         tensor.name, show_shape(tensor.shape), heads, source.sizes.experts);
  }
  joint[name].push_back({&tensor, std::move(*layout), row.how == Arrange::negative_exp});
}

bool is_of_extra_layer(std::string_view tensor, int64_t layers) {
  const auto numbers = match("blk.{i}", tensor.substr(0, tensor.find('.', 4)));
  return numbers && numbers->layer >= layers;
}

void add_all(const Source& source, TensorView& out) {
  std::string unexpected;
  Joint joint;
  const int64_t all_layers = source.keys.size("block_count");
  for (const GgufTensor& tensor : source.file.header().tensors) {
    const auto& in_config = source.family.config_tensors;
    bool found = std::find(in_config.begin(), in_config.end(), tensor.name) != in_config.end();
    if (!found && tensor.name == kRopeDivisors)
      fail(ErrorKind::unsupported, "{}: tensor '{}' scales rotary positions, which is not supported in the family '{}'", source.name(), tensor.name,
           source.family.model_type);
    found = found || (is_of_extra_layer(tensor.name, source.layers) && !is_of_extra_layer(tensor.name, all_layers));
    for (const NameRow& row : source.family.names)
      if (const auto numbers = match(row.gguf, tensor.name); numbers && numbers->layer < source.layers && !found) {
        add_tensor(tensor, row, *numbers, source, out, joint);
        found = true;
      }
    if (!found) unexpected += fmt::format("{}'{}'", unexpected.empty() ? "" : ", ", tensor.name);
  }
  if (!unexpected.empty())
    fail(ErrorKind::checkpoint, "{}: tensors that architecture '{}' with {} layers does not have: {}", source.name(),
         source.family.architecture, source.layers, unexpected);
  for (const auto& [name, parts] : joint) out.add(joined_entry(name, parts, source.name()), source.file.path());
}

// Rows of the table without which no model can be: checked here, so that the error speaks the names of the file.
void check_complete(const Source& source) {
  for (const NameRow& row : source.family.names) {
    if (row.optional || row.how == Arrange::old_expert || row.how == Arrange::old_whole) continue;
    const bool per_layer = row.gguf.find("{i}") != std::string_view::npos;
    for (int64_t i = 0; i < (per_layer ? source.layers : 1); ++i) {
      const auto is_there = [&](const NameRow& other) {
        return other.hf == row.hf && source.file.find(fill_in(other.gguf, i, 0)) != nullptr;
      };
      if (std::none_of(source.family.names.begin(), source.family.names.end(), is_there))
        fail(ErrorKind::checkpoint, "{}: tensor '{}' is missing", source.name(), fill_in(row.gguf, i, 0));
    }
  }
}

TensorFacts facts_of(const GgufFile& file) {
  const auto values = [&file](std::string_view name) {
    const GgufTensor* tensor = file.find(name);
    std::vector<float> out(tensor ? static_cast<size_t>(tensor->numel()) : 0);
    if (tensor) decode_blocks(*tensor->format, tensor->bytes, out.data());
    return out;
  };
  return {[&file](std::string_view name) { return file.find(name) != nullptr; }, values};
}

}  // namespace

GgufModel open_gguf_model(const fs::path& path) {
  const auto file = std::make_shared<GgufFile>(GgufFile::open(path));
  const GgufMetadata& metadata = file->metadata();
  const GgufFamily& family = family_of(metadata, path.string());
  const TensorFacts facts = facts_of(*file);
  GgufModel out;
  out.config = config_of(metadata, family, facts, path.string());
  const KeyReader keys(family.architecture, metadata, facts, path.string());
  const Source source{family, *file, keys, layout_sizes(keys), layer_count(keys)};
  check_complete(source);
  auto view = std::make_unique<TensorView>(path, file);
  add_all(source, *view);

  const GgufTensor* embedding = file->find("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2)
    fail(ErrorKind::checkpoint, "{}: tensor 'token_embd.weight' is missing or no matrix", source.name());
  out.config["vocab_size"] = embedding->shape.front();
  out.config["tie_word_embeddings"] = file->find("output.weight") == nullptr;
  out.tensors = std::move(view);
  out.tokenizer = tokenizer_of(metadata, source.name());
  out.tokenizer_config = tokenizer_config_of(metadata);
  return out;
}

}  // namespace switchyard::io
