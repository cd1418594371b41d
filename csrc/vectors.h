// CPU devices: vectors of pixels or channels in the compiler's own vector types, so one source serves every instruction
// set.
//
// The instruction set is part of the device's *type*: the translation units that are compiled for different sets
// instantiate different functions, and the linker cannot replace one by another.
#pragma once

#include <cmath>

#include "deform_align.h"
#include "motion_average.h"

namespace davsr {

template <class Real>
struct IntegerOf;
template <>
struct IntegerOf<float> {
  using type = int32_t;
};
template <>
struct IntegerOf<double> {
  using type = int64_t;
};

template <class Real, int N>
struct VectorOf {
  typedef Real type __attribute__((vector_size(sizeof(Real) * N)));
  typedef typename IntegerOf<Real>::type index __attribute__((vector_size(sizeof(Real) * N)));
};

template <int N>
struct WordsOf {
  typedef uint16_t half __attribute__((vector_size(2 * N)));
  typedef uint32_t whole __attribute__((vector_size(4 * N)));
};

// Lane l of the result is lane from[l] of `a`, or of `a` followed by `b`; the compiler knows the indices once it has
// unrolled.
template <class Vector, class Index>
static DAVSR_FN Vector shuffle(const Vector& a, const Vector& b, const Index& from) {
#if defined(__clang__)  // has no shuffle by a variable, and makes one of this
  constexpr int width = static_cast<int>(sizeof(from) / sizeof(from[0]));
  Vector result{};
#pragma unroll
  for (int l = 0; l < width; ++l) result[l] = from[l] < width ? a[from[l] % width] : b[from[l] % width];
  return result;
#else
  return __builtin_shuffle(a, b, from);
#endif
}

template <class Vector, class Index>
static DAVSR_FN Vector shuffle(const Vector& a, const Index& from) {
#if defined(__clang__)
  return shuffle(a, a, from);
#else
  return __builtin_shuffle(a, from);
#endif
}

template <class Isa>
struct Cpu {
  static constexpr int registers = Isa::registers;
  template <class Real>
  static constexpr int lanes = Isa::bytes / static_cast<int>(sizeof(Real));
  template <class Real>
  using Lanes = typename VectorOf<Real, lanes<Real>>::type;
  template <class Real>
  using Index = typename VectorOf<Real, lanes<Real>>::index;
  template <class Real, int N>
  using Pack = typename VectorOf<Real, N>::type;

  template <class Real>
  static DAVSR_FN Lanes<Real> splat(Real value) {
    return Lanes<Real>{} + value;
  }

  template <class Real>
  static DAVSR_FN Lanes<Real> ramp(Real first) {
    Lanes<Real> steps;
    for (int l = 0; l < lanes<Real>; ++l) steps[l] = static_cast<Real>(l);
    return steps + first;
  }

  // For |value| < 2^31; of what is no number, a number.
  template <class Real>
  static DAVSR_FN Lanes<Real> floor(const Lanes<Real>& value) {
    const Lanes<Real> whole = __builtin_convertvector(__builtin_convertvector(value, Index<Real>), Lanes<Real>);
    return whole > value ? whole - splat<Real>(1) : whole;
  }

  // floor() in one instruction where there is one.
  template <class Real>
  static DAVSR_FN Lanes<Real> round_down(const Lanes<Real>& value) {
    if constexpr (sizeof(Real) == 4 && Isa::has_bits)
      return Isa::floor(value);
    else
      return floor<Real>(value);
  }

  template <class Real>
  static DAVSR_FN Index<Real> integer(const Lanes<Real>& value) {
    return __builtin_convertvector(value, Index<Real>);
  }

  // Held between low and high; what is no number, at low.
  template <class Real>
  static DAVSR_FN Lanes<Real> within(const Lanes<Real>& value, const Lanes<Real>& low, const Lanes<Real>& high) {
    if constexpr (sizeof(Real) == 4 && Isa::has_bits) {
      return Isa::within(value, low, high);
    } else {
      const Lanes<Real> least = value > low ? value : low;
      return least < high ? least : high;
    }
  }

  // Bit l: whether lane l of a comparison holds.
  template <class Real>
  static DAVSR_FN uint32_t bits(const Index<Real>& holds) {
    if constexpr (sizeof(Real) == 4 && Isa::has_bits) {
      return Isa::bits(holds);
    } else {
      typename IntegerOf<Real>::type lane[lanes<Real>];
      __builtin_memcpy(lane, &holds, sizeof lane);
      uint32_t found = 0;
      for (int l = 0; l < lanes<Real>; ++l) found |= (lane[l] ? 1u : 0u) << l;
      return found;
    }
  }

