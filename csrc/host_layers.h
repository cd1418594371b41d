// Layers of small networks that go along with a pass over pixels: their checks.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "checks.h"
#include "cpu_kernels.h"

namespace davsr {

// The tensors of a network as `pack_trust` and `pack_detail` make them (davsr/ops/_learned_round.py): their sizes, of
// which -1 is the hidden number, a multiple of 8 that is returned.
inline int64_t check_packed(at::TensorList packed, std::initializer_list<std::vector<int64_t>> sizes, const char* op,
                            const char* name) {
  TORCH_CHECK_VALUE(packed.size() == sizes.size() && packed[1].dim() == 1, op, ": ", name, " must be ", sizes.size(),
                    " tensors, the second one a bias, got ", packed.size());
  const int64_t hidden = packed[1].size(0);
  TORCH_CHECK_VALUE(hidden > 0 && hidden % 8 == 0, op, ": ", name, " must have a multiple of 8 hidden channels, got ", hidden);
  size_t at = 0;
  for (std::vector<int64_t> expected : sizes) {
    std::replace(expected.begin(), expected.end(), int64_t{-1}, hidden);
    check_sizes(packed[at], expected, op, name);
    TORCH_CHECK_VALUE(packed[at].scalar_type() == at::kFloat && packed[at].is_contiguous(), op, ": ", name,
                      " must be dense float32, got ", packed[at].scalar_type());
    ++at;
  }
  return hidden;
}

inline TrustLayers trust_layers(at::TensorList packed, double low, double high, const char* op) {
  const int64_t hidden = check_packed(packed, {{3, 3, kTrustSees, -1}, {-1}, {3, 3, -1, -1}, {-1}, {-1}, {1}}, op, "trust");
  TORCH_CHECK_VALUE(low <= high, op, ": low must not be above high, got ", low, " and ", high);
  const auto numbers = [&](size_t at) { return packed[at].const_data_ptr<float>(); };
  return {hidden,
          numbers(0),
          numbers(1),
          numbers(2),
          numbers(3),
          numbers(4),
          packed[5].item<float>(),
          static_cast<float>(low),
          static_cast<float>(high)};
}

inline void check_layer(const at::Tensor& weight, const at::Tensor& bias, at::IntArrayRef sizes, const char* op,
                        const char* name) {
  check_sizes(weight, sizes, op, name);
  check_sizes(bias, {sizes[0]}, op, "the bias of a layer");
  for (const at::Tensor& given : {weight, bias})
    TORCH_CHECK_VALUE(given.scalar_type() == at::kFloat, op, ": ", name, " must be float32, got ", given.scalar_type());
}

}  // namespace davsr
