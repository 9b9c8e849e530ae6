// Rules of inference compared on trained models: one row per rule, one value per model (the seeds of one recipe).
#pragma once

#include "eval/eval_rule.h"
#include "report/measures.h"

#include <functional>

namespace switchyard::cli {

// A TOML file of [[rule]] tables. Throws Error{config} with file and line.
[[nodiscard]] std::vector<EvalRule> read_rules(const std::string& file);

// Each model on its own validation text. `say` hears what is measured. Throws Error for a rule that a model cannot follow.
[[nodiscard]] report::MeasureTable compare_rules(const std::vector<EvalRule>& rules, const std::vector<std::string>& models,
                                                 const std::function<void(const std::string&)>& say);

}  // namespace switchyard::cli
