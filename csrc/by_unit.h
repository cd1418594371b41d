// The operators over units of kernels.h, for any device that offers launch(count, unit). Products go through at::.
#pragma once

#include <algorithm>

#include "host.h"
#include "kernels.h"

namespace davsr {

// Columns of at most this many bytes exist at a time.
constexpr int64_t kColumnBytes = int64_t{1} << 28;

// Calls run(Stored{}, std::integral_constant<int, N>{}) for the features' type; N channels fill 16 bytes where they
// can.
template <class Run>
void with_features(at::ScalarType type, int64_t channels, const Run& run) {
  const auto packed = [&](auto stored) {
    constexpr int n = 16 / static_cast<int>(sizeof stored);
    if (channels % n == 0) return run(stored, std::integral_constant<int, n>{});
    return run(stored, std::integral_constant<int, 1>{});
  };
  switch (type) {
    case at::kFloat:
      return packed(float{});
    case at::kDouble:
      return packed(double{});
    case at::kHalf:
      return packed(Half{});
    default:
      return packed(BFloat16{});
  }
}

struct ColumnTensors {
  at::Tensor padded, raw, flow_1, flow_2, matrix, columns;
  int64_t chunk;
};

inline ColumnTensors column_tensors(const AlignShape& shape, const at::Tensor& features, const at::Tensor& raw,
                                    const at::Tensor& flow_1, const std::optional<at::Tensor>& flow_2, const at::Tensor& weight) {
  ColumnTensors in;
  in.padded = at::zeros({shape.batch, shape.groups, shape.height + 3, shape.width + 3, shape.channels}, features.options());
  in.padded.narrow(2, 1, shape.height)
      .narrow(3, 1, shape.width)
      .copy_(features.reshape({shape.batch, shape.groups, shape.channels, shape.height, shape.width}).permute({0, 1, 3, 4, 2}));
  in.raw = raw.contiguous(at::MemoryFormat::ChannelsLast);
  in.flow_1 = flow_1.contiguous();
  in.flow_2 = flow_2 ? flow_2->contiguous() : in.flow_1;
  in.matrix = by_column(weight, shape).reshape({-1, shape.c_out}).to(features.scalar_type()).contiguous();
  const int64_t row_bytes = shape.columns() * features.element_size();
  in.chunk = std::max<int64_t>(1, std::min(shape.batch * shape.pixels(), kColumnBytes / row_bytes));
  in.columns = at::empty({in.chunk, shape.columns()}, features.options());
  return in;
}

template <class Device, class Stored, int N>
AlignUnit<Device, Stored, N> align_unit(const AlignShape& shape, ColumnTensors& in, int64_t first) {
  return {shape, planes(in.raw), planes(in.flow_1), planes(in.flow_2), static_cast<const Stored*>(in.padded.data_ptr()), first};
}

template <class Device>
at::Tensor deform_align_by_columns(const AlignShape& shape, const at::Tensor& features, const at::Tensor& raw,
                                   const at::Tensor& flow_1, const std::optional<at::Tensor>& flow_2, const at::Tensor& weight,
                                   const at::Tensor& bias) {
  const int64_t rows = shape.batch * shape.pixels();
  at::Tensor out = at::empty({rows, shape.c_out}, features.options());
  if (rows > 0) {
    ColumnTensors in = column_tensors(shape, features, raw, flow_1, flow_2, weight);
    for (int64_t first = 0; first < rows; first += in.chunk) {
      const int64_t count = std::min(in.chunk, rows - first);
      with_features(features.scalar_type(), shape.channels, [&](auto stored, auto n) {
        using Stored = decltype(stored);
        Device::launch(count * shape.groups * 9, AlignSample<Device, Stored, n>{align_unit<Device, Stored, n>(shape, in, first),
                                                                                static_cast<Stored*>(in.columns.data_ptr())});
      });
      at::Tensor part = out.narrow(0, first, count);
      at::addmm_out(part, bias.to(features.scalar_type()), in.columns.narrow(0, 0, count), in.matrix);
    }
  }
  return out.reshape({shape.batch, shape.height, shape.width, shape.c_out}).permute({0, 3, 1, 2}).contiguous(layout(features));
}

template <class Device>
AlignGradients deform_align_backward_by_columns(const AlignShape& shape, const at::Tensor& grad, const at::Tensor& features,
                                                const at::Tensor& raw, const at::Tensor& flow_1,
                                                const std::optional<at::Tensor>& flow_2, const at::Tensor& weight) {
  const int64_t rows = shape.batch * shape.pixels();
  const auto options = features.options().dtype(compute_type(features));
  const at::Tensor d_out = grad.permute({0, 2, 3, 1}).reshape({rows, shape.c_out}).to(features.scalar_type());
  const at::Tensor d_padded = at::zeros({shape.batch, shape.groups, shape.height + 3, shape.width + 3, shape.channels}, options);
  const at::Tensor d_flow = at::zeros({shape.batch, shape.groups, 2, shape.pixels()}, options);
  const at::Tensor d_weight = at::zeros({shape.columns(), shape.c_out}, options);
  at::Tensor d_raw = at::empty(raw.sizes(), raw.options(), at::MemoryFormat::ChannelsLast);
  if (rows > 0) {
    ColumnTensors in = column_tensors(shape, features, raw, flow_1, flow_2, weight);
    at::Tensor d_columns = at::empty_like(in.columns);
    for (int64_t first = 0; first < rows; first += in.chunk) {
      const int64_t count = std::min(in.chunk, rows - first);
      at::Tensor d_part = d_columns.narrow(0, 0, count);
      const at::Tensor d_rows = d_out.narrow(0, first, count);
      at::mm_out(d_part, d_rows, in.matrix.t());
      with_features(features.scalar_type(), shape.channels, [&](auto stored, auto n) {
        using Stored = decltype(stored);
        using Real = typename RealOf<Stored>::type;
        Device::launch(count * shape.groups * 9,
                       AlignGradient<Device, Stored, n>{
                           align_unit<Device, Stored, n>(shape, in, first), planes(d_raw),
                           static_cast<const Stored*>(d_columns.data_ptr()), static_cast<Stored*>(in.columns.data_ptr()),
                           static_cast<Real*>(d_padded.data_ptr()), static_cast<Real*>(d_flow.data_ptr())});
      });
      d_weight.add_(at::mm(in.columns.narrow(0, 0, count).t(), d_rows));
    }
  }
  const at::Tensor d_features = d_padded.narrow(2, 1, shape.height)
                                    .narrow(3, 1, shape.width)
                                    .permute({0, 1, 4, 2, 3})
                                    .reshape(features.sizes())
                                    .to(features.scalar_type())
                                    .contiguous(layout(features));
  const int64_t rest = shape.groups - shape.first_groups;
  return {d_features,
          d_raw.contiguous(layout(raw)),
          flow_gradient(d_flow, shape, 0, shape.first_groups).to(flow_1.scalar_type()),
          flow_2 ? flow_gradient(d_flow, shape, shape.first_groups, rest).to(flow_2->scalar_type())
                 : at::empty({0}, flow_1.options()),
          from_columns(d_weight, shape).to(weight.scalar_type()),
          grad.sum(at::IntArrayRef({0, 2, 3}), false, compute_type(features)).to(weight.scalar_type())};
}

template <class Device, class Real>
void divide_by_bins(const DivisionShape& shape, const DivisionTensors& in, bool transposed, at::Tensor& quotient,
                    at::Tensor& out) {
  const auto complex = [](const at::Tensor& tensor) { return static_cast<Complex<Real>*>(tensor.data_ptr()); };
  const int64_t images = shape.batch * shape.channels, count = images * shape.t * shape.h * shape.hr_columns();
  const at::Tensor rows = at::empty({count, 2}, in.x.options());
  const auto* gram = static_cast<const Real*>(in.gram.data_ptr());
  const auto* alpha = static_cast<const Real*>(in.alpha.data_ptr());
  Device::launch(count, DivisionRows<Device, Real>{shape, complex(in.otf), complex(in.x), complex(rows)});
  Device::launch(
      images * shape.lr_size(),
      DivisionQuotient<Device, Real>{shape, complex(rows), transposed ? nullptr : complex(in.y), gram, alpha, complex(quotient)});
  Device::launch(images * shape.hr_size(), DivisionUnfold<Device, Real>{shape, complex(in.otf), complex(in.x), complex(quotient),
                                                                        complex(out), transposed});
}

template <class Device>
std::tuple<at::Tensor, at::Tensor> fourier_division_by_bins(const DivisionShape& shape, const at::Tensor& x, const at::Tensor& y,
                                                            const at::Tensor& otf, const at::Tensor& gram,
                                                            const at::Tensor& alpha) {
  const DivisionTensors in = division_tensors(shape, x, y, otf, gram, alpha);
  at::Tensor quotient = at::empty_like(in.y), out = at::empty_like(in.x);
  if (in.x.scalar_type() == at::kDouble)
    divide_by_bins<Device, double>(shape, in, false, quotient, out);
  else
    divide_by_bins<Device, float>(shape, in, false, quotient, out);
  return {out, quotient};
}

template <class Device, class Real>
at::Tensor otf_gradient_by_bins(const DivisionShape& shape, const DivisionTensors& in, const at::Tensor& x,
                                const at::Tensor& d_quotient) {
  const auto complex = [](const at::Tensor& tensor) { return static_cast<Complex<Real>*>(tensor.data_ptr()); };
  const at::Tensor d_otf = at::empty_like(in.otf);
  Device::launch(shape.hr_size(),
                 DivisionOtf<Device, Real>{shape, complex(x), complex(in.x), complex(in.y), complex(d_quotient), complex(d_otf)});
  return d_otf;
}

template <class Device>
DivisionGradients fourier_division_backward_by_bins(const DivisionShape& shape, const at::Tensor& grad, const at::Tensor& x,
                                                    const at::Tensor& otf, const at::Tensor& gram, const at::Tensor& alpha,
                                                    const at::Tensor& quotient, bool otf_gradient) {
  const DivisionTensors in = division_tensors(shape, grad, quotient, otf, gram, alpha);
  at::Tensor d_quotient = at::empty_like(in.y), d_x = at::empty_like(in.x);
  at::Tensor d_otf = at::empty({0}, in.otf.options());
  const bool doubles = in.x.scalar_type() == at::kDouble;
  if (doubles)
    divide_by_bins<Device, double>(shape, in, true, d_quotient, d_x);
  else
    divide_by_bins<Device, float>(shape, in, true, d_quotient, d_x);
  if (otf_gradient) {
    const at::Tensor kept = checked(x, in.x, in.x.sizes(), "x");
    d_otf = doubles ? otf_gradient_by_bins<Device, double>(shape, in, kept, d_quotient)
                    : otf_gradient_by_bins<Device, float>(shape, in, kept, d_quotient);
  }
  return division_gradients(d_x, d_quotient, d_otf, in.y);
}

}  // namespace davsr