  // Bit l: whether lane l is negative.
  template <class Real>
  static DAVSR_FN uint32_t signs(const Index<Real>& value) {
    if constexpr (sizeof(Real) == 4 && Isa::has_bits)
      return Isa::bits(value);
    else
      return bits<Real>(value < 0);
  }

  // Whether vectors are two packs of N that can be added.
  template <class Real, int N>
  static constexpr bool pairs = Isa::has_pairs && sizeof(Real) == 4 && 2 * N == lanes<Real>;

  // Lane l of the result is lane from[l] of `a` followed by `b`.
  template <class Real>
  static DAVSR_FN Lanes<Real> pick(const Lanes<Real>& a, const Lanes<Real>& b, const Index<Real>& from) {
    return Isa::pick(a, b, from);
  }
  template <class Real>
  static DAVSR_FN Pack<Real, lanes<Real> / 2> add_halves(const Lanes<Real>& value) {
    return Isa::add_halves(value);
  }

  // The four neighbours of places in an image, of every colour. Lanes that lie in one row and close to each other, most
  // often all of them, are picked from two vectors of it.
  template <class Real, int Colours>
  static DAVSR_FN void corners(const Real* image, int64_t plane, int64_t height, int64_t width, const Index<Real>& row,
                               const Index<Real>& column, Corners<Lanes<Real>>* out) {
    using Whole = typename IntegerOf<Real>::type;
    constexpr int wide = lanes<Real>;
    Whole rows[wide], columns[wide];
    __builtin_memcpy(rows, &row, sizeof rows);
    __builtin_memcpy(columns, &column, sizeof columns);
    if (wide < 8 || width < 2 * wide) {
      Real around[Colours][4][wide];
      for (int l = 0; l < wide; ++l) {
        const Real* left = image + rows[l] * width + columns[l];
        const int64_t right = columns[l] + 1 < width ? 1 : 0, low = rows[l] + 1 < height ? width : 0;
        for (int c = 0; c < Colours; ++c, left += plane) {
          around[c][0][l] = left[0];
          around[c][1][l] = left[right];
          around[c][2][l] = left[low];
          around[c][3][l] = left[low + right];
        }
      }
      for (int c = 0; c < Colours; ++c)
        out[c] = {pack<Real, wide>(around[c][0]), pack<Real, wide>(around[c][1]), pack<Real, wide>(around[c][2]),
                  pack<Real, wide>(around[c][3])};
      return;
    }
    const Index<Real> last = Index<Real>{} + static_cast<Whole>(width - 1);
    const Index<Real> next = column < last ? column + 1 : last;
    constexpr uint32_t every = (1u << wide) - 1;
    uint32_t left = every;
    while (true) {
      const int l = __builtin_ctz(left);
      int64_t start = columns[l] - wide / 2 + 1;  // room for lanes that lie before this one
      if (start > width - 2 * wide) start = width - 2 * wide;
      if (start < 0) start = 0;
      const Index<Real> first = column - static_cast<Whole>(start), second = next - static_cast<Whole>(start);
      const Index<Real> inside = (row == rows[l]) & (first >= 0) & (second < 2 * wide);
      const uint32_t found = bits<Real>(inside);
      const Real* top = image + rows[l] * width + start;
      const int64_t low = rows[l] + 1 < height ? width : 0;
      const bool first_found = left == every;
#pragma GCC unroll 3
      for (int c = 0; c < Colours; ++c, top += plane) {
        const Lanes<Real> a = pack<Real, wide>(top), b = pack<Real, wide>(top + wide);
        const Lanes<Real> d = pack<Real, wide>(top + low), e = pack<Real, wide>(top + low + wide);
        const Corners<Lanes<Real>> here{shuffle(a, b, first), shuffle(a, b, second), shuffle(d, e, first), shuffle(d, e, second)};
        if (first_found) {  // what others of the lanes hold is replaced below
          out[c] = here;
        } else {
          out[c].top_left = inside ? here.top_left : out[c].top_left;
          out[c].top_right = inside ? here.top_right : out[c].top_right;
          out[c].low_left = inside ? here.low_left : out[c].low_left;
          out[c].low_right = inside ? here.low_right : out[c].low_right;
        }
      }
      left &= ~found;
      if (!left) return;
    }
  }

  template <class Real>
  static DAVSR_FN Index<Real> cell(const Lanes<Real>& y, const Lanes<Real>& x, int64_t row) {
    return __builtin_convertvector(y, Index<Real>) * static_cast<typename IntegerOf<Real>::type>(row) +
           __builtin_convertvector(x, Index<Real>);
  }

