#include "cli/catalogue.h"

#include "base/nearest_name.h"
#include "cli/find_recipe.h"
#include "cli/verb.h"
#include "core/registries.h"
#include "models/family.h"
#include "steps/step.h"
#include "switchyard/dispatcher.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"
#include "switchyard/gate.h"
#include "switchyard/join.h"
#include "switchyard/mixer.h"
#include "switchyard/loss.h"
#include "vision/task.h"

#include <functional>
#include <utility>

namespace switchyard::cli {
namespace {

using Parts = std::vector<NamedPart>;

template <class Entry> void add_registry(Parts& out, const char* kind, const Registry<Entry>& registry) {
  for (const auto& entry : registry.all()) out.push_back({kind, entry.name, entry.ref, entry.summary, entry.options});
}

template <class Entry> Parts from_registry(const char* kind, const Registry<Entry>& registry) {
  Parts out;
  add_registry(out, kind, registry);
  return out;
}

Parts gate_parts() {
  Parts out = from_registry("gate", gate_registry());
  add_registry(out, "pool block", gates::poolers());
  add_registry(out, "score block", gates::scorers());
  add_registry(out, "noise block", gates::noisers());
  add_registry(out, "normalise block", gates::normalisers());
  add_registry(out, "select block", gates::selectors());
  add_registry(out, "balance block", gates::balancers());
  add_registry(out, "weigh block", gates::weighers());
  add_registry(out, "keep block", gates::keepers());
  return out;
}

Parts family_parts() {
  Parts out;
  for (const auto& family : families()) out.push_back({"family", family.name, family.ref, family.summary, {}});
  return out;
}

Parts tokenizer_parts() {
  return {{"tokenizer", "bpe", "arXiv:1508.07909", "byte-level byte-pair encoding, learnt from text, or one of those that are read", {}},
          {"tokenizer", "byte", "", "256 bytes and an end-of-document token", {}},
          {"tokenizer", "file", "", "a tokenizer.json (byte-level and SentencePiece-like BPE, Unigram, WordPiece), sentencepiece .model or .tiktoken file, or its folder", {}}};
}

Parts verb_parts() {
  Parts out;
  for (const auto& verb : verbs()) out.push_back({"verb", verb.name, "", verb.summary, {}});
  return out;
}

// Recipes whose name starts with `folder`; their summary is the path.
Parts recipe_parts(const std::string& folder) {
  Parts out;
  for (const auto& recipe : shipped_recipes())
    if (recipe.name.compare(0, folder.size(), folder) == 0) out.push_back({"recipe", recipe.name, "", recipe.path.string(), {}});
  return out;
}

const std::vector<std::pair<std::string, std::function<Parts()>>>& sources() {
  static const std::vector<std::pair<std::string, std::function<Parts()>>> all = {
      {"gates", gate_parts},
      {"experts", [] { return from_registry("expert", expert_registry()); }},
      {"joins", [] { return from_registry("join", join_registry()); }},
      {"mixers", [] { return from_registry("mixer", mixer_registry()); }},
      {"losses", [] { return from_registry("loss", loss_registry()); }},
      {"priorities", [] { return from_registry("priority", priority_registry()); }},
      {"dispatchers", [] { return from_registry("dispatcher", dispatcher_registry()); }},
      {"tasks", [] { return from_registry("task", task_registry()); }},
      {"steps", [] { return from_registry("step", step_registry()); }},
      {"families", family_parts},
      {"tokenizers", tokenizer_parts},
      {"models", [] { return recipe_parts("models/"); }},
      {"recipes", [] { return recipe_parts(""); }},
      {"verbs", verb_parts}};
  return all;
}

}  // namespace

const std::vector<std::string>& part_nouns() {
  static const std::vector<std::string> nouns = [] {
    std::vector<std::string> names;
    for (const auto& [noun, source] : sources()) names.push_back(noun);
    return names;
  }();
  return nouns;
}

std::vector<NamedPart> parts_of(const std::string& noun) {
  for (const auto& [name, source] : sources())
    if (name == noun) return source();
  fail(ErrorKind::usage, "nothing is called '{}'{}", noun, suggestion(noun, part_nouns()));
}

}  // namespace switchyard::cli
