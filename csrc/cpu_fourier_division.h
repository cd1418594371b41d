// The loops around fourier_division.h on a CPU. An LR row and its mirror image need each other and nothing else: a pair
// of them reads the HR rows that alias to it once, divides, and writes them while they are still in the cache.
#pragma once

#include "cpu_deform_align.h"
#include "fourier_division.h"

namespace davsr {

template <class Isa>
struct CpuBins : Cpu<Isa> {
  template <class Real>
  using Bins = typename Cpu<Isa>::template Lanes<Real>;  // real pairs
  template <class Real>
  static constexpr int bins_wide = Cpu<Isa>::template lanes<Real> / 2;

  template <class Real>
  static DAVSR_FN Bins<Real> bins(const Complex<Real>* from) {
    Bins<Real> value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }

  template <class Real>
  static DAVSR_FN void put_bins(Complex<Real>* to, Bins<Real> value) {
    __builtin_memcpy(to, &value, sizeof value);
  }

  template <class Real>
  struct Shuffles {
    using Index = typename Cpu<Isa>::template Index<Real>;
    Index re, im, swapped;
    Bins<Real> sign;  // -1, 1, -1, 1, ...
    DAVSR_FN Shuffles() {
      for (int l = 0; l < Cpu<Isa>::template lanes<Real>; ++l) {
        re[l] = l & ~1;
        im[l] = l | 1;
        swapped[l] = l ^ 1;
        sign[l] = l & 1 ? Real(1) : Real(-1);
      }
    }
  };

  template <class Real>
  static DAVSR_FN Bins<Real> multiply_add(Bins<Real> sum, Bins<Real> a, Bins<Real> b) {
    const Shuffles<Real> s;
    return sum + shuffle(a, s.re) * b + shuffle(a, s.im) * s.sign * shuffle(b, s.swapped);
  }

  template <class Real>
  static DAVSR_FN Bins<Real> multiply_conj_add(Bins<Real> sum, Bins<Real> a, Bins<Real> b) {
    const Shuffles<Real> s;
    return sum + shuffle(a, s.re) * b - shuffle(a, s.im) * s.sign * shuffle(b, s.swapped);
  }
};

// The same calls, one bin at a time: the ends of rows.
template <class Isa>
struct CpuBin {
  template <class Real>
  using Bins = Complex<Real>;
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

// One LR row of every pair of mirror images: rows 0 .. h/2 of the planes that are their own mirror, all rows of every
// other plane of which the mirror comes later. As a plain count, so that threads get equal shares.
template <class Isa>
struct LeadingRows {
  const DivisionShape& shape;

