// One token and one expert at a time, in double, from the tensors of a folder by their stored names: what the published definitions of models of
// custom code compute. Nothing of the library's layers is used.
#pragma once

#include "io/safetensors_set.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace switchyard::custom_code {

using Vec = std::vector<double>;
using Rows = std::vector<Vec>;  // by token

struct Stored {
  std::vector<int64_t> shape;
  Vec values;

  [[nodiscard]] double at(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * (static_cast<int64_t>(values.size()) / shape[0]) + column)];
  }
};

class StoredWeights {
 public:
  explicit StoredWeights(const std::filesystem::path& folder) {
    const auto files = SafetensorsSet::open(folder);
    for (const TensorEntry* entry : files.entries()) {
      std::vector<float> values(static_cast<size_t>(entry->numel()));
      to_float32(*entry, values.data());
      tensors_[entry->name] = {entry->shape, Vec(values.begin(), values.end())};
    }
  }
  [[nodiscard]] const Stored& at(const std::string& name) const { return tensors_.at(name); }

  // y_o = sum_i w[first + o][i] x_i over `rows` rows; all of them without.
  [[nodiscard]] Vec linear(const std::string& name, const Vec& x, int64_t first = 0, int64_t rows = -1) const {
    const Stored& w = at(name);
    Vec y(static_cast<size_t>(rows < 0 ? w.shape[0] : rows), 0.0);
    for (size_t o = 0; o < y.size(); ++o)
      for (size_t i = 0; i < x.size(); ++i) y[o] += w.at(first + static_cast<int64_t>(o), static_cast<int64_t>(i)) * x[i];
    return y;
  }
  // y_o = sum_i x_i w[e][i][o] of a tensor [E, in, out].
  [[nodiscard]] Vec linear_in_out(const std::string& name, int64_t e, const Vec& x) const {
    const Stored& w = at(name);
    Vec y(static_cast<size_t>(w.shape[2]), 0.0);
    for (size_t o = 0; o < y.size(); ++o)
      for (size_t i = 0; i < x.size(); ++i) y[o] += w.at(e, static_cast<int64_t>(i) * w.shape[2] + static_cast<int64_t>(o)) * x[i];
    return y;
  }

 private:
  std::map<std::string, Stored> tensors_;
};

inline Vec rms_norm(const Vec& x, const Stored& weight, double eps) {
  double square = 0;
  for (const double v : x) square += v * v;
  Vec y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = weight.values[i] * x[i] / std::sqrt(square / static_cast<double>(x.size()) + eps);
  return y;
}

inline Vec softmax(Vec x) {
  const double most = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double& v : x) v = std::exp(v - most), sum += v;
  for (double& v : x) v /= sum;
  return x;
}

inline double silu(double x) { return x / (1 + std::exp(-x)); }
inline double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))); }

// The k largest, the largest first.
inline std::vector<size_t> best(const Vec& x, size_t k) {
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  order.resize(k);
  return order;
}

inline void add(Vec& to, const Vec& x, double weight = 1) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += weight * x[i];
}

inline Vec gated(const Vec& gate, const Vec& up, const std::function<double(double)>& phi) {
  Vec h(up.size());
  for (size_t i = 0; i < h.size(); ++i) h[i] = phi(gate[i]) * up[i];
  return h;
}

// Pair (i, i + dims / 2) of a head turns by position * 10000^(-2i / dims).
inline Vec turned(Vec head, size_t position, size_t dims) {
  for (size_t i = 0; i < dims / 2; ++i) {
    const double angle = static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dims));
    const double a = head[i], b = head[i + dims / 2];
    head[i] = a * std::cos(angle) - b * std::sin(angle);
    head[i + dims / 2] = b * std::cos(angle) + a * std::sin(angle);
  }
  return head;
}

struct Heads {
  size_t queries, keys, width, turned;  // how many query heads, key heads; width; dimensions that turn
  double scale, cap = 0;
};

// q [T][H c], k and v [T][G c], before positions -> [T][H c].
inline Rows attend(const Rows& q, const Rows& k, const Rows& v, const Heads& n) {
  const auto head = [&](const Vec& row, size_t h) {
    return Vec(row.begin() + static_cast<std::ptrdiff_t>(h * n.width), row.begin() + static_cast<std::ptrdiff_t>((h + 1) * n.width));
  };
  Rows out(q.size(), Vec(n.queries * n.width, 0.0));
  for (size_t t = 0; t < q.size(); ++t)
    for (size_t h = 0; h < n.queries; ++h) {
      const size_t g = h / (n.queries / n.keys);
      const Vec query = turned(head(q[t], h), t, n.turned);
      Vec scores;
      for (size_t u = 0; u <= t; ++u) {
        const Vec key = turned(head(k[u], g), u, n.turned);
        const double s = n.scale * std::inner_product(query.begin(), query.end(), key.begin(), 0.0);
        scores.push_back(n.cap > 0 ? n.cap * std::tanh(s / n.cap) : s);
      }
      const Vec weights = softmax(scores);
      for (size_t u = 0; u <= t; ++u)
        for (size_t i = 0; i < n.width; ++i) out[t][h * n.width + i] += weights[u] * head(v[u], g)[i];
    }
  return out;
}

inline Rows normed(const Rows& x, const Stored& weight, double eps) {
  Rows out;
  for (const Vec& row : x) out.push_back(rms_norm(row, weight, eps));
  return out;
}

inline Rows mapped(const Rows& x, const std::function<Vec(const Vec&)>& f) {
  Rows out;
  for (const Vec& row : x) out.push_back(f(row));
  return out;
}

inline void add_to(Rows& h, const Rows& branch) {
  for (size_t t = 0; t < h.size(); ++t) add(h[t], branch[t]);
}

// Attention of the Llama line on normed rows.
inline Rows llama_attention(const StoredWeights& w, const std::string& attn, const Rows& x, const Heads& heads) {
  const auto project = [&](const char* name) { return mapped(x, [&](const Vec& row) { return w.linear(attn + name + ".weight", row); }); };
  return mapped(attend(project("q_proj"), project("k_proj"), project("v_proj"), heads), [&](const Vec& row) { return w.linear(attn + "o_proj.weight", row); });
}

}  // namespace switchyard::custom_code
