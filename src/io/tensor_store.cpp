#include "io/tensor_store.h"

#include "base/nearest_name.h"
#include "switchyard/error.h"

namespace switchyard {

const TensorEntry& TensorStore::at(std::string_view name) const {
  if (const TensorEntry* entry = find(name)) return *entry;
  std::vector<std::string> names;
  for (const TensorEntry* entry : entries()) names.push_back(entry->name);
  const std::string nearest = nearest_name(name, names);
  fail(ErrorKind::checkpoint, "{}: tensor '{}' is missing{}", path().string(), name,
       nearest.empty() ? "" : fmt::format("; the nearest name is '{}'", nearest));
}

void TensorView::add(TensorEntry entry, std::filesystem::path file) {
  auto item = std::make_unique<Item>(Item{std::move(entry), std::move(file)});
  if (!by_name_.emplace(item->entry.name, item.get()).second)
    fail(ErrorKind::checkpoint, "{}: tensor '{}' is there twice", path_.string(), item->entry.name);
  entries_.push_back(&item->entry);
  items_.push_back(std::move(item));
}

const TensorEntry* TensorView::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &found->second->entry;
}

const std::filesystem::path& TensorView::file_of(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) fail(ErrorKind::internal, "file_of: no tensor '{}' in {}", name, path_.string());
  return found->second->file;
}

}  // namespace switchyard
