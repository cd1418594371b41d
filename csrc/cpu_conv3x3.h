// 3x3 convolution of channels-last images, padded by zeros, by Winograd's F(4x4, 3x3). Blocks of tiles go through all
// three steps while they are in the second-level cache.
#pragma once

#include "cpu_product.h"
#include "cpu_tiles.h"
#include "cpu_winograd.h"

namespace davsr {

constexpr int64_t kConvTiles = 24;     // of a block; a multiple of every row count of product_panel
constexpr int64_t kConvChannels = 64;  // of a block, in and out
constexpr int64_t kPoint =
    kConvTiles * kConvChannels + kPad;  // apart by an odd number of cache lines, or they would share few sets

// [3, 3, c_in, c_pad] -> [36, c_in, c_pad] for the input channels [begin, end).
template <class Device>
static void transform_weight(const Conv3x3& op, int64_t begin, int64_t end) {
  using F = typename Device::template Lanes<float>;
  constexpr int width = Device::template lanes<float>;
  const int64_t plane = op.c_in * op.c_pad;
  for (int64_t at = begin * op.c_pad; at < end * op.c_pad; at += width) {
    F tap[3][3], point[6][6];
    for (int k = 0; k < 9; ++k) tap[k / 3][k % 3] = Device::template pack<float, width>(op.weight + k * plane + at);
    both_ways<F, 3, 6>(tap, point, weights_to_points<F>);
    for (int64_t f = 0; f < kPoints; ++f)
      Device::template put<float, width>(op.transformed + f * plane + at, point[f / 6][f % 6]);
  }
}

// Channels [first, first + count) of one 6x6 tile whose upper left pixel is (top, left), to points[36][kPoint].
template <class Device>
static void transform_tile(const Conv3x3& op, int64_t b, int64_t top, int64_t left, int64_t first, int64_t count,
                           const float* zeros, float* points) {
  using F = typename Device::template Lanes<float>;
  constexpr int width = Device::template lanes<float>;
  const float* from[6][6];
  for (int64_t y = 0; y < 6; ++y)
    for (int64_t x = 0; x < 6; ++x) {
      const bool inside = top + y >= 0 && top + y < op.height && left + x >= 0 && left + x < op.width;
      from[y][x] = inside ? op.x + ((b * op.height + top + y) * op.width + left + x) * op.c_in + first : zeros;
    }
  for (int64_t next = 0; next < count; next += width) {
    const int64_t c = next > 0 && next + width > count ? count - width : next;  // the last channels, whole, once more
    F pixel[6][6], point[6][6];
    if (c + width <= count) {
      for (int y = 0; y < 6; ++y)
        for (int x = 0; x < 6; ++x) pixel[y][x] = Device::template pack<float, width>(from[y][x] + c);
    } else {
      for (int y = 0; y < 6; ++y)
        for (int x = 0; x < 6; ++x) {
          pixel[y][x] = F{};
          __builtin_memcpy(&pixel[y][x], from[y][x] + c, static_cast<size_t>(count - c) * sizeof(float));
        }
    }
    both_ways<F, 6, 6>(pixel, point, to_points<F>);
    for (int64_t f = 0; f < kPoints; ++f) Device::template put<float, width>(points + f * kPoint + c, point[f / 6][f % 6]);
  }
}

// Channels [first, first + count) of one 4x4 tile of results at (top, left).
template <class Device>
static void finish_tile(const Conv3x3& op, int64_t b, int64_t top, int64_t left, int64_t first, int64_t count,
                        const float* points) {
  using F = typename Device::template Lanes<float>;
  constexpr int width = Device::template lanes<float>;
  const int64_t tall = op.height - top < 4 ? op.height - top : 4, wide = op.width - left < 4 ? op.width - left : 4;
  for (int64_t c = 0; c < count; c += width) {
    F point[6][6], pixel[4][4];
    for (int64_t f = 0; f < kPoints; ++f) point[f / 6][f % 6] = Device::template pack<float, width>(points + f * kPoint + c);
    both_ways<F, 6, 4>(point, pixel, from_points<F>);
    const F bias = Device::template pack<float, width>(op.bias + first + c);
    const int64_t left_over = op.c_out - first - c;
    for (int64_t y = 0; y < tall; ++y)
      for (int64_t x = 0; x < wide; ++x) {
        int64_t at = ((b * op.height + top + y) * op.width + left + x) * op.c_out + first + c;
        if (op.shuffle) {
          const int64_t run = op.c_out / 4, part = (first + c) / run, low = part / 2, right = part % 2;
          at = (((b * op.height + top + y) * 2 + low) * op.width + left + x) * 2 * run + right * run + (first + c) % run;
        }
        F value = pixel[y][x] + bias;
        value = value < 0.0f ? value * op.slope : value;
        if (left_over >= width) {
          if (op.residual) value += Device::template pack<float, width>(op.residual + at);
          Device::template put<float, width>(op.out + at, value);
        } else {
          for (int64_t i = 0; i < left_over; ++i) op.out[at + i] = value[i] + (op.residual ? op.residual[at + i] : 0.0f);
        }
      }
  }
}

template <class Device>
static void conv3x3(const Conv3x3& op, const Parallel& threads) {
  if (op.weight)
    parallel<Device>(threads, op.c_in, [&](int64_t begin, int64_t end) { transform_weight<Device>(op, begin, end); });

  const int64_t across = (op.width + 3) / 4, down = (op.height + 3) / 4, tiles = op.batch * down * across;
  parallel<Device>(threads, (tiles + kConvTiles - 1) / kConvTiles, [&](int64_t begin, int64_t end) {
    Scratch<Device, float> in(threads, kPoints * kPoint), out(threads, kPoints * kPoint), zeros(threads, kConvChannels);
    Clear<Device, float>::run(zeros.data, kConvChannels);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t start = block * kConvTiles, count = tiles - start < kConvTiles ? tiles - start : kConvTiles;
      const auto each = [&](const auto& visit) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t tile = start + i, b = tile / (down * across), y = tile / across % down, x = tile % across;
          visit(b, 4 * y, 4 * x, i * kConvChannels);
        }
      };
      for (int64_t to = 0; to < op.c_pad; to += kConvChannels) {
        const int64_t made = op.c_pad - to < kConvChannels ? op.c_pad - to : kConvChannels;
        for (int64_t from = 0; from < op.c_in; from += kConvChannels) {
          const int64_t read = op.c_in - from < kConvChannels ? op.c_in - from : kConvChannels;
          if (to == 0 || op.c_in > kConvChannels)
            each([&](int64_t b, int64_t y, int64_t x, int64_t at) {
              transform_tile<Device>(op, b, y - 1, x - 1, from, read, zeros.data, in.data + at);
            });
          for (int64_t f = 0; f < kPoints; ++f)
            product<Device, float>(count, made, read, in.data + f * kPoint, kConvChannels, 1,
                                   op.transformed + (f * op.c_in + from) * op.c_pad + to, op.c_pad, out.data + f * kPoint,
                                   kConvChannels, from > 0);
        }
        each([&](int64_t b, int64_t y, int64_t x, int64_t at) { finish_tile<Device>(op, b, y, x, to, made, out.data + at); });
      }
    }
  });
}

}  // namespace davsr
