#define SW_ISA scalar
#include "kernels/cross_entropy.inl"
