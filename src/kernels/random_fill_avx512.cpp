#define SW_ISA avx512
#include "kernels/random_fill.inl"
