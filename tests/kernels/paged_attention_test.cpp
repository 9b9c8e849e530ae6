// Attention over pages against loops in float64 over the numbers that were stored.
#include "kernels/paged_attention.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cstring>
#include <numeric>

#include "kernels/bf16.h"
#include "per_isa_test.h"
#include "switchyard/error.h"

namespace switchyard::kernels {
namespace {
namespace paged {

using PagedAttention = PerIsa;
INSTANTIATE_TEST_SUITE_P(Isas, PagedAttention, vector_isas(), isa_name);

// One layer of a few sequences, in pages that are dealt out in a scrambled order.
struct Cache {
  Cache(KvFormat format, int64_t heads, int64_t head_dim, int64_t pages) {
    kv.format = format;
    kv.heads = heads;
    kv.head_dim = head_dim;
    bytes = KvPages::page_bytes(format, heads, head_dim);
    memory.assign(static_cast<size_t>(pages * bytes) + 64, static_cast<char>(0xff));  // NaN where nothing is stored
    kv.data = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
    free_pages.resize(static_cast<size_t>(pages));
    std::iota(free_pages.begin(), free_pages.end(), 0);
    for (size_t i = 0; i < free_pages.size(); ++i) std::swap(free_pages[i], free_pages[(i * 7 + 3) % free_pages.size()]);
  }
  void reserve(std::vector<int32_t>& list, int64_t tokens) {
    while (static_cast<int64_t>(list.size()) * kPageTokens < tokens) list.push_back(free_pages.back()), free_pages.pop_back();
  }
  KvPages kv;
  int64_t bytes;
  std::vector<char> memory;
  std::vector<int32_t> free_pages;
};

// What a format makes of a key or value of a head.
std::vector<double> stored(KvFormat format, const float* x, int64_t c) {
  std::vector<double> out(x, x + c);
  float most = 0;
  for (int64_t i = 0; i < c; ++i) most = std::max(most, std::abs(x[i]));
  for (double& v : out) {
    if (format == KvFormat::bfloat16) v = round_to_bf16(static_cast<float>(v));
    if (format == KvFormat::int8) v = most == 0 ? 0 : std::round(static_cast<float>(v) * (127.0f / most)) * static_cast<double>(most / 127.0f);
  }
  return out;
}

struct Sequence {
  std::vector<float> k, v;  // [tokens, heads, c]
  std::vector<int32_t> pages;
  int64_t length = 0;
};

std::vector<double> exact(const Sequence& s, KvFormat format, int64_t position, const float* q, int64_t heads, int64_t kv_heads, int64_t c, double scale, int64_t window) {
  std::vector<double> out(static_cast<size_t>(heads * c));
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t g = h / (heads / kv_heads), first = window > 0 ? std::max<int64_t>(0, position + 1 - window) : 0;
    std::vector<double> score;
    for (int64_t j = first; j <= position; ++j) {
      const auto k = stored(format, s.k.data() + (j * kv_heads + g) * c, c);
      double dot = 0;
      for (int64_t i = 0; i < c; ++i) dot += k[static_cast<size_t>(i)] * static_cast<double>(q[h * c + i]);
      score.push_back(dot * scale);
    }
    const double most = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double& x : score) sum += x = std::exp(x - most);
    for (int64_t j = first; j <= position; ++j) {
      const auto v = stored(format, s.v.data() + (j * kv_heads + g) * c, c);
      for (int64_t i = 0; i < c; ++i) out[static_cast<size_t>(h * c + i)] += score[static_cast<size_t>(j - first)] / sum * v[static_cast<size_t>(i)];
    }
  }
  return out;
}

// Three sequences in chunks of different sizes, all in the same calls. Sums of c and of length terms in float32.
void run_case(KvFormat format, int64_t heads, int64_t kv_heads, int64_t c, int64_t window) {
  Cache cache(format, kv_heads, c, 40);
  std::vector<Sequence> sequences(3);
  const std::vector<std::vector<int64_t>> calls = {{5, 0, 33}, {1, 20, 1}, {40, 1, 1}, {1, 1, 16}};
  uint32_t seed = 1;
  const float scale = 0.37f;
  for (const auto& sizes : calls) {
    std::vector<PagedRows> parts;
    std::vector<float> q, k, v;
    int64_t rows = 0;
    for (size_t n = 0; n < sizes.size(); ++n) {
      if (sizes[n] == 0) continue;
      Sequence& s = sequences[n];
      const auto new_k = normal_values(sizes[n] * kv_heads * c, ++seed), new_v = normal_values(sizes[n] * kv_heads * c, ++seed), new_q = normal_values(sizes[n] * heads * c, ++seed);
      s.k.insert(s.k.end(), new_k.begin(), new_k.end());
      s.v.insert(s.v.end(), new_v.begin(), new_v.end());
      k.insert(k.end(), new_k.begin(), new_k.end());
      v.insert(v.end(), new_v.begin(), new_v.end());
      q.insert(q.end(), new_q.begin(), new_q.end());
      cache.reserve(s.pages, s.length + sizes[n]);
      parts.push_back({rows, sizes[n], s.length, s.pages.data()});
      rows += sizes[n];
      s.length += sizes[n];
    }
    std::vector<float> out(static_cast<size_t>(rows * heads * c), NAN), alone(out.size());
    kv_store(cache.kv, parts.data(), static_cast<int64_t>(parts.size()), k.data(), v.data());
    paged_attention(cache.kv, parts.data(), static_cast<int64_t>(parts.size()), heads, q.data(), scale, window, out.data());
    size_t part = 0;
    for (size_t n = 0; n < sizes.size(); ++n) {
      if (sizes[n] == 0) continue;
      const PagedRows& p = parts[part++];
      for (int64_t r = 0; r < p.rows; ++r) {
        const auto want = exact(sequences[n], format, p.first + r, q.data() + (p.row + r) * heads * c, heads, kv_heads, c, static_cast<double>(scale), window);
        for (int64_t i = 0; i < heads * c; ++i) ASSERT_NEAR(out[static_cast<size_t>((p.row + r) * heads * c + i)], want[static_cast<size_t>(i)], 2e-5) << "row " << r << " of part " << n;
      }
      // A sequence does not notice the others, nor the number of threads.
      const int before = omp_get_max_threads();
      omp_set_num_threads(3);
      paged_attention(cache.kv, &p, 1, heads, q.data(), scale, window, alone.data());
      omp_set_num_threads(before);
      ASSERT_EQ(0, std::memcmp(alone.data() + p.row * heads * c, out.data() + p.row * heads * c, sizeof(float) * static_cast<size_t>(p.rows * heads * c)));
    }
  }
}

TEST_P(PagedAttention, EqualsLoopsOverWhatIsStored) {
  for (const KvFormat format : {KvFormat::float32, KvFormat::bfloat16, KvFormat::int8}) {
    run_case(format, 4, 2, 64, 0);
    run_case(format, 3, 3, 20, 0);
    run_case(format, 2, 1, 7, 9);
  }
}

TEST_P(PagedAttention, ZerosAndNanAreKept) {
  for (const KvFormat format : {KvFormat::float32, KvFormat::bfloat16, KvFormat::int8}) {
    Cache cache(format, 1, 16, 2);
    std::vector<int32_t> pages;
    cache.reserve(pages, 3);
    std::vector<float> k(48), v(48), q(48, 1.0f), out(48);
    v[40] = NAN;  // of the third token
    const PagedRows part{0, 3, 0, pages.data()};
    kv_store(cache.kv, &part, 1, k.data(), v.data());
    paged_attention(cache.kv, &part, 1, 1, q.data(), 1.0f, 0, out.data());
    for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], 0.0f);
    EXPECT_TRUE(std::isnan(out[40]));
  }
}

TEST(KvFormats, NamesAreListed) {
  EXPECT_EQ(parse_kv_format("int8"), KvFormat::int8);
  EXPECT_THROW((void)parse_kv_format("fp8"), Error);
  EXPECT_EQ(KvPages::page_bytes(KvFormat::float32, 2, 64), 2 * 2 * 64 * 16 * 4);
  EXPECT_EQ(KvPages::page_bytes(KvFormat::int8, 2, 64), 2 * (2 * 64 * 16 + 128));
}

}  // namespace paged
}  // namespace
}  // namespace switchyard::kernels
