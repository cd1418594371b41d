// What every kernel body needs, free of torch and of any one device: storage types, strided views, problem sizes.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DAVSR_FN __host__ __device__ __forceinline__
#else
#define DAVSR_FN inline __attribute__((always_inline))
#endif

#if defined(__CUDA_ARCH__)
#define DAVSR_UNROLL _Pragma("unroll")
#else
#define DAVSR_UNROLL
#endif

// Before a loop whose reads and writes do not meet: the compiler makes vectors of it without asking.
#if defined(__clang__)
#define DAVSR_NO_ALIAS _Pragma("clang loop vectorize(assume_safety)")
#else
#define DAVSR_NO_ALIAS _Pragma("GCC ivdep")
#endif

namespace davsr {

enum class Kind : int32_t { float32, float64, float16, bfloat16 };

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class Stored>
constexpr Kind kind_of() {
  return sizeof(Stored) == 8 ? Kind::float64 : Kind::float32;
}
template <>
constexpr Kind kind_of<Half>() {
  return Kind::float16;
}
template <>
constexpr Kind kind_of<BFloat16>() {
  return Kind::bfloat16;
}

// `static`: these are compiled once per instruction set, and no translation unit may lend its copy to another.
template <class To, class From>
static DAVSR_FN To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

static DAVSR_FN int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

static DAVSR_FN float widen(float value) { return value; }
static DAVSR_FN double widen(double value) { return value; }
static DAVSR_FN float widen(BFloat16 value) { return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }
static DAVSR_FN float widen(Half value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  // Shift exponent and mantissa into place and rescale by 2^112, which also makes half's subnormals right.
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const float scaled = bit_cast<float>(rest) * 5.192296858534828e+33f;
  const uint32_t finite = bit_cast<uint32_t>(scaled);
  return bit_cast<float>(sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : finite));
#endif
}

template <class Stored>
static DAVSR_FN Stored narrow(double value) {
  return static_cast<Stored>(value);
}
template <class Stored>
static DAVSR_FN Stored narrow(float value) {
  return static_cast<Stored>(value);
}
template <>
DAVSR_FN BFloat16 narrow<BFloat16>(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // nearest, ties to even
  return BFloat16{static_cast<uint16_t>(value != value ? 0x7fc0u : rounded)};
}
template <>
DAVSR_FN Half narrow<Half>(float value) {
#if defined(__CUDA_ARCH__)
  return Half{__half_as_ushort(__float2half_rn(value))};
#else
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return Half{static_cast<uint16_t>(sign | 0x7e00u)};   // not a number
  if (rest >= 0x477ff000u) return Half{static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to infinity
  if (rest < 0x38800000u) {
    // Subnormal in half: adding 0.5 puts the bits that stay at the end of the float's mantissa, rounded by the
    // addition.
    const uint32_t placed = bit_cast<uint32_t>(bit_cast<float>(rest) + 0.5f) - 0x3f000000u;
    return Half{static_cast<uint16_t>(sign | placed)};
  }
  const uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u) - 0x38000000u;
  return Half{static_cast<uint16_t>(sign | (rounded >> 13))};
#endif
}
template <>
DAVSR_FN BFloat16 narrow<BFloat16>(double value) {
  return narrow<BFloat16>(static_cast<float>(value));
}
template <>
DAVSR_FN Half narrow<Half>(double value) {
  return narrow<Half>(static_cast<float>(value));
}

// A tensor [batch, channel, height, width] whose rows follow each other: one stride leads from pixel to pixel.
struct Planes {
  void* data = nullptr;
  Kind kind = Kind::float32;
  int64_t batch = 0, channel = 0, pixel = 0;

  DAVSR_FN int64_t at(int64_t b, int64_t c, int64_t p) const { return b * batch + c * channel + p * pixel; }
};

struct AlignShape {
  int64_t batch = 0, groups = 0, channels = 0;  // channels of one group
  int64_t height = 0, width = 0, c_out = 0;
  int64_t first_groups = 0;  // groups that read with flow_1
  double max_residue = 0;

  DAVSR_FN int64_t pixels() const { return height * width; }
  DAVSR_FN int64_t padded_row() const { return (width + 3) * channels; }
  DAVSR_FN int64_t padded_plane() const { return (height + 3) * padded_row(); }
  DAVSR_FN int64_t columns() const { return groups * 9 * channels; }
};

struct DivisionShape {
  int64_t batch = 0, channels = 0;
  int64_t s_t = 1, s_h = 1, s_w = 1;
  int64_t t = 0, h = 0, w = 0;  // LR sizes in the signal domain

  DAVSR_FN int64_t hr_width() const { return s_w * w; }
  DAVSR_FN int64_t hr_columns() const { return hr_width() / 2 + 1; }
  DAVSR_FN int64_t lr_columns() const { return w / 2 + 1; }
  DAVSR_FN int64_t hr_size() const { return s_t * t * s_h * h * hr_columns(); }
  DAVSR_FN int64_t lr_size() const { return t * h * lr_columns(); }
};

// Videos [batch, channels, frames, height, width], sampled along a motion at `steps` frames; cells lie on a coarser
// grid.
struct MotionShape {
  static constexpr int kMost = 16;  // steps

  int64_t batch = 0, channels = 0, frames = 0, height = 0, width = 0;
  int64_t cells_h = 0, cells_w = 0;  // of the grid of cells
  int64_t cell_h = 1, cell_w = 1;    // pixels of a cell, where cells are averages
  int steps = 0;
  int32_t step[kMost] = {};  // frames from the one that samples to the one that is sampled

  DAVSR_FN int64_t pixels() const { return height * width; }
  DAVSR_FN int64_t cells() const { return cells_h * cells_w; }
  DAVSR_FN bool has(int64_t frame) const { return frame >= 0 && frame < frames; }
  // First value of channel 0 of frame p; of step k at frame p on the grid of cells; of the motion along x.
  DAVSR_FN int64_t at(int64_t b, int64_t p) const { return (b * channels * frames + p) * pixels(); }
  DAVSR_FN int64_t plane() const { return frames * pixels(); }  // from one channel to the next
  DAVSR_FN int64_t cell_at(int64_t b, int64_t k, int64_t p) const { return ((b * steps + k) * frames + p) * cells(); }
  DAVSR_FN int64_t motion_at(int64_t b, int64_t p) const { return (b * frames + p) * 2 * pixels(); }
};

}  // namespace davsr
