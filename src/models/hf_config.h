// Reading the config.json of the Hugging Face ecosystem: every key is read, known to be harmless, or refused by name.
//
// attention_dropout is accepted and not applied: it acts in training only, and published values are 0.
#pragma once

#include "switchyard/config.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace switchyard {

class HfConfig {
 public:
  explicit HfConfig(const ConfigNode& config);

  // A value, or `absent` when the key is missing or null; without `absent` the key must be there. size: an integer >= 1.
  [[nodiscard]] int64_t size(std::string_view key, std::optional<int64_t> absent = {});
  [[nodiscard]] double number(std::string_view key, std::optional<double> absent = {});
  [[nodiscard]] bool flag(std::string_view key, bool absent);
  // rope_theta from any of its spellings. Throws Error{unsupported} for scaled or partial rotary positions.
  [[nodiscard]] double rope_theta(double absent);

  // The key may be missing or null or have this value; any other changes the mathematics: Error{unsupported}.
  void only(std::string_view key, const ConfigNode& value, std::string_view why);

  // Throws Error{unsupported} naming a key that nobody asked for and that is not known to be harmless.
  void refuse_other_keys() const;

 private:
  const ConfigNode* take(std::string_view key);  // nullptr when missing or null
  void check_rope_table(const ConfigNode& table, std::string_view key, std::optional<double>& theta);

  const ConfigNode& config_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace switchyard
