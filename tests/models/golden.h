// Reads the recorded tensors of tests/data/golden and compares with the bounds of its README.
#pragma once

#include "io/safetensors.h"
#include "models/stored_tensors.h"
#include "switchyard/checkpoint.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>

namespace switchyard::testing {

inline std::filesystem::path golden_folder(const std::string& name) { return std::filesystem::path(SW_TEST_DATA) / "golden" / name; }

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(SafetensorsFile::open(golden_folder(name) / "reference.safetensors")),
        scalars_(nlohmann::json::parse(std::ifstream(golden_folder(name) / "reference.json"))) {}

  [[nodiscard]] torch::Tensor operator[](const std::string& name) const {
    const TensorEntry* entry = file_.find(name);
    if (!entry) throw std::out_of_range(name);
    return as_tensor(*entry);
  }
  [[nodiscard]] const std::vector<TensorEntry>& entries() const { return file_.entries(); }
  [[nodiscard]] bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  [[nodiscard]] const nlohmann::json& scalars() const { return scalars_; }

 private:
  SafetensorsFile file_;
  nlohmann::json scalars_;
};

// Every |found - expected| <= absolute + relative * |expected|; the worst element is reported.
inline ::testing::AssertionResult close_to(const torch::Tensor& found, const torch::Tensor& expected, double absolute, double relative) {
  if (found.sizes() != expected.sizes()) return ::testing::AssertionFailure() << "shape " << found.sizes() << ", expected " << expected.sizes();
  if (found.numel() == 0) return ::testing::AssertionSuccess();
  const auto x = found.detach().to(torch::kFloat64).flatten(), y = expected.detach().to(torch::kFloat64).flatten();
  const auto excess = ((x - y).abs() - (absolute + relative * y.abs())).nan_to_num(1e30);
  const auto worst = excess.argmax().item<int64_t>();
  if (excess[worst].item<double>() <= 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "element " << worst << " is " << x[worst].item<double>() << ", expected " << y[worst].item<double>();
}

inline ::testing::AssertionResult same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() == b.sizes() && a.equal(b)) return ::testing::AssertionSuccess();
  return close_to(a, b, 0, 0) << " (bits differ)";
}

}  // namespace switchyard::testing
