// The arithmetic of fourier_division, once for every device:
//
//     Z = X + conj(B) unfold( (Y - fold(B X)) / (fold(|B|^2) + alpha) )          on half spectra, columns 0 .. W/2
//
// and its adjoint, which is the same chain with fold replaced by the transpose of unfold and unfold by the transpose of
// fold (`transposed`). They differ from each other only in the columns that are their own mirror image: a full spectrum
// meets such a column and its mirror, a half spectrum stores one of them.
#pragma once

#include "portable.h"

namespace davsr {

template <class Real>
struct Complex {
  Real re, im;
};

template <class Real>
static DAVSR_FN Complex<Real> conj(Complex<Real> v) {
  return {v.re, -v.im};
}

struct DivisionRow {
  int64_t p, r;  // LR frequency along t and h

  DAVSR_FN DivisionRow mirror(const DivisionShape& shape) const { return {p ? shape.t - p : 0, r ? shape.h - r : 0}; }
  DAVSR_FN int64_t index(const DivisionShape& shape) const { return p * shape.h + r; }
};

// Bins of HR row (i, j) that alias to LR row `row`, counted from the start of a half spectrum.
static DAVSR_FN int64_t hr_row(const DivisionShape& shape, DivisionRow row, int64_t i, int64_t j) {
  return ((i * shape.t + row.p) * (shape.s_h * shape.h) + j * shape.h + row.r) * shape.hr_columns();
}

// sum over (i, j) of B X at HR columns [q, q + lanes).
template <class Device, class Real>
static DAVSR_FN typename Device::template Bins<Real> fold_rows(const DivisionShape& shape, DivisionRow row,
                                                               const Complex<Real>* otf, const Complex<Real>* x, int64_t q) {
  typename Device::template Bins<Real> sum{};
  for (int64_t i = 0; i < shape.s_t; ++i)
    for (int64_t j = 0; j < shape.s_h; ++j) {
      const int64_t at = hr_row(shape, row, i, j) + q;
      sum = Device::template multiply_add<Real>(sum, Device::template bins<Real>(otf + at), Device::template bins<Real>(x + at));
    }
  return sum;
}

// The rows' sums folded along the width to LR column k; `rows` is this row's sums, `mirror` those of the mirrored row.
template <class Real>
static DAVSR_FN Complex<Real> fold_width(const DivisionShape& shape, const Complex<Real>* rows, const Complex<Real>* mirror,
                                         int64_t k, bool transposed) {
  const int64_t width = shape.hr_width();
  const bool own_mirror = k == 0 || 2 * k == shape.w;
  Complex<Real> sum{0, 0};
  for (int64_t q = k; q < width; q += shape.w) {
    if (q <= width / 2) {
      sum.re += rows[q].re;
      sum.im += rows[q].im;
    } else if (!(transposed && own_mirror)) {
      sum.re += mirror[width - q].re;
      sum.im -= mirror[width - q].im;
    }
  }
  return sum;
}

// (base - fold) / (gram + alpha); the adjoint has no base and the opposite sign, and its mean is taken by spread_width.
template <class Real>
static DAVSR_FN Complex<Real> divide(const DivisionShape& shape, Complex<Real> base, Complex<Real> fold, Real gram, Real alpha,
                                     bool transposed) {
  const Real mean = transposed ? Real(-1) : Real(1) / static_cast<Real>(shape.s_t * shape.s_h * shape.s_w);
  const Real inverse = Real(1) / (gram + alpha);
  return {(base.re - mean * fold.re) * inverse, (base.im - mean * fold.im) * inverse};
}

// LR rows tiled along the width to HR column q.
template <class Real>
static DAVSR_FN Complex<Real> spread_width(const DivisionShape& shape, const Complex<Real>* rows, const Complex<Real>* mirror,
                                           int64_t q, bool transposed) {
  const int64_t k = q % shape.w, width = shape.hr_width();
  Complex<Real> value = 2 * k <= shape.w ? rows[k] : conj(mirror[shape.w - k]);
  if (!transposed) return value;
  if ((k == 0 || 2 * k == shape.w) && q > 0 && width - q > width / 2) {
    value.re += mirror[k].re;
    value.im -= mirror[k].im;
  }
  const Real mean = Real(-1) / static_cast<Real>(shape.s_t * shape.s_h * shape.s_w);
  return {value.re * mean, value.im * mean};
}

// Z = X + conj(B) spread at HR row (i, j), columns [q, q + lanes).
template <class Device, class Real>
static DAVSR_FN void unfold(const DivisionShape& shape, DivisionRow row, int64_t i, int64_t j, int64_t q,
                            const Complex<Real>* otf, const Complex<Real>* x, typename Device::template Bins<Real> spread,
                            Complex<Real>* out) {
  const int64_t at = hr_row(shape, row, i, j) + q;
  Device::template put_bins<Real>(out + at,
                                  Device::template multiply_conj_add<Real>(Device::template bins<Real>(x + at),
                                                                           Device::template bins<Real>(otf + at), spread));
}

// d B = conj(d Z) spread(quotient) + conj(X) spread_transposed(d quotient), one HR bin of one sample and channel.
template <class Real>
static DAVSR_FN Complex<Real> otf_gradient(Complex<Real> d_z, Complex<Real> spread, Complex<Real> x, Complex<Real> d_fold) {
  return {d_z.re * spread.re + d_z.im * spread.im + x.re * d_fold.re + x.im * d_fold.im,
          d_z.re * spread.im - d_z.im * spread.re + x.re * d_fold.im - x.im * d_fold.re};
}

}  // namespace davsr
