#define SW_ISA avx512
#include "kernels/rms_norm.inl"
