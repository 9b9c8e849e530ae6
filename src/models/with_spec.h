// A trained model under other rules: its weights in a model of another specification, for rules that act at inference alone
// (how many experts, which of them, how much room each has).
#pragma once

#include "switchyard/language_model.h"

#include <memory>
#include <span>
#include <string>

namespace switchyard {

// Shares the memory of every parameter and buffer of `model`; in evaluation mode. Weights that `spec` has no use for are left
// out. Throws Error{config} for a parameter that `model` has not, or has in another shape.
[[nodiscard]] std::shared_ptr<LanguageModel> with_spec(LanguageModel& model, const ModelSpec& spec);

// The specification with keys replaced: "moe.gate.k=1". Throws Error{config} for what no specification has.
[[nodiscard]] ModelSpec changed_spec(const ModelSpec& spec, std::span<const std::string> assignments);

}  // namespace switchyard
