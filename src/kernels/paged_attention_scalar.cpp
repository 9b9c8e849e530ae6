#define SW_ISA scalar
#include "kernels/paged_attention.inl"
