// All tensors of a checkpoint folder: `model.safetensors`, or the shards of `model.safetensors.index.json`.
#pragma once

#include "io/tensor_store.h"

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace switchyard {

class SafetensorsSet final : public TensorStore {
 public:
  // `path`: a folder, an index, or one .safetensors file. Throws Error{checkpoint} for a folder without tensors, a shard
  // that is missing, a tensor that the index promises and its shard lacks, one that the index does not know, and one that
  // stands in two shards.
  [[nodiscard]] static SafetensorsSet open(const std::filesystem::path& path);

  [[nodiscard]] const TensorEntry* find(std::string_view name) const override;
  // Shard by shard, in the order of their bytes.
  [[nodiscard]] const std::vector<const TensorEntry*>& entries() const noexcept override { return entries_; }
  [[nodiscard]] const std::filesystem::path& file_of(std::string_view name) const override;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;         // of the first file
  [[nodiscard]] const std::filesystem::path& path() const noexcept override { return path_; }
  [[nodiscard]] int64_t total_bytes() const noexcept;

 private:
  struct Place {
    size_t file;
    const TensorEntry* entry;
  };

  void add_file(const std::filesystem::path& path);
  void open_index(const std::filesystem::path& index);

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::vector<const TensorEntry*> entries_;
  std::unordered_map<std::string_view, Place> by_name_;
};

}  // namespace switchyard
