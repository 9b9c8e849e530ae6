// Tables of the rotary angles (arXiv:2104.09864, section 3.2.2), scaled as the model says (RopeSpec):
//   angle[p, i] = p * theta^(-2i / dims),  i = 0 .. dims/2 - 1
#pragma once

#include "switchyard/mixer.h"
#include "switchyard/model_spec.h"

namespace switchyard {

class Rotary {
 public:
  Rotary() = default;  // of models without rotary positions: tables are undefined
  // `dims`: dimensions of a head that turn, 0 = none. `spec` is resolved.
  Rotary(const ModelSpec& spec, int64_t dims);

  // Cosine and sine for the positions 0 .. length - 1, and maybe more. Grows when it has to; the scalings `dynamic` and `longrope` depend
  // on the length of the text, so that their tables are those of `length`.
  [[nodiscard]] RotaryTable upto(int64_t length);

  // theta^(-2i / dims) after scaling, for a text of that length.
  [[nodiscard]] std::vector<float> frequencies(int64_t length) const;
  // Factor of cosine and sine.
  [[nodiscard]] double attention_factor(int64_t length) const;

 private:
  [[nodiscard]] double theta_of(int64_t length) const;
  [[nodiscard]] int64_t original() const;

  RopeSpec spec_;
  int64_t dims_ = 0, max_positions_ = 0;
  double theta_ = 0;
  RotaryTable table_;
  std::vector<float> made_with_;
};

// Throws Error{config} for scalings that make no sense.
void check_rope(const ModelSpec& spec);

// 0.1 * mscale * ln(factor) + 1, and 1 for factors up to 1 (arXiv:2309.00071 section 3.4).
[[nodiscard]] double yarn_mscale(double factor, double mscale);

}  // namespace switchyard
