// How a model of a Hugging Face family is written in a GGUF file: names of tensors and keys, in both directions. A further family
// is one file in families/ and its line in gguf_family.cpp.
//
// Names hold {i} for the layer and {e} for the expert. Names and keys: github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py
// and tensor_mapping.py (MIT; facts only), and the GGUF description.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

enum class Arrange {
  plain,
  query_rows,    // rows of each head interleaved: file row 2 j + h is row h * c / 2 + j, as rotary positions on neighbours want it
  key_rows,      // the same by the number of key-value heads
  stack,         // GGUF holds the experts of a layer in one tensor, Hugging Face one per expert
  old_expert,    // older files: one tensor per expert in GGUF as well; read, not written
  // Known by name; converting values between the two layouts is not there yet and refused:
  first_half, second_half,   // gate and up rows of one joint Hugging Face tensor [N, 2 f, d]
  even_columns, odd_columns,  // gate and up columns, interleaved, of [N, d, 2 f]
  transposed,                // [N, f, d] here, [N, d, f] there
  split_rows,                // [N f, d] here, [N, f, d] there
};

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
  bool sparse = false;            // which of two families with one architecture: has experts
  std::vector<NameRow> names;     // in the order in which they are written; rows of a layer stay together
  std::vector<KeyRow> keys;
  // Keys of the architecture that say nothing more than `keys` do, or are checked elsewhere: accepted when read.
  std::vector<std::string_view> known;
  // GGUF keys that must be written although config.json has them under another key only: {key, key whose value it repeats}.
  std::vector<std::pair<std::string_view, std::string_view>> repeats;
};

[[nodiscard]] const std::vector<GgufFamily>& gguf_families();
// Error{unsupported} that lists what is known.
[[nodiscard]] const GgufFamily& gguf_family_of(std::string_view model_type);
[[nodiscard]] const GgufFamily& gguf_family_of(std::string_view architecture, bool sparse);

// "blk.{i}.x" with numbers in place of {i} and {e}.
[[nodiscard]] std::string fill_in(std::string_view pattern, int64_t layer, int64_t expert);
// The numbers of a name that has the form of the pattern.
struct NameNumbers {
  int64_t layer = -1, expert = -1;
};
[[nodiscard]] std::optional<NameNumbers> match(std::string_view pattern, std::string_view name);

}  // namespace switchyard::io
