#include "vision/task_recipe.h"

#include "base/config_tree.h"
#include "base/files.h"

namespace switchyard {
namespace {

ConfigNode tree_of(const std::filesystem::path& path) { return parse_toml(read_text_file(path), path.string()); }

}  // namespace

TaskRecipe load_task_recipe(const std::filesystem::path& path, std::span<const std::string> overrides) {
  ConfigNode root = tree_of(path);
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  TaskRecipe out;
  read_fields(out, root);
  task_registry().check(out.task, "task");
  return out;
}

bool is_task_recipe(const std::filesystem::path& path) { return tree_of(path).find("task") != nullptr; }

}  // namespace switchyard
