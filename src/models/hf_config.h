// Reading the config.json of the Hugging Face ecosystem: every key is read, known to be harmless, or refused by name.
//
// Dropout keys are accepted and not applied: they act in training only, and published values are 0.
#pragma once

#include "switchyard/config.h"
#include "switchyard/model_spec.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

class HfConfig {
 public:
  explicit HfConfig(const ConfigNode& config, std::string path = "");

  // A value, or `absent` when the key is missing or null; without `absent` the key must be there. size: an integer >= 1.
  [[nodiscard]] int64_t size(std::string_view key, std::optional<int64_t> absent = {});
  [[nodiscard]] double number(std::string_view key, std::optional<double> absent = {});
  [[nodiscard]] int64_t integer(std::string_view key, int64_t absent);  // 0 or more
  [[nodiscard]] bool flag(std::string_view key, bool absent);
  [[nodiscard]] std::string text(std::string_view key, const std::string& absent);
  [[nodiscard]] std::vector<std::string> texts(std::string_view key);  // empty when missing or null
  [[nodiscard]] std::vector<int64_t> integers(std::string_view key);
  [[nodiscard]] std::vector<std::vector<int64_t>> integer_rows(std::string_view key);
  [[nodiscard]] std::vector<double> numbers(std::string_view key, double absent);  // one number, or a list of them
  [[nodiscard]] bool has(std::string_view key) const;  // and is not null
  [[nodiscard]] bool mentions(std::string_view key) const { return config_.find(key) != nullptr; }
  [[nodiscard]] bool is_text(std::string_view key, std::string_view value);
  void harmless(std::string_view key) { taken_.emplace(key); }  // does not touch logits in this family
  // A nested object with keys of the same kind; an empty one when it is missing. Its unknown keys are refused by its own
  // refuse_other_keys().
  [[nodiscard]] HfConfig nested(std::string_view key);
  // Sets rope_theta and rope of the model from all their spellings: rope_theta, rope_scaling, rope_parameters,
  // partial_rotary_factor. Needs head_dim.
  void read_rope(ModelSpec& spec, double absent_theta, double absent_partial = 1);

  // The key may be missing or null or have this value; any other changes the mathematics: Error{unsupported}.
  void only(std::string_view key, const ConfigNode& value, std::string_view why);

  // Throws Error{unsupported} naming a key that nobody asked for and that is not known to be harmless.
  void refuse_other_keys() const;

 private:
  const ConfigNode* take(std::string_view key);  // nullptr when missing or null

  const ConfigNode& config_;
  std::string path_;  // of a nested object, with a dot behind it
  std::set<std::string, std::less<>> taken_;
};

}  // namespace switchyard
