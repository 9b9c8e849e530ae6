// One source, several instruction sets: how a kernel family is built and chosen.
//
//   <family>.inl         the code, in namespace switchyard::kernels::SW_ISA, written with the vectors of simd.h
//   <family>_<isa>.cpp   #define SW_ISA <isa>, then #include of the .inl; CMake gives the file the flags of its ISA
//   <family>.cpp         the public function: SW_PER_ISA declares the variants, best_variant picks one
//
// Everything in a .inl that is not a variant is in an unnamed namespace, and it calls no inline or template function of
// the standard library: the linker keeps one copy of those, and it might keep the one that needs AVX-512.
#pragma once

#include "kernels/isa.h"

#define SW_PER_ISA(result, name, parameters)         \
  namespace scalar { result name parameters noexcept; } \
  namespace avx2 { result name parameters noexcept; }   \
  namespace avx512 { result name parameters noexcept; }

#define SW_BEST_VARIANT(name) best_variant(&scalar::name, &avx2::name, &avx512::name)

namespace switchyard::kernels {

// The best variant at or below selected_isa(), which throws on its first use if SWITCHYARD_ISA is wrong.
template <class Function>
[[nodiscard]] Function best_variant(Function scalar, Function avx2, Function avx512) {
  const Isa isa = selected_isa();
  return isa >= Isa::avx512 ? avx512 : isa >= Isa::avx2 ? avx2 : scalar;
}

}  // namespace switchyard::kernels
