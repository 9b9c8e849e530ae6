#define SW_ISA avx2
#include "kernels/random_fill.inl"
