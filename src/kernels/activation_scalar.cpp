#define SW_ISA scalar
#include "kernels/activation.inl"
