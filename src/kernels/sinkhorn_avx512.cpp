#define SW_ISA avx512
#include "kernels/sinkhorn.inl"
