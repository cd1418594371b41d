#include <immintrin.h>

#include "cpu_level.h"

namespace davsr {
namespace {

struct Avx512 {
  static constexpr const char* name = "avx512";
  static constexpr int bytes = 64;
  static constexpr int registers = 32;
  static constexpr bool has_bits = true;
  static constexpr bool has_pairs = true;
  static DAVSR_FN uint32_t bits(VectorOf<float, 16>::index holds) {
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(holds));
  }
  static DAVSR_FN VectorOf<float, 16>::type floor(VectorOf<float, 16>::type value) {
    return reinterpret_cast<VectorOf<float, 16>::type>(_mm512_maskz_roundscale_ps(0xffff, reinterpret_cast<__m512>(value), 1));
  }
  static DAVSR_FN VectorOf<float, 16>::type within(VectorOf<float, 16>::type value, VectorOf<float, 16>::type low,
                                                   VectorOf<float, 16>::type high) {
    const __m512 least = _mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(value), reinterpret_cast<__m512>(low));
    return reinterpret_cast<VectorOf<float, 16>::type>(_mm512_maskz_min_ps(0xffff, least, reinterpret_cast<__m512>(high)));
  }
  static DAVSR_FN VectorOf<float, 16>::type pick(VectorOf<float, 16>::type a, VectorOf<float, 16>::type b,
                                                 VectorOf<float, 16>::index from) {
    return reinterpret_cast<VectorOf<float, 16>::type>(
        _mm512_permutex2var_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512i>(from), reinterpret_cast<__m512>(b)));
  }
  static DAVSR_FN VectorOf<float, 8>::type add_halves(VectorOf<float, 16>::type value) {
    const __m512 both = reinterpret_cast<__m512>(value);
    return reinterpret_cast<VectorOf<float, 8>::type>(
        _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, both, 0), _mm512_maskz_extractf32x8_ps(0xff, both, 1)));
  }
  using Device = Cpu<Avx512>;
};

}  // namespace

CpuKernels avx512_kernels() { return kernels_of<Avx512>(); }

}  // namespace davsr
