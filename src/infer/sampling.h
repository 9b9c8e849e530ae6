// Choosing the next token from a row of logits: small pure functions on plain numbers.
//
//   logits -> repetition penalty -> / temperature -> top-k -> top-p -> min-p -> renormalise -> draw
//
// The filters act in this order, each on what the one before left (the order of Hugging Face's `generate`). Equal logits
// are ordered by the lower id, so that a choice is repeatable. At least one token always remains.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

struct SamplingOptions {
  double temperature = 0.8;         // 0 = always the most probable token
  int64_t top_k = 0;                // keep the k most probable; 0 = all
  double top_p = 1.0;               // keep the smallest set of most probable tokens with at least this probability
  double min_p = 0.0;               // keep tokens with at least this share of the largest probability
  double repetition_penalty = 1.0;  // > 1 makes tokens that were seen less likely

  template <class V> void fields(V&& v) {
    v("temperature", temperature, "0 = always the most probable token");
    v("top_k", top_k, "keep the k most probable tokens; 0 = all");
    v("top_p", top_p, "keep the smallest set of most probable tokens with this probability");
    v("min_p", min_p, "keep tokens with this share of the largest probability");
    v("repetition_penalty", repetition_penalty, "above 1: tokens that were seen become less likely");
  }
};

// Throws Error{usage} naming the option, its value and its range.
void check_sampling(const SamplingOptions& options);

struct Candidate {
  int32_t id = 0;
  double prob = 0;
};

// Index of the largest logit; ties go to the lower index, NaN never wins. 0 for a row without a number.
[[nodiscard]] int32_t most_probable(std::span<const float> logits);

// Divides positive and multiplies negative logits of the tokens in `seen` by `penalty`, each token once (arXiv:1909.05858,
// section 4.1, in the form that treats negative logits alike).
void penalise_repetition(std::span<float> logits, std::span<const int32_t> seen, double penalty);

// softmax(logits / temperature) in double precision, most probable first. temperature > 0. NaN and -inf have probability 0
// and are left out.
[[nodiscard]] std::vector<Candidate> candidates_from(std::span<const float> logits, double temperature);

// Filters of a list that is sorted by probability. Probabilities are renormalised to sum 1.
void keep_top_k(std::vector<Candidate>& candidates, int64_t k);
void keep_top_p(std::vector<Candidate>& candidates, double p);
void keep_min_p(std::vector<Candidate>& candidates, double p);

// The candidate in whose share of [0, 1) the number u falls.
[[nodiscard]] int32_t draw(std::span<const Candidate> candidates, double u);

// All of it: one token. `logits` is changed by the penalty; u in [0, 1) is not used at temperature 0. Throws Error{numeric}
// when the row has no finite logit.
[[nodiscard]] int32_t sample_token(std::span<float> logits, std::span<const int32_t> seen, const SamplingOptions& options, double u);

}  // namespace switchyard
