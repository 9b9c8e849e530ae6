// Fixture of the kernel tests: runs every test once per instruction set that this CPU has.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace switchyard::kernels {

class PerIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!cpu_has(GetParam())) GTEST_SKIP() << "this CPU lacks " << name_of(GetParam());
    isa_.emplace(GetParam());
  }

 private:
  std::optional<ScopedIsa> isa_;
};

inline auto vector_isas() { return testing::Values(Isa::scalar, Isa::avx2, Isa::avx512); }
inline std::string isa_name(const testing::TestParamInfo<Isa>& info) { return std::string(name_of(info.param)); }

inline std::vector<float> normal_values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = normal(random);
  return x;
}

// |got - want| <= tolerance * max(1, |want|) for every element; reports the worst one.
inline void expect_close(const std::vector<float>& got, const std::vector<double>& want, double tolerance,
                         const std::string& name) {
  ASSERT_EQ(got.size(), want.size()) << name;
  double worst = 0.0;
  size_t where = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]) / std::max(1.0, std::abs(want[i]));
    if (!(error <= worst)) worst = error, where = i;
  }
  EXPECT_LE(worst, tolerance) << name << "[" << where << "] = " << (got.empty() ? 0.0f : got[where]);
}

}  // namespace switchyard::kernels
