#include "io/gguf/gguf_write.h"

#include "switchyard/error.h"

#include <cstring>
#include <set>

namespace switchyard::io {
namespace {

template <class Item>
void put(std::string& out, Item item) {
  char bytes[sizeof item];
  std::memcpy(bytes, &item, sizeof item);  // this host is little-endian (io/dtype.cpp)
  out.append(bytes, sizeof item);
}

void put_text(std::string& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

void put_value(std::string& out, const GgufValue& v) {
  const auto natural = [&] { return std::get<uint64_t>(v.value); };
  const auto integer = [&] { return std::get<int64_t>(v.value); };
  switch (v.kind) {
    case GgufKind::u8: return put(out, static_cast<uint8_t>(natural()));
    case GgufKind::u16: return put(out, static_cast<uint16_t>(natural()));
    case GgufKind::u32: return put(out, static_cast<uint32_t>(natural()));
    case GgufKind::u64: return put(out, natural());
    case GgufKind::i8: return put(out, static_cast<int8_t>(integer()));
    case GgufKind::i16: return put(out, static_cast<int16_t>(integer()));
    case GgufKind::i32: return put(out, static_cast<int32_t>(integer()));
    case GgufKind::i64: return put(out, integer());
    case GgufKind::f32: return put(out, static_cast<float>(std::get<double>(v.value)));
    case GgufKind::f64: return put(out, std::get<double>(v.value));
    case GgufKind::boolean: return put(out, static_cast<uint8_t>(std::get<bool>(v.value)));
    case GgufKind::string: return put_text(out, std::get<std::string>(v.value));
    case GgufKind::array:
      put(out, static_cast<uint32_t>(v.items));
      put(out, static_cast<uint64_t>(v.array()->size()));
      for (const GgufValue& item : *v.array()) put_value(out, item);
  }
}

int64_t padded(int64_t bytes, int64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

int64_t alignment_of(const GgufMetadata& metadata) {
  const GgufValue* value = find(metadata, "general.alignment");
  return value ? static_cast<int64_t>(std::get<uint64_t>(value->value)) : 32;
}

std::string header_bytes(const std::filesystem::path& path, const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors) {
  const int64_t alignment = alignment_of(metadata);
  std::string out = "GGUF";
  put(out, uint32_t{3});
  put(out, static_cast<uint64_t>(tensors.size()));
  put(out, static_cast<uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    put_text(out, key);
    put(out, static_cast<uint32_t>(value.kind));
    put_value(out, value);
  }
  std::set<std::string_view> names;
  int64_t offset = 0;
  for (const GgufTensorSource& tensor : tensors) {
    if (!names.insert(tensor.name).second) fail(ErrorKind::internal, "{}: tensor '{}' is given twice", path.string(), tensor.name);
    put_text(out, tensor.name);
    put(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) put(out, static_cast<uint64_t>(*size));
    put(out, static_cast<uint32_t>(tensor.type));
    put(out, static_cast<uint64_t>(offset));
    offset += padded(tensor.byte_size(), alignment);
  }
  out.append(static_cast<size_t>(padded(static_cast<int64_t>(out.size()), alignment)) - out.size(), '\0');
  return out;
}

// Passes bytes on and counts them.
class CountingSink final : public Sink {
 public:
  explicit CountingSink(Sink& next) : next_(next) {}
  void write(std::span<const std::byte> bytes) override {
    count += static_cast<int64_t>(bytes.size());
    next_.write(bytes);
  }
  int64_t count = 0;

 private:
  Sink& next_;
};

}  // namespace

int64_t GgufTensorSource::byte_size() const {
  const BlockFormat& format = format_of(type);
  int64_t values = 1;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(values, size, &values)) fail(ErrorKind::internal, "tensor '{}': a size is negative or too large", name);
  if ((shape.empty() ? 1 : shape.back()) % format.values != 0) fail(ErrorKind::internal, "tensor '{}': its rows do not fit blocks of {}", name, format.name);
  return values / format.values * format.bytes;
}

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors,
                const std::function<void(int64_t)>& progress) {
  const int64_t alignment = alignment_of(metadata);
  AtomicFile file(path);
  file.write(header_bytes(path, metadata, tensors));
  int64_t written = 0;
  for (const GgufTensorSource& tensor : tensors) {
    CountingSink sink(file);
    tensor.write(sink);
    if (sink.count != tensor.byte_size())
      fail(ErrorKind::internal, "{}: tensor '{}' wrote {} bytes, its shape says {}", path.string(), tensor.name, sink.count, tensor.byte_size());
    file.write(std::string(static_cast<size_t>(padded(sink.count, alignment) - sink.count), '\0'));
    written += sink.count;
    if (progress) progress(written);
  }
  file.commit();
}

}  // namespace switchyard::io
