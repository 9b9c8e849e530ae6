// Packed strips of integers with AVX-512 VNNI: four products of bytes per lane and instruction.
#include "kernels/packed/avx512_vectors.h"
#include "kernels/packed/tile_vectors.h"

namespace switchyard::kernels::packed {
namespace {

// Assembly: around the intrinsic GCC 12 copies every sum of a loop twice.
struct Vnni : Avx512Vectors {
  static Int dot_bytes(Int sum, Int bytes, Int x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(x));
    return sum;
  }
  static Int dot_nibbles(Int sum, Int nibbles, Int x) { return dot_bytes(sum, nibbles, x); }
};

}  // namespace

const TileKernel kVnniTiles[4] = {{}, {},
                                  {RowForm::int8, multiply<Vnni, IntegerTile<Vnni, WeightFormat::int8>>},
                                  {RowForm::int8, multiply<Vnni, IntegerTile<Vnni, WeightFormat::int4>>}};

}  // namespace switchyard::kernels::packed
