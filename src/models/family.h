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

struct Dimension {
  std::string key;  // of config.json; empty when the size has no key
  int64_t size = 0;
};

// What part of a stored tensor is meant, when the file joins what the model keeps apart: the slice `index` of its first dimension
// (one expert), of that the rows [row, row + rows), of these every `column_step`-th column from `column`, then transposed. Columns are
// the last dimension, or with `flat` all but the first one together (a convolution of few taps).
struct StoredPart {
  int64_t index = -1;
  int64_t row = 0, rows = -1;  // -1 = all
  int64_t column = 0, column_step = 1;
  bool transposed = false, flat = false;

  [[nodiscard]] bool whole() const { return index < 0 && rows < 0 && column_step == 1 && !transposed && !flat; }
};

// Where a stored tensor lives in the model: a whole parameter or buffer, or the slice `index` of its first dimension (one
// expert), and within that the rows [row, row + rows) (gate or up half of a joint matrix). A stored tensor that holds several has
// a place for each part.
struct TensorPlace {
  std::string stored;            // name in the file
  std::string parameter;         // name in LanguageModel::named_parameters() or named_buffers()
  std::vector<Dimension> shape;  // of the whole tensor in the file
  int64_t index = -1;            // -1 = the whole tensor
  int64_t row = 0, rows = -1;    // -1 = all
  StoredPart part = {};
};

struct Family {
  virtual ~Family() = default;
  // config.json -> spec. Throws Error{unsupported} for any key or value that changes the mathematics and is not known.
  [[nodiscard]] virtual ModelSpec read_config(const ConfigNode& config) const = 0;
  // spec -> config.json. What the family cannot say is left out: ask cannot_state first.
  [[nodiscard]] virtual nlohmann::ordered_json write_config(const ModelSpec& spec) const = 0;
  // Layouts in which the family's files are found; the first is the one written unless another one is asked for. A reader takes the
  // one that fits.
  [[nodiscard]] virtual std::vector<std::vector<TensorPlace>> layouts(const LanguageModel& model) const = 0;
  // The names of those that can be asked for, in the same order; layouts behind them are only read.
  [[nodiscard]] virtual std::vector<std::string> layout_names() const { return {"published"}; }
  // Tensors that published files hold and the model does not need.
  [[nodiscard]] virtual bool ignores(const std::string& /*stored*/, const ModelSpec&) const { return false; }
};

struct FamilyEntry {
  std::string name, ref, summary;  // name = model_type
  std::shared_ptr<Family> family;
  int order = 1;  // of those that can state a model the one with the lowest number is written: layouts that most programs read have 0
  std::vector<std::string> aliases = {};  // what published files have in `architectures` or `model_type` instead of the name
};

[[nodiscard]] const std::vector<FamilyEntry>& families();
// The family of a model_type. Throws Error{unsupported} listing what is known.
[[nodiscard]] const FamilyEntry& find_family(const std::string& model_type);
// The family of a config.json: custom code may carry the model_type of the family that it was derived from, so that `architectures` is
// asked first. Throws Error{config} when there is no model_type, `file` in front.
[[nodiscard]] const FamilyEntry& family_of(const ConfigNode& config, const std::string& file);

// The place of a layout by its name. Throws Error{unsupported} listing what the family has.
[[nodiscard]] size_t find_layout(const FamilyEntry& family, const std::string& layout);

// Nothing when the family's config.json, written and read again, means the same model; else the first key that would
// change, with both values.
// Without `training_rules` it may change how the model would be trained further (canonical_spec.h).
[[nodiscard]] std::optional<std::string> cannot_state(const FamilyEntry& family, const ModelSpec& spec, bool training_rules = true);

}  // namespace switchyard
