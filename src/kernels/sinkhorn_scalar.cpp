#define SW_ISA scalar
#include "kernels/sinkhorn.inl"
