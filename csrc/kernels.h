// One unit of work each, by its number: what a GPU thread does. Torch-free; `Device` is Cuda or Serial.
#pragma once

#include "one_lane.h"

namespace davsr {

template <class Stored>
struct RealOf {
  using type = float;
};
template <>
struct RealOf<double> {
  using type = double;
};

// Unit = (row of the columns, group, tap), the tap fastest: neighbours read neighbouring channels of channels-last
// tensors and write neighbouring columns.
template <class Device, class Stored, int N>
struct AlignUnit {
  using Real = typename RealOf<Stored>::type;
  AlignShape shape;
  Planes raw, flow_1, flow_2;
  const Stored* padded;  // [batch, groups, height + 3, width + 3, channels]
  int64_t first;         // row (sample and pixel) of the first column

  struct Place {
    int64_t b, pixel, group, column;
    int k;
    Tap<Device, Real> tap;
  };

  DAVSR_FN Place place(int64_t unit) const {
    Place at;
    at.k = static_cast<int>(unit % 9);
    at.group = unit / 9 % shape.groups;
    const int64_t row = first + unit / 9 / shape.groups;
    at.b = row / shape.pixels();
    at.pixel = row % shape.pixels();
    at.column = unit * shape.channels;
    const Planes& flow = at.group < shape.first_groups ? flow_1 : flow_2;
    const Block<Real> block{at.pixel / shape.width, static_cast<Real>(at.pixel % shape.width),
                            Device::template load<Real>(flow, flow.at(at.b, 1, at.pixel)),
                            Device::template load<Real>(flow, flow.at(at.b, 0, at.pixel))};
    const int64_t offset = raw.at(at.b, 18 * at.group + 2 * at.k, at.pixel);
    const int64_t logit = raw.at(at.b, 18 * shape.groups + 9 * at.group + at.k, at.pixel);
    at.tap =
        align_tap<Device, Real>(shape, block, at.k, Device::template load<Real>(raw, offset),
                                Device::template load<Real>(raw, offset + raw.channel), Device::template load<Real>(raw, logit));
    return at;
  }

  DAVSR_FN int64_t cell(const Place& at) const {
    return (at.b * shape.groups + at.group) * shape.padded_plane() + at.tap.corner * shape.channels;
  }
};

template <class Device, class Stored, int N>
struct AlignSample {
  using Real = typename RealOf<Stored>::type;
  AlignUnit<Device, Stored, N> at;
  Stored* columns;

  DAVSR_FN void operator()(int64_t unit) const {
    const auto place = at.place(unit);
    CornerWeights<Real> weight = corner_weights<Real>(place.tap.down, place.tap.right);
    weight.top_left *= place.tap.mask;
    weight.top_right *= place.tap.mask;
    weight.low_left *= place.tap.mask;
    weight.low_right *= place.tap.mask;
    sample<Device, Real, Stored, N>(at.padded + at.cell(place), at.shape.channels, at.shape.padded_row(), weight,
                                    columns + place.column);
  }
};

template <class Device, class Stored, int N>
struct AlignGradient {
  using Real = typename RealOf<Stored>::type;
  AlignUnit<Device, Stored, N> at;
  Planes d_raw;
  const Stored* d_columns;
  Stored* columns;
  Real* d_padded;  // as padded
  Real* d_flow;    // [batch, groups, 2, pixels], (dx, dy)

  DAVSR_FN void operator()(int64_t unit) const {
    const auto place = at.place(unit);
    const Tap<Device, Real>& tap = place.tap;
    const AlignShape& shape = at.shape;
    const int64_t cell = at.cell(place);
    const CornerDots<Real> dot = sample_backward<Device, Real, Stored, N>(
        at.padded + cell, d_padded + cell, shape.channels, shape.padded_row(), corner_weights<Real>(tap.down, tap.right),
        tap.mask, d_columns + place.column, columns + place.column);
    const TapGradient<Real> d =
        tap_gradient<Real>(dot, tap.down, tap.right, tap.mask, tap.tanh_y, tap.tanh_x, static_cast<Real>(shape.max_residue));
    const int64_t offset = d_raw.at(place.b, 18 * place.group + 2 * place.k, place.pixel);
    Device::template store<Real>(d_raw, offset, d.offset_y);
    Device::template store<Real>(d_raw, offset + d_raw.channel, d.offset_x);
    Device::template store<Real>(d_raw, d_raw.at(place.b, 18 * shape.groups + 9 * place.group + place.k, place.pixel), d.logit);
    Real* flow = d_flow + (place.b * shape.groups + place.group) * 2 * shape.pixels() + place.pixel;
    Device::add_one(flow, d.x);
    Device::add_one(flow + shape.pixels(), d.y);
  }
};

// Unit = (sample and channel, LR row, HR column).
template <class Device, class Real>
struct DivisionRows {
  DivisionShape shape;
  const Complex<Real>*otf, *x;
  Complex<Real>* rows;  // [b, c, t, h, W/2+1]