  // value = n ln 2 + r: exp(r) - 1, and 2^n. For -87 <= value <= 88, 2 ulp.
  template <class Real>
  static DAVSR_FN Lanes<Real> reduced_expm1(const Lanes<Real>& value, Lanes<Real>& power) {
    using F = Lanes<Real>;
    const F magic = splat<Real>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const F n = (value * 1.44269504f + magic) - magic;
    const F r = (value - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
    F series = splat<Real>(1.98412698e-4f);                       // Taylor to r^7: 1.5e-8 at r = ln 2 / 2
    series = series * r + 1.38888889e-3f;
    series = series * r + 8.33333333e-3f;
    series = series * r + 4.16666667e-2f;
    series = series * r + 1.66666667e-1f;
    series = series * r + 0.5f;
    series = series * r * r + r;
    const Index<Real> exponent = (__builtin_convertvector(n, Index<Real>) + 127) << 23;
    power = (F)exponent;
    return series;
  }

  // exp(value) - 1, exact at 0.
  template <class Real>
  static DAVSR_FN Lanes<Real> expm1(const Lanes<Real>& value) {
    Lanes<Real> power;
    const Lanes<Real> series = reduced_expm1<Real>(value, power);
    return power * series + (power - 1.0f);
  }

  // For value <= 88: what is smaller than exp(-87) is that, in float32.
  template <class Real>
  static DAVSR_FN Lanes<Real> exp(const Lanes<Real>& value) {
    if constexpr (sizeof(Real) == 8) {
      Lanes<Real> result;
      for (int l = 0; l < lanes<Real>; ++l) result[l] = ::exp(value[l]);
      return result;
    } else {
      const Lanes<Real> least = splat<Real>(-87.0f);
      Lanes<Real> power;
      const Lanes<Real> series = reduced_expm1<Real>(value < least ? least : value, power);
      return power * series + power;
    }
  }

  template <class Real>
  static DAVSR_FN Lanes<Real> tanh(const Lanes<Real>& value) {
    if constexpr (sizeof(Real) == 8) {
      Lanes<Real> result;
      for (int l = 0; l < lanes<Real>; ++l) result[l] = ::tanh(value[l]);
      return result;
    } else {
      const Lanes<Real> limit = splat<Real>(20.0f);  // tanh(10) is 1 in float32; what is not a number stays so
      Lanes<Real> twice = value + value;
      twice = twice > limit ? limit : twice;
      twice = twice < -limit ? -limit : twice;
      const Lanes<Real> grown = expm1<Real>(twice);
      return grown / (grown + 2.0f);
    }
  }

  template <class Real>
  static DAVSR_FN Lanes<Real> sigmoid(const Lanes<Real>& value) {
    if constexpr (sizeof(Real) == 8) {
      Lanes<Real> result;
      for (int l = 0; l < lanes<Real>; ++l) result[l] = 1.0 / (1.0 + ::exp(-value[l]));
      return result;
    } else {
      const Lanes<Real> limit = splat<Real>(87.0f);
      Lanes<Real> opposite = -value;
      opposite = opposite > limit ? limit : opposite;
      opposite = opposite < -limit ? -limit : opposite;
      return 1.0f / (expm1<Real>(opposite) + 2.0f);
    }
  }

  template <class Real, int N, class Stored>
  static DAVSR_FN Pack<Real, N> pack(const Stored* from) {
    Pack<Real, N> value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }

  template <class Real, int N>
  static DAVSR_FN void put(Real* to, Pack<Real, N> value) {
    __builtin_memcpy(to, &value, sizeof value);
  }

  // Each CPU thread owns the planes it adds to: a plain sum, in an order that does not depend on the threads.
  template <class Real, int N>
  static DAVSR_FN void add(Real* to, Pack<Real, N> value) {
    put<Real, N>(to, pack<Real, N>(to) + value);
  }

  template <class Real, int N>
  static DAVSR_FN Real sum(Pack<Real, N> value) {
    if constexpr (N == 1) {
      return value[0];
    } else {
      Pack<Real, N / 2> low, high;
      __builtin_memcpy(&low, &value, sizeof low);
      __builtin_memcpy(&high, reinterpret_cast<const char*>(&value) + sizeof low, sizeof high);
      return sum<Real, N / 2>(low + high);
    }
  }

  template <class Real, int N>
  static DAVSR_FN void add_dots(CornerDots<Real>& dots, Pack<Real, N> top_left, Pack<Real, N> top_right, Pack<Real, N> low_left,
                                Pack<Real, N> low_right) {
    dots.top_left += sum<Real, N>(top_left);
    dots.top_right += sum<Real, N>(top_right);
    dots.low_left += sum<Real, N>(low_left);
    dots.low_right += sum<Real, N>(low_right);
  }
};

}  // namespace davsr
