#include "kernels/activation_functions.inl"

namespace switchyard::kernels::SW_ISA {
namespace {

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
  with_activation(kind, [&](auto phi) { forward<decltype(phi)>(rows, width, g, u, h); });
}

void activation_backward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g,
                         MatrixRows<const float> u, MatrixRows<const float> dh, MatrixRows<float> dg, MatrixRows<float> du,
                         MatrixRows<float> h) noexcept {
  with_activation(kind, [&](auto phi) { backward<decltype(phi)>(rows, width, g, u, dh, dg, du, h); });
}

}  // namespace switchyard::kernels::SW_ISA
