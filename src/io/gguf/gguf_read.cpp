#include "io/gguf/gguf.h"

#include "io/safetensors.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>

namespace switchyard::io {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;   // of the format
constexpr uint64_t kMaxNameBytes = 4096;
constexpr uint32_t kMaxDimensions = 4;     // of GGML
constexpr int kMaxNesting = 8;             // of arrays
constexpr uint64_t kMaxItems = 1 << 24;    // of all arrays together: a vocabulary with merges has less than a million
constexpr int64_t kMaxAlignment = 1 << 20;

// Little-endian items from the front of a file; every step is checked.
class Reader {
 public:
  Reader(std::span<const std::byte> file, const std::string& name) : file_(file), name_(name) {}

  [[nodiscard]] uint64_t left() const { return file_.size() - at_; }
  [[nodiscard]] uint64_t at() const { return at_; }
  [[nodiscard]] const std::string& name() const { return name_; }

  template <class Item>
  Item item(std::string_view what) {
    need(sizeof(Item), what);
    Item value;
    std::memcpy(&value, file_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  std::string text(std::string_view what, uint64_t longest) {
    const auto length = item<uint64_t>(what);
    if (length > longest) fail(ErrorKind::checkpoint, "{}: {} has {} bytes, expected at most {}", name_, what, length, longest);
    need(length, what);
    std::string out(reinterpret_cast<const char*>(file_.data()) + at_, length);
    at_ += length;
    return out;
  }

  // A count of things that take at least `bytes_each`: more than the file can hold is refused before memory is asked for.
  uint64_t count(std::string_view what, uint64_t bytes_each) {
    const auto n = item<uint64_t>(what);
    if (n > left() / bytes_each)
      fail(ErrorKind::checkpoint, "{}: {} = {}, but only {} bytes are left; the file is damaged or truncated", name_, what, n, left());
    return n;
  }

  // Array items so far plus `n`.
  void count_items(uint64_t n, std::string_view what) {
    if (n > kMaxItems - items_) fail(ErrorKind::checkpoint, "{}: {}: more than {} array items in the file", name_, what, kMaxItems);
    items_ += n;
  }

 private:
  void need(uint64_t bytes, std::string_view what) const {
    if (bytes > left())
      fail(ErrorKind::checkpoint, "{}: {} at byte {} needs {} bytes, {} are left; the file is truncated", name_, what, at_, bytes, left());
  }

  std::span<const std::byte> file_;
  const std::string& name_;
  uint64_t at_ = 0, items_ = 0;
};

GgufKind read_kind(Reader& in, std::string_view what) {
  const auto kind = in.item<uint32_t>(what);
  if (kind > static_cast<uint32_t>(GgufKind::f64)) fail(ErrorKind::checkpoint, "{}: {} has value type {}, expected 0 to 12", in.name(), what, kind);
  return static_cast<GgufKind>(kind);
}

uint64_t least_bytes(GgufKind kind) {
  switch (kind) {
    case GgufKind::u8: case GgufKind::i8: case GgufKind::boolean: return 1;
    case GgufKind::u16: case GgufKind::i16: return 2;
    case GgufKind::u32: case GgufKind::i32: case GgufKind::f32: return 4;
    case GgufKind::array: return 12;
    default: return 8;
  }
}

GgufValue read_value(Reader& in, GgufKind kind, std::string_view what, int depth);

GgufValue read_array(Reader& in, std::string_view what, int depth) {
  if (depth >= kMaxNesting) fail(ErrorKind::checkpoint, "{}: {}: arrays are nested deeper than {}", in.name(), what, kMaxNesting);
  GgufValue out{GgufKind::array, GgufValue::Array{}, read_kind(in, what)};
  const uint64_t n = in.count(what, least_bytes(out.items));
  in.count_items(n, what);
  auto& items = std::get<GgufValue::Array>(out.value);
  items.reserve(n);
  for (uint64_t i = 0; i < n; ++i) items.push_back(read_value(in, out.items, what, depth + 1));
  return out;
}

bool read_bool(Reader& in, std::string_view what) {
  const auto byte = in.item<uint8_t>(what);
  if (byte > 1) fail(ErrorKind::checkpoint, "{}: {} is the bool {}, expected 0 or 1", in.name(), what, byte);
  return byte == 1;
}

GgufValue read_value(Reader& in, GgufKind kind, std::string_view what, int depth) {
  switch (kind) {
    case GgufKind::u8: return {kind, uint64_t{in.item<uint8_t>(what)}};
    case GgufKind::u16: return {kind, uint64_t{in.item<uint16_t>(what)}};
    case GgufKind::u32: return {kind, uint64_t{in.item<uint32_t>(what)}};
    case GgufKind::u64: return {kind, in.item<uint64_t>(what)};
    case GgufKind::i8: return {kind, int64_t{in.item<int8_t>(what)}};
    case GgufKind::i16: return {kind, int64_t{in.item<int16_t>(what)}};
    case GgufKind::i32: return {kind, int64_t{in.item<int32_t>(what)}};
    case GgufKind::i64: return {kind, in.item<int64_t>(what)};
    case GgufKind::f32: return {kind, double{in.item<float>(what)}};
    case GgufKind::f64: return {kind, in.item<double>(what)};
    case GgufKind::boolean: return {kind, read_bool(in, what)};
    case GgufKind::string: return {kind, in.text(what, in.left())};
    case GgufKind::array: return read_array(in, what, depth);
  }
  fail(ErrorKind::internal, "GGUF value type {}", static_cast<uint32_t>(kind));
}

void read_start(Reader& in, GgufHeader& header) {
  if (in.left() < 4 || in.item<uint32_t>("magic") != 0x46554747U) fail(ErrorKind::checkpoint, "{}: does not begin with 'GGUF'", in.name());
  header.version = in.item<uint32_t>("version");
  if ((header.version & 0xFFFFU) == 0) fail(ErrorKind::unsupported, "{}: a big-endian GGUF file; only little-endian ones are read", in.name());
  if (header.version != 2 && header.version != 3) fail(ErrorKind::unsupported, "{}: GGUF version {}; versions 2 and 3 are read", in.name(), header.version);
}

void read_metadata(Reader& in, uint64_t n, GgufHeader& header) {
  std::set<std::string, std::less<>> keys;
  for (uint64_t i = 0; i < n; ++i) {
    const std::string key = in.text(fmt::format("metadata key {}", i), kMaxKeyBytes);
    const auto what = fmt::format("metadata '{}'", key);
    if (key.empty() || !keys.insert(key).second) fail(ErrorKind::checkpoint, "{}: {} is empty or stands there twice", in.name(), what);
    const GgufKind kind = read_kind(in, what);
    header.metadata.emplace_back(key, read_value(in, kind, what, 0));
  }
  if (const GgufValue* alignment = find(header.metadata, "general.alignment")) {
    const uint64_t* bytes = std::get_if<uint64_t>(&alignment->value);
    if (!bytes || *bytes == 0 || *bytes % 8 != 0 || *bytes > kMaxAlignment)
      fail(ErrorKind::checkpoint, "{}: general.alignment = {}, expected a multiple of 8 up to {}", in.name(), shown(*alignment), kMaxAlignment);
    header.alignment = static_cast<int64_t>(*bytes);
  }
}

// A description whose bytes are not known yet: `bytes` has the size and, as its address, nothing.
struct Described {
  GgufTensor tensor;
  uint64_t offset = 0, size = 0;
};

const BlockFormat& read_format(Reader& in, const std::string& what) {
  const auto type = in.item<uint32_t>(what);
  const BlockFormat* format = find_block_format(type);
  if (!format) fail(ErrorKind::checkpoint, "{}: {} has type {}, which is no type of GGML or one that was removed", in.name(), what, type);
  return *format;
}

Described read_description(Reader& in, uint64_t index) {
  Described out;
  out.tensor.name = in.text(fmt::format("name of tensor {}", index), kMaxNameBytes);
  const auto what = fmt::format("tensor '{}'", out.tensor.name);
  const auto dimensions = in.item<uint32_t>(what);
  if (dimensions > kMaxDimensions) fail(ErrorKind::checkpoint, "{}: {} has {} dimensions, expected at most {}", in.name(), what, dimensions, kMaxDimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.item<uint64_t>(what);
    if (size > INT64_MAX) fail(ErrorKind::checkpoint, "{}: {} has the size {}", in.name(), what, size);
    out.tensor.shape.insert(out.tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const BlockFormat& format = read_format(in, what);
  out.tensor.format = &format;
  const int64_t row = out.tensor.shape.empty() ? 1 : out.tensor.shape.back();
  if (row % format.values != 0)
    fail(ErrorKind::checkpoint, "{}: {} has rows of {} values, {} needs a multiple of {}", in.name(), what, row, format.name, format.values);
  int64_t values = 1, size = 0;
  for (const int64_t length : out.tensor.shape)
    if (__builtin_mul_overflow(values, length, &values)) fail(ErrorKind::checkpoint, "{}: {} {} is too large", in.name(), what, show_shape(out.tensor.shape));
  if (__builtin_mul_overflow(values / format.values, format.bytes, &size))
    fail(ErrorKind::checkpoint, "{}: {} {} is too large", in.name(), what, show_shape(out.tensor.shape));
  out.size = static_cast<uint64_t>(size);
  out.offset = in.item<uint64_t>(what);
  return out;
}

// The tensors' ranges: aligned, inside the file, without overlap.
void place_tensors(std::vector<Described>& described, std::span<const std::byte> data, const GgufHeader& header, const std::string& name) {
  std::vector<const Described*> order;
  for (Described& d : described) {
    if (d.offset % static_cast<uint64_t>(header.alignment) != 0)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' begins at byte {} of the data, expected a multiple of {}", name, d.tensor.name, d.offset, header.alignment);
    if (d.offset > data.size() || d.size > data.size() - d.offset)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' takes bytes {} to {} of the data, which has {}; the file is truncated", name, d.tensor.name, d.offset,
           d.offset + d.size, data.size());
    d.tensor.bytes = data.subspan(d.offset, d.size);
    if (d.size > 0) order.push_back(&d);
  }
  std::sort(order.begin(), order.end(), [](const Described* a, const Described* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->offset + order[i - 1]->size > order[i]->offset)
      fail(ErrorKind::checkpoint, "{}: tensors '{}' and '{}' overlap", name, order[i - 1]->tensor.name, order[i]->tensor.name);
}

}  // namespace

GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name) {
  Reader in(file, name);
  GgufHeader header;
  read_start(in, header);
  const uint64_t tensors = in.count("tensor count", 24), keys = in.count("metadata count", 13);
  read_metadata(in, keys, header);

  std::vector<Described> described;
  std::set<std::string, std::less<>> names;
  for (uint64_t i = 0; i < tensors; ++i) {
    described.push_back(read_description(in, i));
    if (!names.insert(described.back().tensor.name).second)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' is described twice", name, described.back().tensor.name);
  }
  const auto alignment = static_cast<uint64_t>(header.alignment);
  const uint64_t start = std::min<uint64_t>((in.at() + alignment - 1) / alignment * alignment, file.size());
  place_tensors(described, file.subspan(start), header, name);
  for (Described& d : described) header.tensors.push_back(std::move(d.tensor));
  return header;
}

bool is_gguf(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file;
  file.mapping_ = MappedFile::open(path);
  file.header_ = parse_gguf(file.mapping_.bytes(), path.string());
  for (size_t i = 0; i < file.header_.tensors.size(); ++i) file.by_name_.emplace(file.header_.tensors[i].name, i);
  return file;
}

const GgufTensor* GgufFile::find(std::string_view tensor) const {
  const auto found = by_name_.find(tensor);
  return found == by_name_.end() ? nullptr : &header_.tensors[found->second];
}

}  // namespace switchyard::io