  DAVSR_FN int64_t half() const { return shape.h / 2 + 1; }
  DAVSR_FN int64_t whole() const { return (shape.t - 1) / 2 * shape.h; }
  DAVSR_FN int64_t count() const { return half() + whole() + (shape.t % 2 == 0 ? half() : 0); }
  DAVSR_FN DivisionRow at(int64_t unit) const {
    if (unit < half()) return {0, unit};
    unit -= half();
    if (unit < whole()) return {1 + unit / shape.h, unit % shape.h};
    return {shape.t / 2, unit - whole()};
  }
};

template <class Isa, class Real>
static void division(const Division& op, const Parallel& threads) {
  using Wide = CpuBins<Isa>;
  using Single = CpuBin<Isa>;
  constexpr int wide = Wide::template bins_wide<Real>;
  const DivisionShape& shape = op.shape;
  const int64_t columns = shape.hr_columns(), lr_columns = shape.lr_columns();
  const auto* otf = static_cast<const Complex<Real>*>(op.otf);
  const auto* gram = static_cast<const Real*>(op.gram);
  const LeadingRows<Isa> leading{shape};
  parallel<Isa>(threads, leading.count(), [&](int64_t begin, int64_t end) {
    Scratch<Isa, Complex<Real>> scratch(threads, 2 * columns);
    for (int64_t unit = begin; unit < end; ++unit) {
      const DivisionRow row = leading.at(unit);
      const DivisionRow pair[2] = {row, row.mirror(shape)};
      const int count = pair[0].index(shape) == pair[1].index(shape) ? 1 : 2;
      Complex<Real>* sums[2] = {scratch.data, scratch.data + (count - 1) * columns};
      for (int64_t i = 0; i < shape.batch * shape.channels; ++i) {
        const auto* x = static_cast<const Complex<Real>*>(op.x) + i * shape.hr_size();
        const auto* base = op.base ? static_cast<const Complex<Real>*>(op.base) + i * shape.lr_size() : nullptr;
        auto* quotient = static_cast<Complex<Real>*>(op.quotient) + i * shape.lr_size();
        auto* out = static_cast<Complex<Real>*>(op.out) + i * shape.hr_size();
        const Real alpha = static_cast<const Real*>(op.alpha)[i / shape.channels];
        for (int m = 0; m < count; ++m) {
          int64_t q = 0;
          for (; q + wide <= columns; q += wide)
            Wide::template put_bins<Real>(sums[m] + q, fold_rows<Wide, Real>(shape, pair[m], otf, x, q));
          for (; q < columns; ++q) sums[m][q] = fold_rows<Single, Real>(shape, pair[m], otf, x, q);
        }
        Complex<Real>* quotients[2];
        for (int m = 0; m < 2; ++m) quotients[m] = quotient + pair[m].index(shape) * lr_columns;
        for (int m = 0; m < count; ++m)
          for (int64_t k = 0; k < lr_columns; ++k) {
            const int64_t at = pair[m].index(shape) * lr_columns + k;
            const Complex<Real> sum = fold_width<Real>(shape, sums[m], sums[1 - m], k, op.transposed);
            quotients[m][k] = divide<Real>(shape, base ? base[at] : Complex<Real>{0, 0}, sum, gram[at], alpha, op.transposed);
          }
        for (int m = 0; m < count; ++m) {
          Complex<Real>* spread = sums[0];
          for (int64_t q = 0; q < columns; ++q)
            spread[q] = spread_width<Real>(shape, quotients[m], quotients[1 - m], q, op.transposed);
          for (int64_t s = 0; s < shape.s_t; ++s)
            for (int64_t j = 0; j < shape.s_h; ++j) {
              int64_t q = 0;
              for (; q + wide <= columns; q += wide)
                unfold<Wide, Real>(shape, pair[m], s, j, q, otf, x, Wide::template bins<Real>(spread + q), out);
              for (; q < columns; ++q) unfold<Single, Real>(shape, pair[m], s, j, q, otf, x, spread[q], out);
            }
        }
      }
    }
  });
}

template <class Isa, class Real>
static void division_otf_gradient(const DivisionOtfGradient& op, const Parallel& threads) {
  const DivisionShape& shape = op.shape;
  parallel<Isa>(threads, shape.t * shape.h, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const DivisionRow row{unit / shape.h, unit % shape.h};
      const int64_t at = row.index(shape) * shape.lr_columns(), mirror = row.mirror(shape).index(shape) * shape.lr_columns();
      for (int64_t s = 0; s < shape.s_t; ++s)
        for (int64_t j = 0; j < shape.s_h; ++j)
          for (int64_t q = 0; q < shape.hr_columns(); ++q) {
            const int64_t bin = hr_row(shape, row, s, j) + q;
            Complex<Real> sum{0, 0};
            for (int64_t i = 0; i < shape.batch * shape.channels; ++i) {
              const auto* quotient = static_cast<const Complex<Real>*>(op.quotient) + i * shape.lr_size();
              const auto* d_quotient = static_cast<const Complex<Real>*>(op.d_quotient) + i * shape.lr_size();
              const Complex<Real> term =
                  otf_gradient<Real>(static_cast<const Complex<Real>*>(op.d_z)[i * shape.hr_size() + bin],
                                     spread_width<Real>(shape, quotient + at, quotient + mirror, q, false),
                                     static_cast<const Complex<Real>*>(op.x)[i * shape.hr_size() + bin],
                                     spread_width<Real>(shape, d_quotient + at, d_quotient + mirror, q, true));
              sum.re += term.re;
              sum.im += term.im;
            }
            static_cast<Complex<Real>*>(op.d_otf)[bin] = sum;
          }
    }
  });
}

}  // namespace davsr
