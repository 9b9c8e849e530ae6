#define SW_ISA scalar
#include "kernels/packed/rows.inl"
