// switchyard forward: every tensor of one forward pass, for people who port models
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "models/forward_dump.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct ForwardArguments {
  std::string model, input, output, dtype = "float32";
};

}  // namespace

VerbEntry verb_forward() {
  return {"forward", 95, "Run a model once on given tokens and write every intermediate tensor", [](CLI::App& verb) {
            auto args = std::make_shared<ForwardArguments>();
            verb.add_option("--model", args->model, "model folder")->required()->type_name("MODEL-DIR");
            verb.add_option("--input", args->input, "safetensors file with input_ids, and optionally attention_mask and position_ids: int64 [B, S]; for a model with an encoder also decoder_input_ids")
                ->required()
                ->type_name("FILE");
            verb.add_option("--output", args->output, "safetensors file to write: logits, hidden_states.{i}, moe.{i}.router_logits, ...")
                ->required()
                ->type_name("FILE");
            verb.add_option("--dtype", args->dtype, "arithmetic of matrix products")->type_name("float32|bfloat16");
            add_threads_option(verb);
            verb.footer("Examples:\n  switchyard forward --model mixtral/ --input in.safetensors --output out.safetensors\n"
                        "  switchyard forward --model runs/demo --input in.safetensors --output out.safetensors --dtype bfloat16");
            verb.callback([args] {
              forward_file(find_model(args->model), args->input, args->output, args->dtype);
              print_result("{}\n", args->output);
            });
          }};
}

}  // namespace switchyard::cli
