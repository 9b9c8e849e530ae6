// The activations of kernels/activation.h as functions of a vector: value and derivative.
#pragma once

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

// body(Phi{}) for the function of a kind.
template <class Body>
inline void with_activation(Activation kind, Body body) {
  switch (kind) {
    case Activation::relu: return body(Relu{});
    case Activation::gelu: return body(Gelu{});
    case Activation::gelu_tanh: return body(GeluTanh{});
    case Activation::silu: return body(Silu{});
    case Activation::sigmoid: return body(Sigmoid{});
    case Activation::identity: return body(Identity{});
    case Activation::relu2: return body(Relu2{});
  }
}

}  // namespace
}  // namespace switchyard::kernels::SW_ISA
