// A family: one published checkpoint layout. Its file is a table of names and shapes used in both directions, and the
// translation between config.json and ModelSpec.
#pragma once

#include "switchyard/language_model.h"
#include "switchyard/plug_in.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace switchyard {

// Where a stored tensor lives in the model: the whole parameter, or the slice `index` of its first dimension (one expert),
// and within that rows [row, row + rows) (gate or up half of a fused matrix).
struct TensorPlace {
  std::string stored;       // name in the file
  std::string parameter;    // name in LanguageModel::named_parameters()
  int64_t index = -1;       // slice of the parameter's first dimension; -1 = whole
  int64_t row = 0, rows = -1;  // rows of that slice; -1 = all
  std::vector<int64_t> shape;  // shape in the file
};

struct Family {
  virtual ~Family() = default;
  // config.json -> spec. Throws Error{unsupported} for any key or value that changes the mathematics and is not known.
  [[nodiscard]] virtual ModelSpec read_config(const ConfigNode& config) const = 0;
  // spec -> config.json; or the reason why this family cannot state it: the key and what it would lose.
  [[nodiscard]] virtual std::optional<std::string> cannot_state(const ModelSpec& spec) const = 0;
  [[nodiscard]] virtual nlohmann::ordered_json write_config(const ModelSpec& spec) const = 0;
  // Layouts in which the family's files are published; the first is the one written. A reader takes the one that fits.
  [[nodiscard]] virtual std::vector<std::vector<TensorPlace>> layouts(const ModelSpec& spec) const = 0;
};

struct FamilyEntry {
  std::string name, ref, summary;  // name = model_type
  std::shared_ptr<Family> family;
};

[[nodiscard]] const std::vector<FamilyEntry>& families();
// The family of a model_type. Throws Error{unsupported} listing what is known.
[[nodiscard]] const Family& find_family(const std::string& model_type);

}  // namespace switchyard
