#define SW_ISA avx2
#include "kernels/rms_norm.inl"
