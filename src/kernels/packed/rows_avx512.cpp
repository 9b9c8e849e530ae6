#define SW_ISA avx512
#include "kernels/packed/rows.inl"
