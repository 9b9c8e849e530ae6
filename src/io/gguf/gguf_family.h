// How a model of a Hugging Face family is written in a GGUF file: names of tensors and keys, in both directions. A further family
// is one file in families/ and its line in gguf_family.cpp.
//
// Names hold {i} for the layer and {e} for the expert. Names and keys: github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py,
// tensor_mapping.py and conversion/*.py (MIT; facts only), and the GGUF description.
#pragma once

#include "io/gguf/gguf_keys.h"
#include "io/gguf/value_layout.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

struct NameRow {
  std::string_view gguf, hf;
  Arrange how = Arrange::plain;
  bool optional = false;  // may be absent: tied heads, dense layers among sparse ones
};

enum class KeyType { size, number, flag };

struct KeyRow {
  std::string_view hf;    // a.b for nested objects of config.json
  std::string_view gguf;  // behind "<architecture>."
  KeyType type = KeyType::size;
  bool optional = false;
};

struct GgufFamily {
  std::string_view model_type;    // of config.json
  std::string_view hf_class;      // "MixtralForCausalLM"
  std::string_view architecture;  // general.architecture
  std::vector<NameRow> names;     // in the order in which they are written; rows of a layer stay together
  std::vector<KeyRow> keys;
  // Keys of the architecture that say nothing more than `keys` do, or are checked elsewhere: accepted when read.
  std::vector<std::string_view> known = {};
  // GGUF keys that must be written although config.json has them under another key only: {key, key whose value it repeats}.
  std::vector<std::pair<std::string_view, std::string_view>> repeats = {};

  // What rows cannot say; each may be null. Of two families with one architecture `is` tells which one a file is of.
  bool (*is)(const KeyReader& file) = nullptr;
  std::vector<std::string_view> more = {};  // the keys that these two read and write
  void (*write_more)(const nlohmann::ordered_json& config, KeyWriter& out) = nullptr;
  void (*read_more)(const KeyReader& file, nlohmann::ordered_json& config) = nullptr;

  // Tensors that hold values of config.json: written from there, and read by read_more.
  std::vector<std::string_view> config_tensors = {};
  std::vector<float> (*config_tensor)(const nlohmann::ordered_json& config,
                                      std::string_view name) = nullptr;  // empty: not of this model
  // Published folders hold layers behind the last one that predict further tokens and are not used here: they are left out.
  bool drops_extra_layers = false;
};

[[nodiscard]] const std::vector<GgufFamily>& gguf_families();
// Error{unsupported} that lists what is known.
[[nodiscard]] const GgufFamily& gguf_family_of(std::string_view model_type);
// The one that the metadata of a file name. Error{checkpoint} without an architecture, Error{unsupported} that lists what is
// known.
[[nodiscard]] const GgufFamily& family_of(const GgufMetadata& metadata, const std::string& file);

// "blk.{i}.x" with numbers in place of {i} and {e}.
[[nodiscard]] std::string fill_in(std::string_view pattern, int64_t layer, int64_t expert);
// The numbers of a name that has the form of the pattern.
struct NameNumbers {
  int64_t layer = -1, expert = -1;
};
[[nodiscard]] std::optional<NameNumbers> match(std::string_view pattern, std::string_view name);

}  // namespace switchyard::io
