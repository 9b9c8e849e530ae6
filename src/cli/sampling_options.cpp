#include "cli/sampling_options.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {

void add_sampling_options(CLI::App& verb, GenerateOptions& opt) {
  verb.add_option("--max-tokens", opt.max_tokens, "most new tokens")->type_name("N");
  verb.add_option("--temperature", opt.sampling.temperature, "0 = always the most probable token")->type_name("X");
  verb.add_option("--top-k", opt.sampling.top_k, "keep the k most probable tokens; 0 = all")->type_name("K");
  verb.add_option("--top-p", opt.sampling.top_p, "keep the smallest set of tokens with this probability")->type_name("P");
  verb.add_option("--min-p", opt.sampling.min_p, "keep tokens with this share of the largest probability")->type_name("P");
  verb.add_option("--repetition-penalty", opt.sampling.repetition_penalty, "above 1: tokens that were seen become less likely")->type_name("X");
  verb.add_option("--contrast", opt.contrast.beta, "self-contrast: how much less of what passed-over experts say (0.5); 0 = off")->type_name("BETA");
  verb.add_option("--contrast-alpha", opt.contrast.alpha, "only tokens with this share of the largest probability")->type_name("P");
  verb.add_option("--contrast-ranks", opt.contrast.ranks, "experts of the second pass, 1 = the best: 2")->delimiter(',')->type_name("RANKS");
  verb.add_option("--tag", opt.tag, "number of the domain of the text, for models that route by it")->type_name("N");
  verb.add_option("--seed", opt.seed, "the same seed draws the same tokens")->type_name("N");
  verb.add_option("--stop", opt.stop, "end before this text; may be given again")->type_name("TEXT")->allow_extra_args(false);
  verb.add_flag("--ignore-eos", opt.ignore_eos, "go on after the end-of-document token");
}

}  // namespace switchyard::cli
