// The AMX kernel of packed weights on the model of the tiles.
#include "tile_model.h"

#define kAmxTiles kModelTiles
#include "kernels/packed/tile_amx.cpp"