  DAVSR_FN void operator()(int64_t unit) const {
    const int64_t q = unit % shape.hr_columns(), r = unit / shape.hr_columns() % shape.h;
    const int64_t p = unit / shape.hr_columns() / shape.h % shape.t;
    const int64_t image = unit / shape.hr_columns() / shape.h / shape.t;
    rows[unit] = fold_rows<Device, Real>(shape, DivisionRow{p, r}, otf, x + image * shape.hr_size(), q);
  }
};

// Unit = one LR bin of one sample and channel.
template <class Device, class Real>
struct DivisionQuotient {
  DivisionShape shape;
  const Complex<Real>*rows, *base;  // base: null in the adjoint
  const Real *gram, *alpha;
  Complex<Real>* quotient;

  DAVSR_FN void operator()(int64_t unit) const {
    const int64_t bin = unit % shape.lr_size(), image = unit / shape.lr_size();
    const int64_t k = bin % shape.lr_columns(), line = bin / shape.lr_columns();
    const DivisionRow row{line / shape.h, line % shape.h};
    const Complex<Real>* sums = rows + image * shape.t * shape.h * shape.hr_columns();
    const Complex<Real> fold = fold_width<Real>(shape, sums + line * shape.hr_columns(),
                                                sums + row.mirror(shape).index(shape) * shape.hr_columns(), k, !base);
    const Complex<Real> zero{0, 0};
    quotient[unit] = divide<Real>(shape, base ? base[unit] : zero, fold, gram[bin], alpha[image / shape.channels], !base);
  }
};

// The LR row and the alias (i, j) that one HR bin belongs to.
struct DivisionBin {
  int64_t i, j, q;
  DivisionRow row;

  static DAVSR_FN DivisionBin of(const DivisionShape& shape, int64_t bin) {
    const int64_t line = bin / shape.hr_columns(), height = shape.s_h * shape.h;
    const int64_t frame = line / height, y = line % height;
    return {frame / shape.t, y / shape.h, bin % shape.hr_columns(), {frame % shape.t, y % shape.h}};
  }

  template <class Real>
  DAVSR_FN Complex<Real> spread(const DivisionShape& shape, const Complex<Real>* quotient, bool transposed) const {
    return spread_width<Real>(shape, quotient + row.index(shape) * shape.lr_columns(),
                              quotient + row.mirror(shape).index(shape) * shape.lr_columns(), q, transposed);
  }
};

// Unit = one HR bin of one sample and channel.
template <class Device, class Real>
struct DivisionUnfold {
  DivisionShape shape;
  const Complex<Real>*otf, *x, *quotient;
  Complex<Real>* out;
  bool transposed;

  DAVSR_FN void operator()(int64_t unit) const {
    const int64_t image = unit / shape.hr_size();
    const DivisionBin bin = DivisionBin::of(shape, unit % shape.hr_size());
    unfold<Device, Real>(shape, bin.row, bin.i, bin.j, bin.q, otf, x + image * shape.hr_size(),
                         bin.spread<Real>(shape, quotient + image * shape.lr_size(), transposed), out + image * shape.hr_size());
  }
};

// Unit = one HR bin, over all samples and channels in order.
template <class Device, class Real>
struct DivisionOtf {
  DivisionShape shape;
  const Complex<Real>*x, *d_z, *quotient, *d_quotient;
  Complex<Real>* d_otf;

  DAVSR_FN void operator()(int64_t unit) const {
    const DivisionBin bin = DivisionBin::of(shape, unit);
    Complex<Real> sum{0, 0};
    for (int64_t image = 0; image < shape.batch * shape.channels; ++image) {
      const int64_t lr = image * shape.lr_size(), hr = image * shape.hr_size() + unit;
      const Complex<Real> term = otf_gradient<Real>(d_z[hr], bin.spread<Real>(shape, quotient + lr, false), x[hr],
                                                    bin.spread<Real>(shape, d_quotient + lr, true));
      sum.re += term.re;
      sum.im += term.im;
    }
    d_otf[unit] = sum;
  }
};

}  // namespace davsr
