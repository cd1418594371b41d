// Layers of small networks that go along with a pass over pixels: checks, and the layouts that the kernels take.
#pragma once

#include <ATen/ATen.h>

#include "checks.h"
#include "cpu_kernels.h"

namespace davsr {

// Channels are made eight at a time: a weight [made, seen, 3, 3] as [3, 3, seen, made], with zeros up to that, and a
// bias.
inline int64_t padding(int64_t made) { return (8 - made % 8) % 8; }
inline at::Tensor taps(const at::Tensor& weight) {
  return at::constant_pad_nd(weight.permute({2, 3, 1, 0}), {0, padding(weight.size(0))}).contiguous();
}
inline at::Tensor padded(const at::Tensor& bias) { return at::constant_pad_nd(bias, {0, padding(bias.size(0))}).contiguous(); }

inline void check_layer(const at::Tensor& weight, const at::Tensor& bias, at::IntArrayRef sizes, const char* op,
                        const char* name) {
  check_sizes(weight, sizes, op, name);
  check_sizes(bias, {sizes[0]}, op, "the bias of a layer");
  for (const at::Tensor& given : {weight, bias})
    TORCH_CHECK_VALUE(given.scalar_type() == at::kFloat, op, ": ", name, " must be float32, got ", given.scalar_type());
}

// The transpose of a convolution: one with the mirrored weight.
inline at::Tensor turned(const at::Tensor& weight) { return weight.flip({2, 3}).transpose(0, 1); }

}  // namespace davsr
