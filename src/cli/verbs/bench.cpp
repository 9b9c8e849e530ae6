// switchyard bench: how fast a layer is here, beside the limits of the machine and beside libtorch
#include "base/proc.h"
#include "bench/layer_bench.h"
#include "bench/model_bench.h"
#include "cli/find_recipe.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "kernels/isa.h"
#include "steps/recipe.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include <map>
#include <ranges>

namespace switchyard::cli {
namespace {

using bench::LayerBenchRow;

struct LayerArguments {
  bench::LayerBenchOptions options;
  std::vector<std::string> shapes = {"olmoe"}, dtypes = {"bfloat16"};
  std::string direction = "forward";
  bool json = false, no_libtorch = false;
};

nlohmann::ordered_json json_of(const LayerArguments& args, const bench::LayerBenchOptions& o, const LayerBenchRow& r) {
  const auto or_null = [](bool there, double x) { return there ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr); };
  return {{"shape", o.shape.name}, {"num_experts", o.shape.num_experts}, {"dtype", o.dtype}, {"tokens", r.tokens}, {"direction", args.direction}, {"routing", o.routing}, {"us", r.us},
          {"gflops", r.gflops}, {"gbps", r.gbps}, {"roof", r.roof}, {"fraction_of_roof", r.fraction_of_roof},
          {"ratio_libtorch", or_null(o.alternative, r.ratio_libtorch)}, {"max_error", r.max_error}, {"us_libtorch", or_null(o.alternative, r.torch_us)},
          {"us_dense", r.dense_us}, {"ratio_dense", r.ratio_dense}, {"roof_gflops", or_null(r.roof_gflops > 0, r.roof_gflops)}, {"roof_gbps", r.roof_gbps}, {"dispatch_share", or_null(!o.backward, r.dispatch_share)},
          {"turns", r.turns}, {"threads", threads_in_use()}, {"isa", std::string(kernels::name_of(kernels::selected_isa()))}};
}

std::vector<std::string> cells(const bench::LayerBenchOptions& o, const LayerBenchRow& r) {
  return {o.shape.name, o.dtype, fmt::format("{}", r.tokens), fmt::format("{:.1f}", r.us), fmt::format("{:.1f}", r.gflops), fmt::format("{:.1f}", r.gbps),
          r.roof, fmt::format("{:.2f}", r.fraction_of_roof), o.alternative ? fmt::format("{:.2f}", r.ratio_libtorch) : "-", fmt::format("{:.2f}", r.ratio_dense), fmt::format("{:.1e}", r.max_error)};
}

void run_layer(LayerArguments args) {
  args.options.backward = args.direction == "both";
  args.options.alternative = !args.no_libtorch;
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  LayerBenchRow last;
  std::map<std::string, std::string> peaks;  // of the arithmetic, by dtype
  for (const std::string& shape : args.shapes)
    for (const std::string& dtype : args.dtypes) {
      auto options = args.options;
      options.shape = bench::layer_shape(shape);
      options.dtype = dtype;
      const int64_t all_experts = options.shape.num_experts;
      options.shape = bench::shape_that_fits(options, available_memory());
      if (options.shape.num_experts < all_experts) note("{} {}: {} of {} experts, which is what memory holds", shape, dtype, options.shape.num_experts, all_experts);
      (void)bench::bench_layer(options, [&](const LayerBenchRow& row) {
        all.push_back(json_of(args, options, row));
        rows.push_back(cells(options, row));
        last = row;
        peaks[dtype] = fmt::format("{:.0f} Gflop/s for {}", row.roof_gflops, dtype);
        note("{} {} {} tokens: {:.1f} us, {:.2f} of the {} roof", shape, dtype, row.tokens, row.us, row.fraction_of_roof, row.roof);
      });
    }
  if (args.json) return print_json(all);
  print_result("{} threads, isa {}; limits {:.1f} GB/s, {}; {} routing, {}\n\n", threads_in_use(), kernels::name_of(kernels::selected_isa()), last.roof_gbps,
               fmt::join(peaks | std::views::values, ", "), args.options.routing, args.direction == "both" ? "forward and backward" : "forward");
  write_result(format_table({{"shape"}, {"weights"}, {"tokens", true}, {"us", true}, {"Gflop/s", true}, {"GB/s", true}, {"roof"}, {"of roof", true}, {"x libtorch", true}, {"over dense", true}, {"error", true}}, rows));
}

void add_layer(CLI::App& verb) {
  auto args = std::make_shared<LayerArguments>();
  std::vector<std::string> names;
  for (const auto& shape : bench::layer_shapes()) names.push_back(shape.name);
  auto& layer = *verb.add_subcommand("layer", "One MoE layer against libtorch, as a share of what the machine can do");
  layer.add_option("--shape", args->shapes, "sizes of the layer")->delimiter(',')->check(CLI::IsMember(names).description(""))->type_name(fmt::format("{}", fmt::join(names, "|")))->capture_default_str();
  layer.add_option("--dtype", args->dtypes, "of the weights; with --direction both of the arithmetic")->delimiter(',')
      ->check(CLI::IsMember({"float32", "bfloat16", "int8", "int4"}).description(""))->type_name("float32|bfloat16|int8|int4")->capture_default_str();
  layer.add_option("--tokens", args->options.tokens, "of a call")->delimiter(',')->check(CLI::Range(1, 1 << 20).description(""))->type_name("N,...")->capture_default_str();
  layer.add_option("--direction", args->direction, "forward, or forward and backward")->check(CLI::IsMember({"forward", "both"}).description(""))->type_name("forward|both")->capture_default_str();
  layer.add_option("--routing", args->options.routing, "who goes where")->check(CLI::IsMember({"uniform", "zipf", "one"}).description(""))->type_name("uniform|zipf|one")->capture_default_str();
  layer.add_option("--seconds", args->options.seconds, "per case, at least three turns")->check(CLI::Range(0.0, 3600.0).description(""))->type_name("S")->capture_default_str();
  layer.add_option("--seed", args->options.seed, "of weights, tokens and routing")->type_name("N")->capture_default_str();
  layer.add_flag("--no-libtorch", args->no_libtorch, "do not time the alternative");
  add_threads_option(layer);
  layer.add_flag("--json", args->json, "an array with one object per case");
  layer.footer("Weights lie in memory, not in the cache, when a call begins; code is warm, another layer has just run. The roof is the time to read\n"
               "the weights of the active experts or the time of the arithmetic, whichever is longer, at limits that are measured between the turns.\n"
               "The dense network has one expert as wide as all that a token meets: equal arithmetic, and for a few tokens fewer bytes, which it may\n"
               "find in a cache. A layer that memory does not hold with all that it is compared with has fewer experts: 'num_experts' in the JSON.\n\n"
               "Examples:\n  switchyard bench layer --shape olmoe --dtype bfloat16,int8 --tokens 1,16,512\n"
               "  switchyard bench layer --shape demo --dtype float32 --tokens 4096 --direction both --json");
  layer.callback([args] { run_layer(*args); });
}

struct ModelArguments {
  bench::ModelBenchOptions options;
  std::string recipe = "olmoe-1b-7b";
  std::vector<std::string> set;
  bool json = false;
};

void run_model(ModelArguments args) {
  args.options.spec = resolved_model(load_recipe(find_recipe(args.recipe), args.set));
  const auto r = bench::bench_model(args.options, [](const std::string& text) { note("{}", text); });
  const bool torch = args.options.libtorch;
  if (args.json) {
    const auto or_null = [&](double x) { return torch ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr); };
    return print_json({{"recipe", args.recipe}, {"weights", args.options.weights}, {"weight_bytes", r.weight_bytes}, {"active_bytes", r.active_bytes},
                       {"prompt", args.options.prompt}, {"sequences", args.options.sequences}, {"kv_cache", args.options.kv_cache}, {"prefill_tokens_per_s", r.prefill_tokens_per_s}, {"decode_tokens_per_s", r.decode_tokens_per_s},
                       {"decode_gbps", r.decode_gbps}, {"roof_gbps", r.roof_gbps}, {"fraction_of_roof", r.fraction_of_roof},
                       {"torch_prefill_tokens_per_s", or_null(r.torch_prefill_tokens_per_s)}, {"ratio_libtorch", or_null(r.ratio_libtorch)},
                       {"threads", threads_in_use()}, {"isa", std::string(kernels::name_of(kernels::selected_isa()))}});
  }
  print_result("weights   {} in {}, {} of them for one token\n", format_bytes(r.weight_bytes), args.options.weights, format_bytes(r.active_bytes));
  print_result("prefill   {:.1f} tokens/s, {} tokens at once\n", r.prefill_tokens_per_s, args.options.prompt);
  if (args.options.sequences > 1) print_result("decoding  {:.2f} tokens/s, {} texts at once\n", r.decode_tokens_per_s, args.options.sequences);
  else print_result("decoding  {:.2f} tokens/s, {:.1f} GB/s: {:.2f} of the {:.1f} GB/s that memory gives\n", r.decode_tokens_per_s, r.decode_gbps, r.fraction_of_roof, r.roof_gbps);
  if (torch) print_result("libtorch  {:.1f} tokens/s prefill in float32: {:.2f} times as fast here\n", r.torch_prefill_tokens_per_s, r.ratio_libtorch);
}

