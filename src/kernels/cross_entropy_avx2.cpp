#define SW_ISA avx2
#include "kernels/cross_entropy.inl"
