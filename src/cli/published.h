// What was published about the sizes of models that come as recipes: recipes/models/published.tsv.
#pragma once

#include <string>
#include <vector>

namespace switchyard::cli {

struct PublishedModel {
  std::string id, total, active, remark;  // figures as they were published ("46.7B"); "-" = none
};

// In the order of the file. Throws Error{config} for a line that has not four fields.
[[nodiscard]] std::vector<PublishedModel> published_models();

}  // namespace switchyard::cli
