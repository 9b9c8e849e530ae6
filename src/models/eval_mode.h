// A model in evaluation mode, without gradients, for as long as the object lives.
#pragma once

#include "switchyard/language_model.h"

#include <c10/core/GradMode.h>

namespace switchyard {

class EvalMode {
 public:
  explicit EvalMode(LanguageModel& model) : model_(model), was_training_(model.is_training()) { model_.eval(); }
  ~EvalMode() { model_.train(was_training_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  LanguageModel& model_;
  bool was_training_;
  c10::NoGradGuard no_grad_;
};

}  // namespace switchyard
