// Tensors by name, wherever they are stored: what loaders and converters read. Nothing is copied before it is asked for.
#pragma once

#include "io/safetensors.h"

#include <filesystem>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace switchyard {

class TensorStore {
 public:
  virtual ~TensorStore() = default;

  [[nodiscard]] virtual const TensorEntry* find(std::string_view name) const = 0;  // nullptr when there is none
  [[nodiscard]] virtual const std::vector<const TensorEntry*>& entries() const noexcept = 0;  // in the order of the files
  [[nodiscard]] virtual const std::filesystem::path& file_of(std::string_view name) const = 0;  // of a tensor that is there
  [[nodiscard]] virtual const std::filesystem::path& path() const noexcept = 0;

  // Throws Error{checkpoint} that names the nearest tensor that is there.
  [[nodiscard]] const TensorEntry& at(std::string_view name) const;
};

// Entries that were made from other stores; keeps those alive.
class TensorView final : public TensorStore {
 public:
  TensorView(std::filesystem::path path, std::shared_ptr<const void> owner) : path_(std::move(path)), owner_(std::move(owner)) {}

  // Throws Error{checkpoint} when the name is there already.
  void add(TensorEntry entry, std::filesystem::path file);

  [[nodiscard]] const TensorEntry* find(std::string_view name) const override;
  [[nodiscard]] const std::vector<const TensorEntry*>& entries() const noexcept override { return entries_; }
  [[nodiscard]] const std::filesystem::path& file_of(std::string_view name) const override;
  [[nodiscard]] const std::filesystem::path& path() const noexcept override { return path_; }

 private:
  struct Item {
    TensorEntry entry;
    std::filesystem::path file;
  };

  std::filesystem::path path_;
  std::shared_ptr<const void> owner_;
  std::vector<std::unique_ptr<Item>> items_;
  std::vector<const TensorEntry*> entries_;
  std::unordered_map<std::string_view, const Item*> by_name_;
};

}  // namespace switchyard
