#define SW_ISA avx512
#include "kernels/adamw.inl"
