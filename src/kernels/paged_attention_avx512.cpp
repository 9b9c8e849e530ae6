#define SW_ISA avx512
#include "kernels/paged_attention.inl"
