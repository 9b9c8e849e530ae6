#include "steps/step.h"

namespace switchyard {

std::vector<StepEntry> builtin_step_entries();  // generated from src/steps/kinds

Registry<StepEntry>& step_registry() {
  static Registry<StepEntry> registry("step", builtin_step_entries());
  return registry;
}

}  // namespace switchyard
