#define SW_ISA scalar
#include "kernels/expert_attention.inl"
