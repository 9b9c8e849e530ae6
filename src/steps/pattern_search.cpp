#include "steps/pattern_search.h"

#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

constexpr int64_t kDraws = 200;  // for one program, before it is given up

template <class T, size_t N> const T& one_of(const RandomStream& random, const char* what, uint64_t part, const T (&values)[N]) {
  return values[random.at(what).below(part, N)];
}

int64_t scaled(int64_t width, double factor) { return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(width) * factor)); }

LayerSpec draw_part(const ModelSpec& model, const RandomStream& random, uint64_t part) {
  static const char* const kKinds[] = {"attention", "dense", "dense", "moe", "moe"};
  static const char* const kActivations[] = {"relu", "gelu", "reglu", "geglu", "swiglu"};
  static const double kWidths[] = {0.5, 0.75, 1, 1.5, 2};
  LayerSpec out;
  out.kind = one_of(random, "kind", part, kKinds);
  const double width = one_of(random, "width", part, kWidths);
  const char* activation = one_of(random, "activation", part, kActivations);
  if (out.kind == "dense") {
    out.d_ff = scaled(model.d_ff, width);
    out.ffn = activation;
  } else if (out.kind == "moe") {
    out.d_expert = scaled(model.moe->d_expert, width);
    out.moe = {{"experts", activation}};
  }
  return out;
}

bool has(const std::vector<LayerSpec>& pattern, const char* kind) {
  return std::any_of(pattern.begin(), pattern.end(), [&](const LayerSpec& l) { return l.kind == kind; });
}

}  // namespace

ModelSpec draw_program(const ModelSpec& model_in, uint64_t seed, int64_t number) {
  const ModelSpec model = model_in.resolved();
  if (!model.moe) fail(ErrorKind::config, "search: the model has no experts; expected a [model.moe] that programs can use");
  const double limit = count_parameters(model).flops_per_token;
  for (int64_t draw = 0; draw < kDraws; ++draw) {
    const auto random = RandomStream(seed, "programs").at("program", static_cast<uint64_t>(number)).at("draw", static_cast<uint64_t>(draw));
    ModelSpec out = model;
    out.moe->every = 1;
    out.moe->offset = out.moe->first_k_dense = 0;
    out.moe->where = {};
    out.pattern.clear();
    const auto parts = 2 + random.at("parts").below(0, 5);
    for (uint64_t part = 0; part < parts; ++part) out.pattern.push_back(draw_part(model, random, part));
    if (!has(out.pattern, "attention") || !has(out.pattern, "moe")) continue;
    for (int64_t repeats = 8; repeats >= 1; --repeats) {
      out.num_layers = repeats * static_cast<int64_t>(parts);
      if (count_parameters(out).flops_per_token <= limit) return out;
    }
  }
  fail(ErrorKind::config, "search: none of {} drawn programs fits into {:.3g} FLOPs per token, those of the recipe", kDraws, limit);
}

std::vector<SearchedProgram> search_programs(const Recipe& recipe, const SearchOptions& options, TrainObserver& observer) {
  if (options.programs < 1 || options.steps < 1)
    fail(ErrorKind::usage, "search: {} programs of {} steps, expected at least 1 of each", options.programs, options.steps);
  const ModelSpec base = resolved_model(recipe);
  std::vector<SearchedProgram> out;
  for (int64_t number = 0; number <= options.programs; ++number) {
    SearchedProgram one{.recipe = recipe, .size = {}};
    if (number > 0) {
      one.recipe.model = draw_program(base, options.seed, number);
      one.recipe.model.vocab_size = recipe.model.vocab_size;
    }
    one.recipe.name = "program-" + std::to_string(number);
    one.recipe.train.steps = options.steps;
    one.size = count_parameters(resolved_model(one.recipe));
    const auto result = train(one.recipe, {.folder = options.out / one.recipe.name, .resume = true}, observer);
    if (!result.evaluation) fail(ErrorKind::config, "search: there is no validation text to compare programs on; see data.validation_fraction");
    one.loss = result.evaluation->loss;
    out.push_back(std::move(one));
  }
  std::stable_sort(out.begin(), out.end(), [](const SearchedProgram& a, const SearchedProgram& b) { return a.loss < b.loss; });
  return out;
}

}  // namespace switchyard
