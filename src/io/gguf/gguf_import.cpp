#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "io/gguf/gguf_tokenizer.h"
#include "io/gguf/rope_rows.h"
#include "switchyard/error.h"

#include <algorithm>
#include <set>

namespace switchyard::io {
namespace {

namespace fs = std::filesystem;

struct Source {
  const GgufFamily& family;
  const GgufMetadata& metadata;
  fs::path path;
  std::string file;  // for errors
};

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
  if (!format.decode) fail(ErrorKind::unsupported, "tensor '{}' is stored as {}, which cannot be read here", entry.name, format.name);
  entry.stored_as = format.name;
  entry.decode = [&format, bytes](float* out) { decode_blocks(format, bytes, out); };
  return entry;
}

// As entry_of, with the rows of each head put into the order of Hugging Face.
TensorEntry reordered_entry(const GgufTensor& tensor, int64_t heads, std::string name, const std::string& file) {
  const int64_t rows = tensor.shape.empty() ? 0 : tensor.shape.front();
  if (tensor.shape.size() != 2 || heads < 1 || rows % (2 * heads) != 0)
    fail(ErrorKind::checkpoint, "{}: tensor '{}' has shape {}, expected rows for {} heads of an even size", file, tensor.name, show_shape(tensor.shape), heads);
  TensorEntry entry{std::move(name), DType::f32, tensor.shape, tensor.bytes};
  const BlockFormat& format = *tensor.format;
  if (!format.decode) fail(ErrorKind::unsupported, "{}: tensor '{}' is stored as {}, which cannot be read here", file, tensor.name, format.name);
  entry.stored_as = format.name;
  entry.decode = [&format, bytes = tensor.bytes, rows, columns = tensor.shape[1], c = rows / heads](float* out) {
    const auto row_bytes = static_cast<size_t>(columns / format.values * format.bytes);
    for (int64_t row = 0; row < rows; ++row)
      decode_blocks(format, bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes), out + hf_row_of(row, c) * columns);
  };
  return entry;
}

void add_experts(const GgufTensor& tensor, const NameRow& row, int64_t layer, const Source& source, TensorView& out) {
  const int64_t experts = gguf_size(source.metadata, source.family, "expert_count", source.file);
  if (tensor.shape.size() < 2 || tensor.shape.front() != experts)
    fail(ErrorKind::checkpoint, "{}: tensor '{}' has shape {}, expected {} experts (expert_count)", source.file, tensor.name, show_shape(tensor.shape),
         experts);
  const size_t size = tensor.bytes.size() / static_cast<size_t>(experts);
  const std::vector<int64_t> shape(tensor.shape.begin() + 1, tensor.shape.end());
  for (int64_t e = 0; e < experts; ++e)
    out.add(entry_of(*tensor.format, tensor.bytes.subspan(static_cast<size_t>(e) * size, size), shape, fill_in(row.hf, layer, e)), source.path);
}

void add_tensor(const GgufTensor& tensor, const NameRow& row, const NameNumbers& numbers, const Source& source, TensorView& out) {
  const auto heads = [&](std::string_view key, std::optional<int64_t> absent) { return gguf_size(source.metadata, source.family, key, source.file, absent); };
  const auto name = fill_in(row.hf, numbers.layer, numbers.expert);
  switch (row.how) {
    case Arrange::plain:
    case Arrange::old_expert:
      return out.add(entry_of(*tensor.format, tensor.bytes, tensor.shape, name), source.path);
    case Arrange::query_rows:
      return out.add(reordered_entry(tensor, heads("attention.head_count", {}), name, source.file), source.path);
    case Arrange::key_rows: {
      const int64_t n = heads("attention.head_count_kv", heads("attention.head_count", {}));
      return out.add(reordered_entry(tensor, n, name, source.file), source.path);
    }
    case Arrange::stack:
      return add_experts(tensor, row, numbers.layer, source, out);
    default:
      fail(ErrorKind::unsupported, "{}: tensor '{}': values of '{}' in the layout of GGUF cannot be converted yet", source.file, tensor.name, row.hf);
  }
}

void add_all(const GgufFile& file, const Source& source, TensorView& out) {
  const int64_t layers = gguf_size(source.metadata, source.family, "block_count", source.file);
  std::string unexpected;
  for (const GgufTensor& tensor : file.header().tensors) {
    if (tensor.name == "rope_freqs.weight")
      fail(ErrorKind::unsupported, "{}: tensor 'rope_freqs.weight' scales rotary positions, which is not supported", source.file);
    bool found = false;
    for (const NameRow& row : source.family.names)
      if (const auto numbers = match(row.gguf, tensor.name); numbers && numbers->layer < layers && !found) {
        add_tensor(tensor, row, *numbers, source, out);
        found = true;
      }
    if (!found) unexpected += fmt::format("{}'{}'", unexpected.empty() ? "" : ", ", tensor.name);
  }
  if (!unexpected.empty())
    fail(ErrorKind::checkpoint, "{}: tensors that architecture '{}' with {} layers does not have: {}", source.file, source.family.architecture, layers,
         unexpected);
}

// Rows of the table without which no model can be: checked here, so that the error speaks the names of the file.
void check_complete(const GgufFile& file, const Source& source) {
  const int64_t layers = gguf_size(source.metadata, source.family, "block_count", source.file);
  for (const NameRow& row : source.family.names) {
    if (row.optional || row.how == Arrange::old_expert) continue;
    const bool per_layer = row.gguf.find("{i}") != std::string_view::npos;
    for (int64_t i = 0; i < (per_layer ? layers : 1); ++i) {
      const auto is_there = [&](const NameRow& other) { return other.hf == row.hf && file.find(fill_in(other.gguf, i, 0)) != nullptr; };
      if (std::none_of(source.family.names.begin(), source.family.names.end(), is_there))
        fail(ErrorKind::checkpoint, "{}: tensor '{}' is missing", source.file, fill_in(row.gguf, i, 0));
    }
  }
}

}  // namespace

GgufModel open_gguf_model(const fs::path& path) {
  const auto file = std::make_shared<GgufFile>(GgufFile::open(path));
  const GgufMetadata& metadata = file->metadata();
  const Source source{family_of(metadata, path.string()), metadata, path, path.string()};
  GgufModel out;
  out.config = config_of(metadata, source.family, source.file);
  check_complete(*file, source);
  auto view = std::make_unique<TensorView>(path, file);
  add_all(*file, source, *view);

  const GgufTensor* embedding = file->find("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2) fail(ErrorKind::checkpoint, "{}: tensor 'token_embd.weight' is missing or no matrix", source.file);
  out.config["vocab_size"] = embedding->shape.front();
  out.config["tie_word_embeddings"] = file->find("output.weight") == nullptr;
  out.tensors = std::move(view);
  out.tokenizer = tokenizer_of(metadata, source.file);
  out.tokenizer_config = tokenizer_config_of(metadata);
  return out;
}

}  // namespace switchyard::io
