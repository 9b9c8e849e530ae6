#include "core/ops.h"
#include "kernels/isa.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {
thread_local ComputeType current_type = ComputeType::float32;
}  // namespace

ComputeType parse_compute_type(const std::string& name) {
  if (name == "float32" || name == "f32") return ComputeType::float32;
  if (name == "bfloat16" || name == "bf16") return ComputeType::bfloat16;
  if (name == "auto") return kernels::selected_isa() >= kernels::Isa::amx ? ComputeType::bfloat16 : ComputeType::float32;
  fail(ErrorKind::config, "compute = '{}': expected auto, float32 or bfloat16", name);
}

const char* name_of(ComputeType type) { return type == ComputeType::float32 ? "float32" : "bfloat16"; }

ComputeScope::ComputeScope(ComputeType type) : before_(current_type) { current_type = type; }
ComputeScope::~ComputeScope() { current_type = before_; }
ComputeType ComputeScope::current() { return current_type; }

}  // namespace switchyard
