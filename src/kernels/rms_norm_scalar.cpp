#define SW_ISA scalar
#include "kernels/rms_norm.inl"
