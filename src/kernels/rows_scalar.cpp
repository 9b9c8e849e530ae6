#define SW_ISA scalar
#include "kernels/rows.inl"
