// Between the tensors of a file and the parameters of a model, by the table of a family.
#pragma once

#include "io/safetensors_set.h"
#include "io/safetensors_writer.h"
#include "models/family.h"

#include <functional>

namespace switchyard {

// Fills the model from `files`. Throws Error{checkpoint} that lists what is missing, does not belong or has another shape
// than config.json says, and the first weight that is not finite.
// `filled` hears of each parameter that is complete, while others still wait for their values.
using Filled = std::function<void(const torch::Tensor& parameter)>;
void read_weights(LanguageModel& model, const Family& family, const TensorStore& files, const Filled& filled = {});

// Names and shapes alone, as read_weights checks them. Returns the place of the layout that they have.
size_t check_tensors(const LanguageModel& model, const Family& family, const TensorStore& files);

// The model's tensors in a layout of the family, by its place among them, stored as `dtype` (f32, bf16 or f16). The model must outlive
// the result.
[[nodiscard]] std::vector<TensorSource> stored_weights(const LanguageModel& model, const Family& family, DType dtype, size_t layout = 0);

// What config.json calls one of these three.
[[nodiscard]] std::string long_name(DType dtype);

// A tensor as it is, converted only to be contiguous: training state, dumps.
[[nodiscard]] TensorSource as_stored(const std::string& name, const torch::Tensor& tensor);
// The other way: a copy of a stored tensor with its own dtype (float32, float16, bfloat16, float64, int64, int32, bool, uint8).
[[nodiscard]] torch::Tensor as_tensor(const TensorEntry& entry);

}  // namespace switchyard
