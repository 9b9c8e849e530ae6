#include "kernels/packed/rows.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

namespace scalar::packed_rows {
extern const packed::RowKernels kKernels;
}
namespace avx2::packed_rows {
extern const packed::RowKernels kKernels;
}
namespace avx512::packed_rows {
extern const packed::RowKernels kKernels;
}

namespace packed {

const RowKernels& row_kernels() {
  return *best_variant(&scalar::packed_rows::kKernels, &avx2::packed_rows::kKernels, &avx512::packed_rows::kKernels);
}

}  // namespace packed
}  // namespace switchyard::kernels
