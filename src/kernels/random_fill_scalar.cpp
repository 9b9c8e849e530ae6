#define SW_ISA scalar
#include "kernels/random_fill.inl"
