// What the tests of AMX kernels share: where they run, memory with guards.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace switchyard::kernels {

// On this CPU's tile registers, or compiled for a model of them (tile_model.h).
enum class Tiles { model, cpu };

class OnTiles : public testing::TestWithParam<Tiles> {
 protected:
  // bfloat16: the kernel also uses AVX-512 BF16, which is no level of its own.
  void skip_unless_it_runs(bool bfloat16) {
    if (GetParam() == Tiles::cpu && !cpu_has(Isa::amx)) GTEST_SKIP() << "this CPU has no AMX; the model of its tiles stands for it";
    if (!cpu_has(Isa::avx512)) GTEST_SKIP() << "this CPU has no AVX-512, which the rest of the kernel uses";
    if (bfloat16 && !__builtin_cpu_supports("avx512bf16")) GTEST_SKIP() << "this CPU has no AVX-512 BF16, which packing uses";
  }
};
inline std::string tiles_name(const testing::TestParamInfo<Tiles>& info) { return info.param == Tiles::cpu ? "cpu" : "model"; }

inline std::vector<float> uniform_values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = std::ldexp(static_cast<float>(random() >> 8), -23) - 1.0f;  // in [-1, 1)
  return x;
}

// The first 64-byte boundary in memory that has 64 bytes to spare.
inline char* aligned(std::vector<char>& memory) { return memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64; }

// Bytes that end where memory ends: reading or writing behind them stops the program.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) : mapped_((bytes + kPage - 1) / kPage * kPage + kPage) {
    begin_ = static_cast<char*>(mmap(nullptr, static_cast<size_t>(mapped_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(begin_, MAP_FAILED);
    EXPECT_EQ(mprotect(begin_ + mapped_ - kPage, kPage, PROT_NONE), 0);
    data_ = begin_ + mapped_ - kPage - bytes;
  }
  Guarded(const char* from, int64_t bytes) : Guarded(bytes) { std::memcpy(data_, from, static_cast<size_t>(bytes)); }
  ~Guarded() { munmap(begin_, static_cast<size_t>(mapped_)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  [[nodiscard]] char* data() const { return data_; }

 private:
  static constexpr int64_t kPage = 4096;
  int64_t mapped_;
  char *begin_, *data_;
};

// A matrix [rows, cols] inside a larger one, all of it random; what a kernel must leave alone is checked.
class Output {
 public:
  Output(int64_t rows, int64_t cols, uint32_t seed) : rows_(rows), cols_(cols), before_(uniform_values((rows + 2) * ld(), seed)), now_(before_) {}
  [[nodiscard]] int64_t ld() const { return cols_ + 3; }
  float* data() { return now_.data() + first(); }
  [[nodiscard]] float before(int64_t r, int64_t j) const { return before_[static_cast<size_t>(first() + r * ld() + j)]; }
  [[nodiscard]] float at(int64_t r, int64_t j) const { return now_[static_cast<size_t>(first() + r * ld() + j)]; }
  [[nodiscard]] const float* row(int64_t r) const { return now_.data() + first() + r * ld(); }

  void expect_rest_untouched() const {
    for (int64_t i = 0; i < static_cast<int64_t>(now_.size()); ++i) {
      const int64_t r = (i - first() + ld()) / ld() - 1, j = (i - first() + ld()) % ld();
      if (r >= 0 && r < rows_ && j < cols_) continue;
      ASSERT_EQ(now_[static_cast<size_t>(i)], before_[static_cast<size_t>(i)]) << "row " << r << ", column " << j << " of " << rows_ << " x " << cols_;
    }
  }

 private:
  [[nodiscard]] int64_t first() const { return ld() + 1; }
  int64_t rows_, cols_;
  std::vector<float> before_, now_;
};

}  // namespace switchyard::kernels
