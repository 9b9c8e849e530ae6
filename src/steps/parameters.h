// The trainable tensors of a model, with what the optimiser treats differently.
#pragma once

#include "steps/train_options.h"
#include "switchyard/language_model.h"

#include <string>
#include <vector>

namespace switchyard {

struct TrainedParameter {
  std::string name;  // in LanguageModel::named_parameters()
  torch::Tensor tensor;
  bool decays = false;  // weight decay applies
  double lr_scale = 1;  // multiplies the learning rate; 0 = frozen: it never moves and has no part in the gradient norm
};

// A parameter of a gate, by its name.
[[nodiscard]] bool is_router(const std::string& name);

// Lets go of the parameters that options.train_only and options.freeze leave out: they get no gradient and no optimiser state.
// Without either nothing changes. Throws Error{config} for an expression that names nothing, and when nothing is left.
void freeze_parameters(LanguageModel& model, const OptimizerOptions& options);

// Those that get gradients, in the order of named_parameters(), tied tensors once. Matrices decay; vectors (norms, biases, also
// those that experts have one each of) do not; the options decide about embedding, head and routers.
[[nodiscard]] std::vector<TrainedParameter> trained_parameters(LanguageModel& model, const OptimizerOptions& options);

// Forgets all gradients.
void clear_gradients(const std::vector<TrainedParameter>& parameters);

// Root of the sum of squares of all gradients (missing ones count as zero), in double, added in an order that depends on
// the sizes only: equal for any number of threads.
[[nodiscard]] double gradient_norm(const std::vector<TrainedParameter>& parameters);

// Factor that brings gradients of norm `norm` down to `limit`; 1 when they are below it or the limit is 0.
[[nodiscard]] double clip_factor(double norm, double limit);

}  // namespace switchyard
