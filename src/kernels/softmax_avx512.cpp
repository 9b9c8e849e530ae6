#define SW_ISA avx512
#include "kernels/softmax.inl"
