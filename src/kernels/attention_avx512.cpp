#define SW_ISA avx512
#include "kernels/attention_forward.inl"
#include "kernels/attention_decode.inl"
#include "kernels/attention_backward.inl"
