#include "steps/recipe.h"

#include "base/config_tree.h"
#include "base/files.h"
#include "io/tokenizer/tokenizer.h"
#include "steps/recipe_checks.h"
#include "steps/toml_text.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace switchyard {
namespace {

namespace fs = std::filesystem;

using Keys = std::vector<const char*>;

// Every path of a recipe, so that a recipe means the same wherever it is read.
const Keys kPaths[] = {{"data", "path"}, {"tokenizer", "path"}, {"model", "moe", "gate", "file"}};

ConfigNode* find(ConfigNode* node, const Keys& keys) {
  for (const char* key : keys) node = node ? node->find(key) : nullptr;
  return node;
}

void make_path_absolute(ConfigNode* node, const fs::path& folder) {
  auto* text = node ? std::get_if<std::string>(&node->value) : nullptr;
  if (text && !text->empty()) *text = fs::absolute(folder / *text).lexically_normal().string();
}

// The same key of every item of a list.
void make_paths_absolute(ConfigNode* list, const Keys& keys, const fs::path& folder) {
  auto* items = list ? std::get_if<ConfigNode::Array>(&list->value) : nullptr;
  if (!items) return;
  for (ConfigNode& item : *items) make_path_absolute(find(&item, keys), folder);
}

void make_paths_absolute(ConfigNode& root, const fs::path& folder) {
  for (const auto& keys : kPaths) make_path_absolute(find(&root, keys), folder);
  make_paths_absolute(find(&root, {"model", "pattern"}), {"moe", "gate", "file"}, folder);
  make_paths_absolute(find(&root, {"model", "mixtures"}), {"gate", "file"}, folder);
}

// `over` wins key by key.
ConfigNode merged(ConfigNode base, const ConfigNode& over) {
  if (!base.is_table() || !over.is_table()) return over;
  base.where = over.where;
  for (const auto& [key, child] : *over.table()) {
    if (ConfigNode* old = base.find(key)) *old = merged(std::move(*old), child);
    else base.table()->emplace_back(key, child);
  }
  return base;
}

ConfigNode read_tree(const fs::path& path) {
  ConfigNode root = parse_toml(read_text_file(path), path.string());
  make_paths_absolute(root, path.parent_path());
  return root;
}

// [model.moe], or gate and losses of the first mixture at a site.
MoESpec routed_part(const ModelSpec& model) {
  if (model.moe) return *model.moe;
  if (model.mixtures.empty()) fail(ErrorKind::config, "it has neither [model.moe] nor [[model.mixtures]]");
  MoESpec out;
  out.gate = model.mixtures[0].gate;
  out.losses = model.mixtures[0].losses;
  return out;
}

Recipe named(Recipe recipe, const fs::path& path) {
  if (recipe.name.empty()) recipe.name = path.stem().string();
  return recipe;
}

// What the routing bench takes from a recipe.
constexpr const char* kOnTheBench[] = {"model.moe.gate", "model.moe.capacity", "model.moe.losses", "model.moe.routed_scale"};

bool is_at_or_below(std::string_view key, std::string_view assignment) {
  return assignment.substr(0, key.size()) == key && assignment.size() > key.size() && (assignment[key.size()] == '.' || assignment[key.size()] == '=');
}

}  // namespace

Recipe load_recipe(const fs::path& path, std::span<const std::string> overrides) {
  return named(recipe_from(read_tree(path), overrides), path);
}

Recipe load_recipe_for(const fs::path& path, const fs::path& init, std::span<const std::string> overrides) {
  ConfigNode base = ConfigNode::Table{{"model", write_any(load_spec(init))}};
  if (find_tokenizer_file(init))
    base.table()->emplace_back("tokenizer", ConfigNode::Table{{"kind", "file"}, {"path", fs::absolute(init).string()}});
  return named(recipe_from(merged(std::move(base), read_tree(path)), overrides), path);
}

Recipe recipe_from(ConfigNode root, std::span<const std::string> overrides) {
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  make_paths_absolute(root, fs::current_path());
  Recipe recipe;
  read_fields(recipe, root);
  check_recipe_at(recipe, root);
  return recipe;
}

void check_recipe(const Recipe& recipe) { check_recipe_at(recipe, ConfigNode{}); }

std::string show_recipe(const Recipe& recipe) {
  Recipe full = recipe;
  full.model = resolved_model(recipe);
  // The tokenizer decides: a vocabulary that is learnt may turn out smaller.
  full.model.vocab_size = recipe.model.vocab_size;
  return toml_text(write_any(full));
}

int64_t expected_vocab_size(const TokenizerOptions& options) {
  if (options.kind == "byte") return make_byte_tokenizer()->vocab_size();
  if (options.kind == "file") return load_tokenizer(options.path)->vocab_size();
  return options.vocab_size;
}

MoESpec bench_moe(const Recipe& recipe) {
  ConfigNode root = ConfigNode::Table{{"model", ConfigNode::Table{{"moe", write_any(routed_part(recipe.model))}}}};
  for (const std::string& assignment : recipe.bench.set) {
    const bool taken = std::any_of(std::begin(kOnTheBench), std::end(kOnTheBench), [&](const char* key) { return is_at_or_below(key, assignment); });
    if (!taken) fail(ErrorKind::config, "bench.set: \"{}\"; expected KEY=VALUE with a KEY at or below {}", assignment, fmt::join(kOnTheBench, ", "));
    try {
      apply_override(root, assignment);
    } catch (const Error& error) {
      fail(ErrorKind::config, "bench.set: {}", error.what());
    }
  }
  MoESpec out;
  read_any(*root.find("model")->find("moe"), "model.moe", out);
  return out;
}

ModelSpec resolved_model(const Recipe& recipe) {
  ModelSpec spec = recipe.model;
  if (spec.vocab_size == 0) spec.vocab_size = expected_vocab_size(recipe.tokenizer) + spec.extra_tokens();
  return spec.resolved();
}

}  // namespace switchyard
