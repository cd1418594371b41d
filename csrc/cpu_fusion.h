// What goes into the fusion of the learned prior and what comes out of it, on a CPU: pixels to cells of 4x4, channels
// last, and back, one row of cells after the other.
#pragma once

#include "cpu_tiles.h"
#include "motion_average.h"

namespace davsr {

template <class Device>
struct FusionRows {
  using V = float __attribute__((vector_size(16)));  // a row of a cell

  static DAVSR_FN V load(const float* from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }
  static DAVSR_FN void store(float* to, V value) { __builtin_memcpy(to, &value, sizeof value); }
  static DAVSR_FN V splat(float value) { return V{value, value, value, value}; }
};

// Deviations of z, of the detail, and of the picture from z, with what is known of each cell between them.
template <class Device>
static void fusion_cells(const FusionCells& op, const Parallel& threads) {
  using Rows = FusionRows<Device>;
  const int64_t h = op.height, w = op.width, W = 4 * w, plane = 16 * h * w, channels = 3 * 48 + op.known_channels;
  constexpr int64_t kBlock = 32;  // cells, whose channels stay in the first-level cache
  parallel<Device>(threads, op.batch * h, [&](int64_t begin, int64_t end) {
    Scratch<Device, float> means(threads, 4 * 6 * w), levels(threads, 6 * w);  // of rows of cells, by number % 4
    int64_t known_to = -1;
    const float *z = nullptr, *detail = nullptr;
    const auto mean_row = [&](int64_t r) {
      for (int64_t c = 0; c < 6; ++c) {
        const float* from = (c < 3 ? z + c * plane : detail + (c - 3) * plane) + 4 * r * W;
        float* to = means.data + (r % 4 * 6 + c) * w;
        for (int64_t x = 0; x < w; ++x) {
          const auto sum = Rows::load(from + 4 * x) + Rows::load(from + W + 4 * x) + Rows::load(from + 2 * W + 4 * x) +
                           Rows::load(from + 3 * W + 4 * x);
          to[x] = (sum[0] + sum[1] + sum[2] + sum[3]) * 0.0625f;
        }
      }
    };
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t n = unit / h, r = unit % h;
      if (unit == begin || r == 0) known_to = r - 2;
      z = op.z + n * 3 * plane;
      detail = op.detail + n * op.detail_batch;
      const float* picture = op.picture + n * op.picture_batch;
      const int64_t top = r > 0 ? r - 1 : 0, low = r + 1 < h ? r + 1 : h - 1;
      for (int64_t row = known_to + 1 > top ? known_to + 1 : top; row <= low; ++row) mean_row(row);
      known_to = low;
      for (int64_t c = 0; c < 6; ++c) {
        float* to = levels.data + c * w;
        for (int64_t x = 0; x < w; ++x) {
          const int64_t left = x > 0 ? x - 1 : 0, right = x + 1 < w ? x + 1 : w - 1;
          float sum = 0;
          for (int64_t row = top; row <= low; ++row)
            for (int64_t at = left; at <= right; ++at) sum += means.data[(row % 4 * 6 + c) * w + at];
          to[x] = sum / static_cast<float>((low - top + 1) * (right - left + 1));
        }
      }
      float* out = op.out + unit * w * channels;
      for (int64_t first = 0; first < w; first += kBlock) {
        const int64_t last = first + kBlock < w ? first + kBlock : w;
        for (int64_t c = 0; c < 3; ++c)
          for (int64_t i = 0; i < 4; ++i) {
            const int64_t row = c * plane + (4 * r + i) * W, channel = 16 * c + 4 * i;
            const float *level = levels.data + c * w, *level_of_detail = level + 3 * w;
            for (int64_t x = first; x < last; ++x) {
              float* to = out + x * channels + channel;
              const auto here = Rows::load(z + row + 4 * x);
              Rows::store(to, op.gain * (here - level[x]));
              Rows::store(to + 48, op.gain * (Rows::load(detail + row + 4 * x) - level_of_detail[x]));
              Rows::store(to + 96 + op.known_channels, op.gain * (Rows::load(picture + row + 4 * x) - here));
            }
          }
        const float* known = op.known + (n * op.known_channels * h + r) * w;
        for (int64_t k = 0; k < op.known_channels; ++k)
          for (int64_t x = first; x < last; ++x) out[x * channels + 96 + k] = known[k * h * w + x];
      }
    }
  });
}

// z + trust (half detail + share (picture - z) + added / gain), the trust of a cell raised bilinearly to its pixels.
template <class Device>
static void fusion_pixels(const FusionPixels& op, const Parallel& threads) {
  using Rows = FusionRows<Device>;
  const int64_t h = op.height, w = op.width, W = 4 * w, plane = 16 * h * w;
  const float unit_of_added = 1 / op.gain;
  const typename Rows::V before{0.625f, 0.875f, 0, 0}, after{0, 0, 0.125f, 0.375f};
  parallel<Device>(threads, op.batch * h, [&](int64_t begin, int64_t end) {
    Scratch<Device, float> trusts(threads, w);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t n = unit / h, r = unit % h;
      const float *z = op.z + n * 3 * plane, *picture = op.picture + n * op.picture_batch;
      const float *detail = op.detail + n * op.detail_batch, *cells = op.cells + unit * w * 64;
      for (int64_t i = 0; i < 4; ++i) {
        const Between<float> at = between<float>(4 * r + i, 4 * h, h);
        const float *upper = op.trust + (n * h + at.first) * w, *lower = op.trust + (n * h + at.second) * w;
        DAVSR_NO_ALIAS
        for (int64_t x = 0; x < w; ++x) trusts.data[x] = upper[x] + at.beyond * (lower[x] - upper[x]);
        for (int64_t x = 0; x < w; ++x) {
          const float here = trusts.data[x], left = trusts.data[x > 0 ? x - 1 : 0], right = trusts.data[x + 1 < w ? x + 1 : x];
          const typename Rows::V base{left, left, here, here};
          const auto trust = base + before * (here - left) + after * (right - here);
          const float* of_cell = cells + x * 64 + 4 * i;
          auto share = Rows::load(of_cell + 48);
          const auto none = Rows::splat(0), all = Rows::splat(1);
          share = share > none ? share : none;
          share = share < all ? share : all;
          for (int64_t c = 0; c < 3; ++c) {
            const int64_t pixel = c * plane + (4 * r + i) * W + 4 * x;
            const auto own = Rows::load(z + pixel);
            const auto more = op.half * Rows::load(detail + pixel) + share * (Rows::load(picture + pixel) - own) +
                              unit_of_added * Rows::load(of_cell + 16 * c);
            Rows::store(op.out + n * 3 * plane + pixel, own + trust * more);
          }
        }
      }
    }
  });
}

}  // namespace davsr
