#include "kernels/packed/tile.h"

namespace switchyard::kernels::packed {

TileKernel tile_kernel(Isa isa, WeightFormat format) {
  const auto index = static_cast<int>(format);
  const struct {
    Isa level;
    const TileKernel* tiles;
  } ladder[] = {{Isa::amx, kAmxTiles}, {Isa::vnni, kVnniTiles}, {Isa::avx512, kAvx512Tiles}, {Isa::avx2, kAvx2Tiles}};
  for (const auto& step : ladder)
    if (isa >= step.level && step.tiles[index].multiply) return step.tiles[index];
  return kScalarTiles[index];
}

}  // namespace switchyard::kernels::packed
