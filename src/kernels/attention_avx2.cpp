#define SW_ISA avx2
#include "kernels/attention_forward.inl"
#include "kernels/attention_decode.inl"
#include "kernels/attention_backward.inl"
