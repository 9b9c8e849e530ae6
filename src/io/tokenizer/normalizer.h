// Normalizers of tokenizer.json: steps that rewrite a text before it is split.
#pragma once

#include "io/strict_json.h"

#include <functional>
#include <string>
#include <vector>

namespace switchyard::io {

// Rewrites a text, any bytes; what is no UTF-8 stays where it is. Safe to call from several threads.
using NormalizerStep = std::function<void(std::string& text)>;

// Throws Error{checkpoint} that names the key, and Error{unsupported} for a type that is not known.
[[nodiscard]] std::vector<NormalizerStep> make_normalizer(const JsonAt& component);

// Runs the steps one after the other. Throws Error{checkpoint} when they blow the text up (regex.h).
void run_normalizer(const std::vector<NormalizerStep>& steps, std::string& text);

[[nodiscard]] NormalizerStep make_bert_normalizer(const JsonAt& component);

}  // namespace switchyard::io
