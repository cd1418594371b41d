// Devices that treat one pixel or one frequency per unit of work: a GPU, and `Serial`, the same code on the CPU.
#pragma once

#include <cmath>

#include "deform_align.h"
#include "fourier_division.h"
#include "motion_average.h"

namespace davsr {

template <class Real, int N>
struct Channels {
  Real value[N];
};
template <class Real, int N>
static DAVSR_FN Channels<Real, N> operator+(const Channels<Real, N>& a, const Channels<Real, N>& b) {
  Channels<Real, N> sum;
  DAVSR_UNROLL
  for (int c = 0; c < N; ++c) sum.value[c] = a.value[c] + b.value[c];
  return sum;
}
template <class Real, int N>
static DAVSR_FN Channels<Real, N> operator*(const Channels<Real, N>& a, const Channels<Real, N>& b) {
  Channels<Real, N> product;
  DAVSR_UNROLL
  for (int c = 0; c < N; ++c) product.value[c] = a.value[c] * b.value[c];
  return product;
}
template <class Real, int N>
static DAVSR_FN Channels<Real, N> operator*(const Channels<Real, N>& a, Real factor) {
  Channels<Real, N> product;
  DAVSR_UNROLL
  for (int c = 0; c < N; ++c) product.value[c] = a.value[c] * factor;
  return product;
}

// `Self` adds to memory that other units may add to as well.
template <class Self>
struct OneLane {
  template <class Real>
  using Lanes = Real;
  template <class Real>
  using Index = int32_t;
  template <class Real>
  using Bins = Complex<Real>;

  template <class Real>
  static DAVSR_FN Real splat(Real value) {
    return value;
  }
  template <class Real>
  static DAVSR_FN Real load(const Planes& planes, int64_t at) {
    switch (planes.kind) {
      case Kind::float32:
        return static_cast<Real>(static_cast<const float*>(planes.data)[at]);
      case Kind::float64:
        return static_cast<Real>(static_cast<const double*>(planes.data)[at]);
      case Kind::float16:
        return static_cast<Real>(widen(static_cast<const Half*>(planes.data)[at]));
      default:
        return static_cast<Real>(widen(static_cast<const BFloat16*>(planes.data)[at]));
    }
  }
  template <class Real>
  static DAVSR_FN void store(const Planes& planes, int64_t at, Real value) {
    switch (planes.kind) {
      case Kind::float32:
        static_cast<float*>(planes.data)[at] = static_cast<float>(value);
        return;
      case Kind::float64:
        static_cast<double*>(planes.data)[at] = static_cast<double>(value);
        return;
      case Kind::float16:
        static_cast<Half*>(planes.data)[at] = narrow<Half>(value);
        return;
      default:
        static_cast<BFloat16*>(planes.data)[at] = narrow<BFloat16>(value);
    }
  }

  template <class Real>
  static DAVSR_FN float floor(float value) {
    return ::floorf(value);
  }
  template <class Real>
  static DAVSR_FN double floor(double value) {
    return ::floor(value);
  }
  template <class Real>
  static DAVSR_FN Real round_down(Real value) {
    return Self::template floor<Real>(value);
  }
  template <class Real>
  static DAVSR_FN float root(float value) {
    return ::sqrtf(value);
  }
  template <class Real>
  static DAVSR_FN double root(double value) {
    return ::sqrt(value);
  }
  template <class Real>
  static DAVSR_FN float tanh(float value) {
    return ::tanhf(value);
  }
  template <class Real>
  static DAVSR_FN double tanh(double value) {
    return ::tanh(value);
  }
  template <class Real>
  static DAVSR_FN float sigmoid(float value) {
    return 1.0f / (1.0f + ::expf(-value));
  }
  template <class Real>
  static DAVSR_FN double sigmoid(double value) {
    return 1.0 / (1.0 + ::exp(-value));
  }
  template <class Real>
  static DAVSR_FN int32_t integer(Real value) {
    return static_cast<int32_t>(value);
  }
  template <class Real, int Colours>
  static DAVSR_FN void corners(const Real* image, int64_t plane, int64_t height, int64_t width, int32_t row, int32_t column,
                               Corners<Real>* out) {
    const Real* left = image + row * width + column;
    const int64_t right = column + 1 < width ? 1 : 0, low = row + 1 < height ? width : 0;
    DAVSR_UNROLL
    for (int c = 0; c < Colours; ++c, left += plane) out[c] = {left[0], left[right], left[low], left[low + right]};
  }
  template <class Real>
  static DAVSR_FN int32_t cell(Real y, Real x, int64_t row) {
    return static_cast<int32_t>(y) * static_cast<int32_t>(row) + static_cast<int32_t>(x);
  }

  // Packs of 16 bytes move in one transaction: N is 16 / sizeof(Stored) wherever the channels of a group allow it.
  template <class Real, int N, class Stored>
  static DAVSR_FN Channels<Real, N> pack(const Stored* from) {
    alignas(N * sizeof(Stored)) Stored stored[N];
    Self::template copy<N * sizeof(Stored)>(stored, from);
    Channels<Real, N> value;
    DAVSR_UNROLL
    for (int c = 0; c < N; ++c) value.value[c] = static_cast<Real>(widen(stored[c]));
    return value;
  }
  template <class Real, int N, class Stored>
  static DAVSR_FN void put(Stored* to, const Channels<Real, N>& value) {
    alignas(N * sizeof(Stored)) Stored stored[N];
    DAVSR_UNROLL
    for (int c = 0; c < N; ++c) stored[c] = narrow<Stored>(value.value[c]);
    Self::template copy<N * sizeof(Stored)>(to, stored);
  }
  template <class Real, int N>
  static DAVSR_FN void add(Real* to, const Channels<Real, N>& value) {
    DAVSR_UNROLL
    for (int c = 0; c < N; ++c) Self::add_one(to + c, value.value[c]);
  }
  template <class Real, int N>
  static DAVSR_FN void add_dots(CornerDots<Real>& dots, const Channels<Real, N>& top_left, const Channels<Real, N>& top_right,
                                const Channels<Real, N>& low_left, const Channels<Real, N>& low_right) {
    DAVSR_UNROLL
    for (int c = 0; c < N; ++c) {
      dots.top_left += top_left.value[c];
      dots.top_right += top_right.value[c];
      dots.low_left += low_left.value[c];
      dots.low_right += low_right.value[c];
    }
  }

  template <class Real>
  static DAVSR_FN Complex<Real> bins(const Complex<Real>* from) {
    return *from;
  }
  template <class Real>
  static DAVSR_FN void put_bins(Complex<Real>* to, Complex<Real> value) {
    *to = value;
  }
  template <class Real>
  static DAVSR_FN Complex<Real> multiply_add(Complex<Real> sum, Complex<Real> a, Complex<Real> b) {
    return {sum.re + a.re * b.re - a.im * b.im, sum.im + a.re * b.im + a.im * b.re};
  }
  template <class Real>
  static DAVSR_FN Complex<Real> multiply_conj_add(Complex<Real> sum, Complex<Real> a, Complex<Real> b) {
    return {sum.re + a.re * b.re + a.im * b.im, sum.im + a.re * b.im - a.im * b.re};
  }
};

}  // namespace davsr
