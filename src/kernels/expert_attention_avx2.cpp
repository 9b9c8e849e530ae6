#define SW_ISA avx2
#include "kernels/expert_attention.inl"
