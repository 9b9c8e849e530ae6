#define SW_ISA avx2
#include "kernels/paged_attention.inl"
