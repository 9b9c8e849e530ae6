// What a published system or a part of this build is, from what is already written: its row in systems.tsv, the comments
// at the heads of its recipe and files, and figures that the recipe's model gives.
#pragma once

#include "cli/catalogue.h"
#include "cli/systems.h"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace switchyard::cli {

struct Cost {
  int64_t total = 0, active = 0, router = 0;  // parameters of the recipe's model; all 0 for a task (vision/task.h), which has none
  double flops_per_token = 0;
  std::string causality;  // name_of(Causality); empty for a dense model
};

struct ExplainedSystem {
  System system;
  std::string about;                                       // head of the recipe
  std::vector<std::pair<std::string, std::string>> files;  // path and head
  Cost cost;
};

struct ExplainedPart {
  NamedPart part;
  std::string file, about;  // empty for a part without a file of its own
};

// Throws Error{config} for a recipe that is not there or cannot be read.
[[nodiscard]] ExplainedSystem explain_system(const System& system);

// Everything that `name` may be: parts of several kinds share names.
[[nodiscard]] std::vector<ExplainedPart> explain_parts(const std::string& name);

// Names that can be explained: ids of systems, then parts.
[[nodiscard]] std::vector<std::string> explainable_names();

// What to keep in mind before it is used in a decoder.
[[nodiscard]] std::string causality_sentence(const std::string& causality);

[[nodiscard]] std::string to_text(const ExplainedSystem& explained);
[[nodiscard]] std::string to_text(const ExplainedPart& explained);
[[nodiscard]] nlohmann::ordered_json to_json(const ExplainedSystem& explained);
[[nodiscard]] nlohmann::ordered_json to_json(const ExplainedPart& explained);

// The systems of one kind ("gate") as a page; `boards` (from boards_markdown) stands in front of them.
[[nodiscard]] std::string to_markdown(const std::vector<ExplainedSystem>& systems, const std::string& kind, const std::string& boards = "");

}  // namespace switchyard::cli
