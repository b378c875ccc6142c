// The tile shapes that kernels exist for.
#pragma once

namespace laudc {
namespace cuda {

template <int kTileM, int kTileN>
struct SimtShape;
template <int kTileM, int kTileN, int kWarpsM, int kWarpsN, int kStages>
struct MmaShape;

typedef SimtShape<64, 64> SimtSmall;
typedef SimtShape<128, 64> SimtTall;
typedef MmaShape<64, 64, 2, 2, 3> MmaSmall;
typedef MmaShape<128, 64, 4, 2, 3> MmaTall;
typedef MmaShape<128, 128, 4, 2, 3> MmaBig;

}  // namespace cuda
}  // namespace laudc
