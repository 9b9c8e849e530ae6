#define SW_ISA avx2
#include "kernels/packed/rows.inl"
