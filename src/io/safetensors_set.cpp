#include "io/safetensors_set.h"

#include "io/strict_json.h"
#include "switchyard/error.h"

#include <set>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using io::JsonAt;

using WeightMap = std::map<std::string, std::string>;  // tensor -> file name of its shard

WeightMap read_weight_map(const fs::path& index) {
  const nlohmann::json document = io::parse_strict_json(read_text_file(index), index.string());
  const JsonAt map = JsonAt(document, index.string()).at("weight_map");
  WeightMap shards;
  for (const auto& [tensor, file] : map.as_object()) {
    const JsonAt shard(file, fmt::format("{}.{}", map.where(), tensor));
    const fs::path name = shard.as_string();
    // A name that leaves the folder could make us read any file of the machine.
    if (name.empty() || name.filename() != name || name == "." || name == "..") shard.wrong("a file name without a folder");
    shards[tensor] = shard.as_string();
  }
  return shards;
}

}  // namespace

SafetensorsSet SafetensorsSet::open(const fs::path& path) {
  SafetensorsSet set;
  set.path_ = path;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (path.extension() == ".json") {
      set.open_index(path);
    } else {
      set.add_file(path);
    }
    return set;
  }
  const fs::path single = path / "model.safetensors", index = path / "model.safetensors.index.json";
  if (fs::exists(single, error)) {
    set.add_file(single);
  } else if (fs::exists(index, error)) {
    set.open_index(index);
  } else {
    fail(ErrorKind::checkpoint, "folder '{}' holds neither model.safetensors nor model.safetensors.index.json", path.string());
  }
  return set;
}

void SafetensorsSet::add_file(const fs::path& path) {
  files_.push_back(SafetensorsFile::open(path));
  for (const TensorEntry& entry : files_.back().entries()) {
    const auto [place, is_new] = by_name_.emplace(entry.name, Place{files_.size() - 1, &entry});
    if (!is_new)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' also stands in {}", path.string(), entry.name,
           files_[place->second.file].path().filename().string());
    entries_.push_back(&entry);
  }
}

void SafetensorsSet::open_index(const fs::path& index) {
  const WeightMap shard_of = read_weight_map(index);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
  for (const std::string& shard : shards) {
    const fs::path file = index.parent_path() / shard;
    std::error_code error;
    if (!fs::exists(file, error))
      fail(ErrorKind::checkpoint, "{}: shard '{}' is missing from the folder", index.string(), shard);
    add_file(file);
  }
  for (const auto& [tensor, shard] : shard_of) {
    const auto found = by_name_.find(tensor);
    if (found == by_name_.end())
      fail(ErrorKind::checkpoint, "{}: tensor '{}' should be in shard '{}', which does not hold it", index.string(), tensor, shard);
    const std::string actual = files_[found->second.file].path().filename().string();
    if (actual != shard)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' should be in shard '{}', found in '{}'", index.string(), tensor, shard, actual);
  }
  for (const TensorEntry* entry : entries_)
    if (shard_of.find(entry->name) == shard_of.end())
      fail(ErrorKind::checkpoint, "{}: tensor '{}' of shard '{}' is not in the index", index.string(), entry->name,
           file_of(entry->name).filename().string());
}

const TensorEntry* SafetensorsSet::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second.entry;
}

const fs::path& SafetensorsSet::file_of(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) fail(ErrorKind::internal, "file_of: no tensor '{}' in {}", name, path_.string());
  return files_[found->second.file].path();
}

const std::map<std::string, std::string>& SafetensorsSet::metadata() const {
  static const std::map<std::string, std::string> none;
  return files_.empty() ? none : files_.front().metadata();
}

int64_t SafetensorsSet::total_bytes() const noexcept {
  int64_t total = 0;
  for (const TensorEntry* entry : entries_) total += static_cast<int64_t>(entry->bytes.size());
  return total;
}

}  // namespace switchyard
