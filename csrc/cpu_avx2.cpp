#include <immintrin.h>

#include "cpu_level.h"

namespace davsr {
namespace {

struct Avx2 {
  static constexpr const char* name = "avx2";
  static constexpr int bytes = 32;
  static constexpr int registers = 16;
  static constexpr bool has_bits = true;
  static constexpr bool has_pairs = false;
  static DAVSR_FN uint32_t bits(VectorOf<float, 8>::index holds) {
    return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(holds)));
  }
  static DAVSR_FN VectorOf<float, 8>::type floor(VectorOf<float, 8>::type value) {
    return reinterpret_cast<VectorOf<float, 8>::type>(_mm256_floor_ps(reinterpret_cast<__m256>(value)));
  }
  static DAVSR_FN VectorOf<float, 8>::type within(VectorOf<float, 8>::type value, VectorOf<float, 8>::type low,
                                                  VectorOf<float, 8>::type high) {
    const __m256 least = _mm256_max_ps(reinterpret_cast<__m256>(value), reinterpret_cast<__m256>(low));
    return reinterpret_cast<VectorOf<float, 8>::type>(_mm256_min_ps(least, reinterpret_cast<__m256>(high)));
  }
  using Device = Cpu<Avx2>;
};

}  // namespace

CpuKernels avx2_kernels() { return kernels_of<Avx2>(); }

}  // namespace davsr
