// A rule of inference: the same weights, used in another way. Named, so that rules can be compared on one trained model.
//
//   set        keys of the model's specification that change: how many experts, room per expert, order of normalising
//   contrast   the model less what its passed-over experts say (SCMoE, infer/self_contrast.h)
//   domains    a mixture of the predictions under every tag (DEMix, eval/domain_mixture.h)
#pragma once

#include "eval/domain_mixture.h"
#include "infer/self_contrast.h"
#include "switchyard/fields.h"

#include <string>
#include <vector>

namespace switchyard {

struct EvalRule {
  std::string name = {};
  std::vector<std::string> set = {};
  ContrastOptions contrast = {};
  int64_t domains = 0, tag = -1;
  std::string prior = "uniform";

  template <class V> void fields(V&& v) {
    v("name", name, "what it is called");
    v("set", set, "keys of the model that change, such as 'moe.gate.k=1'");
    v("contrast", contrast.beta, "self-contrast: how much less of what passed-over experts say; 0 = off");
    v("contrast_alpha", contrast.alpha, "only tokens with this share of the largest probability");
    v("contrast_ranks", contrast.ranks, "experts of the second pass, 1 = the best");
    v("domains", domains, "predict as a mixture of the tags 0 .. N-1; 0 = tags of the text");
    v("tag", tag, "one tag for all of the text; -1 = tags of the text");
    v("prior", prior, "of the domains: uniform, updating (follows the text) or cached (follows its first 100 blocks)");
  }
};

// Throws Error{usage} for a prior that is none, and for domains, tag and contrast together.
void check_rule(const EvalRule& rule);

// Empty when `stop` said so. The posterior and the prior of the domains are empty unless the rule has domains.
//
// Self-contrast puts no probability at all on tokens beyond its cut-off, so that its loss would be infinite: the loss is the one
// without the cut-off, (1 + beta) strong - beta weak over all tokens; accuracy is that of the rule.
[[nodiscard]] std::optional<DomainMixtureResult> evaluate_rule(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options, const EvalRule& rule,
                                                               const std::function<bool()>& stop = {});

}  // namespace switchyard
