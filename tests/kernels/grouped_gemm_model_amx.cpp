// The AMX blocks of grouped products on the model of the tiles. Their packing rounds with AVX-512 BF16.
#include "tile_model.h"

#define kAmxBf16 kModelBf16
#include "kernels/grouped_gemm_amx.cpp"
