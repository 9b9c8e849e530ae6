#define SW_ISA scalar
#include "kernels/rope.inl"