void add_model(CLI::App& verb) {
  auto args = std::make_shared<ModelArguments>();
  auto& model = *verb.add_subcommand("model", "Prefill and decoding of a whole model with random weights");
  model.add_option("recipe", args->recipe, "recipe file or name")->type_name("RECIPE")->capture_default_str();
  model.add_option("--set", args->set, "change one key: --set model.num_layers=4")->type_name("KEY=VALUE")->allow_extra_args(false);
  model.add_option("--weights", args->options.weights, "of the large matrices")->check(CLI::IsMember({"float32", "bfloat16", "int8", "int4"}).description(""))->type_name("float32|bfloat16|int8|int4")->capture_default_str();
  model.add_option("--prompt", args->options.prompt, "tokens of a prefill")->type_name("N")->capture_default_str();
  model.add_option("--new-tokens", args->options.new_tokens, "tokens that are decoded")->type_name("N")->capture_default_str();
  model.add_option("--sequences", args->options.sequences, "texts that are decoded at once")->type_name("N")->capture_default_str();
  model.add_option("--kv-cache", args->options.kv_cache, "how keys and values are kept")->check(CLI::IsMember({"float32", "bfloat16", "int8"}).description(""))->type_name("float32|bfloat16|int8")->capture_default_str();
  model.add_option("--turns", args->options.turns, "of both, for the medians")->type_name("N")->capture_default_str();
  model.add_flag("--libtorch", args->options.libtorch, "time the prefill in ATen operations as well; its weights are float32: keep the model small");
  add_threads_option(model);
  model.add_flag("--json", args->json, "machine-readable output");
  model.footer("Examples:\n  switchyard bench model olmoe-1b-7b --weights int4\n  switchyard bench model olmoe-1b-7b --set model.num_layers=2 --libtorch --json");
  model.callback([args] { run_model(*args); });
}

}  // namespace

VerbEntry verb_bench() {
  return {"bench", 49, "How fast this machine runs a layer or a model: against its limits and against libtorch", [](CLI::App& verb) {
            verb.require_subcommand(1);
            verb.footer("Examples:\n  switchyard bench layer --shape olmoe --dtype bfloat16,int8 --tokens 1,16,512\n  switchyard bench model olmoe-1b-7b --weights int4");
            add_layer(verb);
            add_model(verb);
          }};
}

}  // namespace switchyard::cli
