#include "kernels/activation.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

struct Value {
  Floats value, slope;
};

inline Floats clamp(Floats x, float bound) { return min(splat(bound), max(splat(-bound), x)); }

// x for the product x * (something that is 0 far below): keeps -infinity * 0 away.
inline Floats bounded_below(Floats x) { return max(splat(-200.0f), x); }

struct Relu {
  static Value at(Floats x) { return {select(x <= 0.0f, Floats{}, x), select(x <= 0.0f, Floats{}, splat(1.0f))}; }
};

struct Silu {
  static Value at(Floats x) {
    const Floats s = 1.0f / (1.0f + exp_fast(-x)), bounded = clamp(x, 200.0f);
    return {bounded_below(x) * s, s * (1.0f + bounded * (1.0f - s))};
  }
};

struct Gelu {
  static Value at(Floats x) {
    // Phi(-|x|) = exp(-x^2 / 2) P(t) / 2,  t = 1 / (1 + 0.3275911 |x| / sqrt 2): Abramowitz and Stegun 7.1.26.
    const Floats z = clamp(x, 20.0f), bell = exp_fast(z * z * -0.5f);
    const Floats t = 1.0f / (1.0f + abs(z) * 0.231641888f);
    Floats p = splat(0.5307027145f);
    p = p * t - 0.7265760135f;
    p = p * t + 0.7107068705f;
    p = p * t - 0.142248368f;
    p = p * t + 0.127414796f;
    const Floats tail = p * t * bell, phi = select(z < 0.0f, tail, 1.0f - tail);
    return {bounded_below(x) * phi, phi + z * bell * 0.398942280f};
  }
};

struct GeluTanh {
  static Value at(Floats x) {
    const Floats z = clamp(x, 20.0f), z2 = z * z;
    const Floats s = 1.0f / (1.0f + exp_fast(z * -1.59576912f * (1.0f + 0.044715f * z2)));
    return {bounded_below(x) * s, s + z * s * (1.0f - s) * (1.59576912f * (1.0f + 0.134145f * z2))};
  }
};

struct Sigmoid {
  static Value at(Floats x) {
    const Floats s = 1.0f / (1.0f + exp_fast(-x));
    return {s, s * (1.0f - s)};
  }
};

struct Identity {
  static Value at(Floats x) { return {x, splat(1.0f)}; }
};

struct Relu2 {
  static Value at(Floats x) {
    const Floats r = select(x <= 0.0f, Floats{}, x);
    return {r * r, r + r};
  }
};

// body(load, store) for every vector of every row, the last of a row partial.
template <class Body>
inline void for_rows(int64_t rows, int64_t width, Body body) {
#pragma omp parallel for schedule(static) if (rows * width > 8192)
  for (int64_t r = 0; r < rows; ++r) {
    int64_t d = 0;
    for (; d + kLanes <= width; d += kLanes)
      body([=](const auto& x) { return load(x.row(r) + d); },
           [=](const auto& x, Floats value) { store(x.row(r) + d, value); });
    if (const int64_t rest = width - d; rest > 0)
      body([=](const auto& x) { return load_first(x.row(r) + d, rest); },
           [=](const auto& x, Floats value) { store_first(x.row(r) + d, value, rest); });
  }
}

template <class Phi>
inline void forward(int64_t rows, int64_t width, const MatrixRows<const float>& g, const MatrixRows<const float>& u,
                    const MatrixRows<float>& h) {
  if (u.data)
    for_rows(rows, width, [&](auto get, auto put) { put(h, Phi::at(get(g)).value * get(u)); });
  else
    for_rows(rows, width, [&](auto get, auto put) { put(h, Phi::at(get(g)).value); });
}

template <class Phi>
inline void backward(int64_t rows, int64_t width, const MatrixRows<const float>& g, const MatrixRows<const float>& u,
                     const MatrixRows<const float>& dh, const MatrixRows<float>& dg, const MatrixRows<float>& du,
                     const MatrixRows<float>& h) {
  for_rows(rows, width, [&](auto get, auto put) {
    const Value phi = Phi::at(get(g));
    const Floats up = u.data ? get(u) : splat(1.0f), d = get(dh);
    put(dg, d * phi.slope * up);
    if (u.data) put(du, d * phi.value);
    if (h.data) put(h, phi.value * up);
  });
}

}  // namespace

void activation_forward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g, MatrixRows<const float> u,
                        MatrixRows<float> h) noexcept {
  switch (kind) {
    case Activation::relu: return forward<Relu>(rows, width, g, u, h);
    case Activation::gelu: return forward<Gelu>(rows, width, g, u, h);
    case Activation::gelu_tanh: return forward<GeluTanh>(rows, width, g, u, h);
    case Activation::silu: return forward<Silu>(rows, width, g, u, h);
    case Activation::sigmoid: return forward<Sigmoid>(rows, width, g, u, h);
    case Activation::identity: return forward<Identity>(rows, width, g, u, h);
    case Activation::relu2: return forward<Relu2>(rows, width, g, u, h);
  }
}

void activation_backward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g,
                         MatrixRows<const float> u, MatrixRows<const float> dh, MatrixRows<float> dg, MatrixRows<float> du,
                         MatrixRows<float> h) noexcept {
  switch (kind) {
    case Activation::relu: return backward<Relu>(rows, width, g, u, dh, dg, du, h);
    case Activation::gelu: return backward<Gelu>(rows, width, g, u, dh, dg, du, h);
    case Activation::gelu_tanh: return backward<GeluTanh>(rows, width, g, u, dh, dg, du, h);
    case Activation::silu: return backward<Silu>(rows, width, g, u, dh, dg, du, h);
    case Activation::sigmoid: return backward<Sigmoid>(rows, width, g, u, dh, dg, du, h);
    case Activation::identity: return backward<Identity>(rows, width, g, u, dh, dg, du, h);
    case Activation::relu2: return backward<Relu2>(rows, width, g, u, dh, dg, du, h);
  }
}

}  // namespace switchyard::kernels::SW_ISA
