#include "switchyard/gate.h"

namespace switchyard {

int64_t Gate::num_parameters() const {
  int64_t n = 0;
  for (const auto& p : parameters()) n += p.numel();
  return n;
}

}  // namespace switchyard
