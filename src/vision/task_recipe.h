// A recipe of a task: `seed = 1` and `[task] kind = "..."` with the options of that kind.
#pragma once

#include "vision/task.h"

#include <filesystem>
#include <span>

namespace switchyard {

struct TaskRecipe {
  int64_t seed = 1;
  BlockSpec task;

  template <class V> void fields(V&& v) {
    v("seed", seed, "of data and weights");
    v("task", task, "what is run: `switchyard list tasks`");
  }
};

// Throws Error{config} with file, line and column for unknown keys and kinds, Error{io} for a file that cannot be read.
[[nodiscard]] TaskRecipe load_task_recipe(const std::filesystem::path& path, std::span<const std::string> overrides = {});

// Has the file a [task]? Throws as above for one that is no TOML.
[[nodiscard]] bool is_task_recipe(const std::filesystem::path& path);

}  // namespace switchyard
