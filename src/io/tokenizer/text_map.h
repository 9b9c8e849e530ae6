// Texts to ids, asked with string_views.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace switchyard::io {

class TextMap {
 public:
  void reserve(size_t count) { ids_.reserve(count); }
  void set(std::string text, int32_t id) { ids_[std::move(text)] = id; }  // the last id of a text counts

  [[nodiscard]] std::optional<int32_t> get(std::string_view text) const {
    const auto found = ids_.find(text);
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
};

}  // namespace switchyard::io
