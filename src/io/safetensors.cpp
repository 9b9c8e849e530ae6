#include "io/safetensors.h"

#include "io/strict_json.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace switchyard {
namespace {

using io::JsonAt;
using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference reader

// The text of the header, after checks of the length field.
std::string_view header_text(std::span<const std::byte> file, const std::string& name) {
  if (file.size() < kLengthBytes)
    fail(ErrorKind::checkpoint, "{}: {} bytes, too short for the 8-byte header length of a safetensors file", name, file.size());
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length > kMaxHeaderBytes)
    fail(ErrorKind::checkpoint, "{}: header length {} exceeds the limit of {} bytes; is this a safetensors file?", name, length,
         kMaxHeaderBytes);
  if (length > file.size() - kLengthBytes)
    fail(ErrorKind::checkpoint, "{}: header of {} bytes reaches past the end of the file ({} bytes); the file is truncated", name,
         length, file.size());
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{')
    fail(ErrorKind::checkpoint, "{}: header does not start with '{{'; is this a safetensors file?", name);
  return text;
}

DType read_dtype(const JsonAt& dtype) {
  const auto found = dtype_from_name(dtype.as_string());
  if (!found)
    dtype.wrong("a dtype of F32, F16, BF16, F64, I64, I32, I16, I8, U8, BOOL, F8_E4M3, F8_E5M2");
  return *found;
}

int64_t read_size(const JsonAt& number) {
  const int64_t size = number.as_integer();
  if (size < 0) number.wrong("a size of at least 0");
  return size;
}

struct Range {
  int64_t begin = 0, end = 0;
};

Range read_range(const JsonAt& tensor, int64_t data_bytes) {
  const JsonAt offsets = tensor.at("data_offsets");
  if (offsets.size() != 2) offsets.wrong("[begin, end]");
  const Range range{read_size(offsets.item(0)), read_size(offsets.item(1))};
  if (range.begin > range.end || range.end > data_bytes)
    offsets.wrong(fmt::format("begin <= end <= {}, the bytes after the header", data_bytes));
  return range;
}

TensorEntry read_entry(const std::string& name, const JsonAt& tensor, std::span<const std::byte> data) {
  TensorEntry entry;
  entry.name = name;
  entry.dtype = read_dtype(tensor.at("dtype"));
  const JsonAt shape = tensor.at("shape");
  int64_t bytes = item_size(entry.dtype);
  for (size_t i = 0; i < shape.size(); ++i) {
    entry.shape.push_back(read_size(shape.item(i)));
    if (__builtin_mul_overflow(bytes, entry.shape.back(), &bytes)) shape.wrong("a tensor of less than 2^63 bytes");
  }
  const Range range = read_range(tensor, static_cast<int64_t>(data.size()));
  if (range.end - range.begin != bytes)
    fail(ErrorKind::checkpoint, "{}: data_offsets [{}, {}] hold {} bytes, {} {} needs {}", tensor.where(), range.begin,
         range.end, range.end - range.begin, name_of(entry.dtype), show_shape(entry.shape), bytes);
  entry.bytes = data.subspan(static_cast<size_t>(range.begin), static_cast<size_t>(bytes));
  return entry;
}

// Tensors must lie one after another and fill the file: no overlap, no hole, nothing behind the last.
void check_layout(const std::vector<TensorEntry>& entries, std::span<const std::byte> data, const std::string& name) {
  int64_t filled = 0;
  for (const TensorEntry& entry : entries) {
    const int64_t begin = entry.bytes.data() - data.data();
    if (begin != filled)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' begins at byte {}, expected {}: {}", name, entry.name, begin, filled,
           begin < filled ? "it overlaps another tensor" : "there is a hole before it");
    filled = begin + static_cast<int64_t>(entry.bytes.size());
  }
  if (filled != static_cast<int64_t>(data.size()))
    fail(ErrorKind::checkpoint, "{}: {} bytes after the header, but the tensors fill {}", name, data.size(), filled);
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& name) {
  const std::string_view text = header_text(file, name);
  const json document = io::parse_strict_json(text, name);
  const auto data = file.subspan(kLengthBytes + text.size());

  SafetensorsHeader header;
  for (const auto& [key, value] : JsonAt(document, name).as_object()) {
    if (key == "__metadata__") {
      const JsonAt metadata(value, name + ": __metadata__");
      for (const auto& [meta_key, meta_value] : metadata.as_object())
        header.metadata[meta_key] = JsonAt(meta_value, fmt::format("{}.{}", metadata.where(), meta_key)).as_string();
    } else {
      header.entries.push_back(read_entry(key, JsonAt(value, fmt::format("{}: tensor '{}'", name, key)), data));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  check_layout(header.entries, data, name);
  return header;
}

int64_t TensorEntry::numel() const noexcept {
  if (!decode) return static_cast<int64_t>(bytes.size()) / item_size(dtype);
  int64_t values = 1;
  for (const int64_t size : shape) values *= size;
  return values;
}

void to_float32(const TensorEntry& entry, float* out) {
  if (entry.decode) return entry.decode(out);
  if (!to_float32(entry.dtype, entry.bytes, out))
    fail(ErrorKind::unsupported, "tensor '{}' is {}; expected F32, F16, BF16 or F64", entry.name, name_of(entry.dtype));
}

std::string show_shape(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.mapping_ = MappedFile::open(path);
  file.header_ = parse_safetensors_header(file.mapping_.bytes(), path.string());
  for (size_t i = 0; i < file.header_.entries.size(); ++i) file.by_name_.emplace(file.header_.entries[i].name, i);
  return file;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &header_.entries[found->second];
}

}  // namespace switchyard
