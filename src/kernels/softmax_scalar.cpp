#define SW_ISA scalar
#include "kernels/softmax.inl"
