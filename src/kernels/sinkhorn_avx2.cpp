#define SW_ISA avx2
#include "kernels/sinkhorn.inl"
