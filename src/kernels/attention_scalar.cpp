#define SW_ISA scalar
#include "kernels/attention_forward.inl"
#include "kernels/attention_decode.inl"
#include "kernels/attention_backward.inl"
