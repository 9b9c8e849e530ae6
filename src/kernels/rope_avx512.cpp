#define SW_ISA avx512
#include "kernels/rope.inl"
