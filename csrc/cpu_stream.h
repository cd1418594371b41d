// Stores that pass the caches by: a line need not be read before it is written, and nothing else has to leave for it.
// They pay for results that are larger than the caches and read after much else.
#pragma once

#include "vectors.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace davsr {

constexpr int64_t kStreamed = 1 << 23;  // bytes of a result, from which on it is streamed

// `to`: a multiple of a vector's bytes.
template <class Vector>
static DAVSR_FN void stream(void* to, const Vector& value) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Vector) == 64) return _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)value);
#endif
#if defined(__AVX__)
  if constexpr (sizeof(Vector) == 32) return _mm256_stream_si256(static_cast<__m256i*>(to), (__m256i)value);
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(Vector) == 16) return _mm_stream_si128(static_cast<__m128i*>(to), (__m128i)value);
#endif
  __builtin_memcpy(to, &value, sizeof value);
}

// Before another thread reads what was streamed.
static DAVSR_FN void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace davsr
