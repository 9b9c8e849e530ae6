#define SW_ISA scalar
#include "kernels/adamw.inl"
