#define SW_ISA avx512
#include "kernels/cross_entropy.inl"
