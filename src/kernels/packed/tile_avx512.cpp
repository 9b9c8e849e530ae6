// Packed strips with AVX-512: 14 rows by 2 strips in 28 registers; a strip's line is one vector.
#include "kernels/packed/avx512_vectors.h"
#include "kernels/packed/tile_vectors.h"

namespace switchyard::kernels::packed {
namespace {

// Without VNNI: 16-bit sums of two products cannot overflow for nibbles; bytes are taken as two nibbles.
struct Avx512 : Avx512Vectors {
  static Int dot_nibbles(Int sum, Int nibbles, Int x) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(nibbles, x), _mm512_set1_epi16(1)));
  }
  static Int dot_bytes(Int sum, Int bytes, Int x) {
    const Int high = _mm512_madd_epi16(_mm512_maddubs_epi16(high_nibbles(bytes), x), _mm512_set1_epi16(16));
    return dot_nibbles(_mm512_add_epi32(sum, high), low_nibbles(bytes), x);
  }
};

}  // namespace

const TileKernel kAvx512Tiles[4] = {{RowForm::float32, multiply<Avx512, Float32Tile<Avx512>>},
                                    {RowForm::float32, multiply<Avx512, Bfloat16Tile<Avx512>>, 130},
                                    {RowForm::int8, multiply<Avx512, IntegerTile<Avx512, WeightFormat::int8>>},
                                    {RowForm::int8, multiply<Avx512, IntegerTile<Avx512, WeightFormat::int4>>}};

}  // namespace switchyard::kernels::packed
