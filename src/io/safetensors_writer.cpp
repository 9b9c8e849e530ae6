#include "io/safetensors_writer.h"

#include "switchyard/error.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, std::string>;

// Passes bytes on and counts them.
class CountingSink final : public Sink {
 public:
  explicit CountingSink(Sink& next) : next_(next) {}
  void write(std::span<const std::byte> bytes) override {
    count_ += static_cast<int64_t>(bytes.size());
    next_.write(bytes);
  }
  [[nodiscard]] int64_t count() const { return count_; }

 private:
  Sink& next_;
  int64_t count_ = 0;
};

std::vector<const TensorSource*> in_storage_order(const std::vector<TensorSource>& tensors, const fs::path& path) {
  std::vector<const TensorSource*> order;
  std::set<std::string_view> names;
  for (const TensorSource& tensor : tensors) {
    if (!names.insert(tensor.name).second || tensor.name == "__metadata__")
      fail(ErrorKind::internal, "{}: tensor name '{}' is given twice or reserved", path.string(), tensor.name);
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    return std::tuple(-item_size(a->dtype), std::string_view(a->name)) <
           std::tuple(-item_size(b->dtype), std::string_view(b->name));
  });
  return order;
}

// Length field and header, padded with spaces so that the data begins at a multiple of 8.
std::string header_bytes(const std::vector<const TensorSource*>& tensors, const Metadata& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorSource* tensor : tensors) {
    const int64_t end = offset + tensor->byte_size();
    header[tensor->name] = {{"dtype", name_of(tensor->dtype)}, {"shape", tensor->shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);  // this host is little-endian (io/dtype.cpp)
  return bytes + text;
}

// Consecutive tensors, as many as fit.
std::vector<std::vector<TensorSource>> split_into_shards(const std::vector<TensorSource>& tensors, int64_t max_shard_bytes) {
  std::vector<std::vector<TensorSource>> shards(1);
  int64_t filled = 0;
  for (const TensorSource& tensor : tensors) {
    const int64_t size = tensor.byte_size();
    if (!shards.back().empty() && size > max_shard_bytes - filled) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensor);
    filled += size;
  }
  return shards;
}

bool is_model_file(const std::string& name) {
  const auto ends_with = [&name](std::string_view end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  if (name == "model.safetensors" || name == "model.safetensors.index.json") return true;
  return name.rfind("model-", 0) == 0 && name.find("-of-") != std::string::npos && ends_with(".safetensors");
}

void remove_other_model_files(const fs::path& dir, const std::vector<std::string>& keep) {
  std::error_code error;
  std::vector<fs::path> stale;
  for (auto entry = fs::directory_iterator(dir, error); !error && entry != fs::end(entry); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_model_file(name) && std::find(keep.begin(), keep.end(), name) == keep.end()) stale.push_back(entry->path());
  }
  for (const fs::path& path : stale) {
    fs::remove(path, error);
    if (error) fail(ErrorKind::io, "cannot remove '{}' of an earlier checkpoint: {}", path.string(), error.message());
  }
}

}  // namespace

int64_t TensorSource::byte_size() const {
  int64_t bytes = item_size(dtype);
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes))
      fail(ErrorKind::internal, "tensor '{}': shape [{}] is negative or too large", name, fmt::join(shape, ", "));
  return bytes;
}

TensorSource tensor_source(std::string name, DType dtype, std::vector<int64_t> shape, std::span<const std::byte> bytes) {
  return {std::move(name), dtype, std::move(shape), [bytes](Sink& sink) { sink.write(bytes); }};
}

Metadata default_metadata() { return {{"format", "pt"}}; }

void write_safetensors(const fs::path& path, const std::vector<TensorSource>& tensors, const Metadata& metadata) {
  const auto order = in_storage_order(tensors, path);
  AtomicFile file(path);
  file.write(header_bytes(order, metadata));
  for (const TensorSource* tensor : order) {
    CountingSink sink(file);
    tensor->write(sink);
    if (sink.count() != tensor->byte_size())
      fail(ErrorKind::internal, "{}: tensor '{}' wrote {} bytes, its shape says {}", path.string(), tensor->name, sink.count(),
           tensor->byte_size());
  }
  file.commit();
}

std::vector<std::string> write_sharded(const fs::path& dir, const std::vector<TensorSource>& tensors, int64_t max_shard_bytes,
                                       const Metadata& metadata) {
  if (max_shard_bytes <= 0) fail(ErrorKind::usage, "max_shard_bytes = {}; expected at least 1", max_shard_bytes);
  in_storage_order(tensors, dir);  // names must be unique over all shards
  const auto shards = split_into_shards(tensors, max_shard_bytes);
  std::vector<std::string> files;
  if (shards.size() == 1) {
    files.push_back("model.safetensors");
    write_safetensors(dir / files.front(), tensors, metadata);
  } else {
    nlohmann::json weight_map = nlohmann::json::object();
    int64_t total_size = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
      files.push_back(fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
      write_safetensors(dir / files.back(), shards[i], metadata);
      for (const TensorSource& tensor : shards[i]) {
        weight_map[tensor.name] = files.back();
        total_size += tensor.byte_size();
      }
    }
    const nlohmann::json index = {{"metadata", {{"total_size", total_size}}}, {"weight_map", weight_map}};
    files.push_back("model.safetensors.index.json");
    write_file_atomic(dir / files.back(), index.dump(2) + "\n");
  }
  remove_other_model_files(dir, files);
  return files;
}

}  // namespace switchyard
