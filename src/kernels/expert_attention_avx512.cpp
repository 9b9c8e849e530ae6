#define SW_ISA avx512
#include "kernels/expert_attention.inl"
