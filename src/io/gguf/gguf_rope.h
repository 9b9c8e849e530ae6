// Scaled rotary positions: rope_scaling or rope_parameters of a config.json, and the rope.scaling keys of GGUF.
#pragma once

#include "io/gguf/gguf_keys.h"

namespace switchyard::io {

// The values of both tables of a config.json in one object; "rope_type" is there when there is one. The former name of longrope
// is replaced.
[[nodiscard]] nlohmann::ordered_json rope_table(const nlohmann::ordered_json& config);

// Divisors of the frequencies of a head as a tensor: type llama3, and longrope whose factors are the same for short and long texts; empty for
// other types. Read, they are such a longrope: which formula they came from is not in the file.
inline constexpr std::string_view kRopeDivisors = "rope_freqs.weight";
[[nodiscard]] std::vector<double> rope_divisors(const nlohmann::ordered_json& config);
[[nodiscard]] std::vector<float> rope_divisor_tensor(const nlohmann::ordered_json& config, std::string_view name);
void read_rope_divisors(const KeyReader& file, nlohmann::ordered_json& config);

// Types linear and yarn. Error{unsupported} for the others, and for an attention_factor, which GGUF multiplies where config.json
// replaces.
void write_rope_scaling(const nlohmann::ordered_json& config, KeyWriter& out);
void read_rope_scaling(const KeyReader& file, nlohmann::ordered_json& config);

// Whether a key under the architecture is one that read_rope_scaling looks at.
[[nodiscard]] bool is_rope_scaling_key(std::string_view key);

}  // namespace switchyard::io
