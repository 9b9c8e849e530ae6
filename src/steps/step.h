// A step turns one checkpoint into another; a training scheme is a list of steps, and `train` is one of them.
#pragma once

#include "switchyard/checkpoint.h"
#include "switchyard/plug_in.h"

namespace switchyard {

// What a step may use besides its options.
struct StepContext {
  std::filesystem::path run_dir;  // where it may write
  uint64_t seed = 0;
};

class Step {
 public:
  virtual ~Step() = default;
  [[nodiscard]] virtual Checkpoint run(Checkpoint checkpoint, const StepContext& context) = 0;
};

using StepEntry = PlugIn<Step>;
Registry<StepEntry>& step_registry();

}  // namespace switchyard
