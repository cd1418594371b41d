// The gradients of conv3x3's weights and bias by the same F(4x4, 3x3): the adjoint of its three transformations. At
// each of the 36 points, sum over the tiles of (B^T x B) (A d A^T)^T, then G^T . G.
#pragma once

#include "cpu_conv3x3.h"

namespace davsr {

constexpr int64_t kGradientFloats = 1 << 18;  // of tiles that are transformed before the sums take them
constexpr int64_t kGradientParts = 16;        // whose sums are added up at the end
constexpr int64_t kPartTiles = 4 * kConvTiles;
constexpr int64_t kPartPlane = 1 << 11;  // pairs of channels up to which every part has its own sums

// A d of one column: the transpose of from_points.
template <class F>
static DAVSR_FN void gradient_to_points(const F* d, F* m) {
  const F even = d[0] + d[2], odd = d[1] + d[3], even_2 = d[0] + 4.0f * d[2], odd_2 = 2.0f * d[1] + 8.0f * d[3];
  m[0] = d[0];
  m[1] = even + odd;
  m[2] = even - odd;
  m[3] = even_2 + odd_2;
  m[4] = even_2 - odd_2;
  m[5] = d[3];
}

// G^T u: the transpose of weights_to_points.
template <class F>
static DAVSR_FN void weights_from_points(const F* u, F* g) {
  const F sum = u[1] + u[2], sum_2 = u[3] + u[4];
  g[0] = u[0] * 0.25f - sum * (1.0f / 6) + sum_2 * (1.0f / 24);
  g[1] = (u[2] - u[1]) * (1.0f / 6) + (u[3] - u[4]) * (1.0f / 12);
  g[2] = u[5] - sum * (1.0f / 6) + sum_2 * (1.0f / 6);
}

// Side x Side pixels of one channels-last image, at (top, left), zeros outside of it: all channels to
// points[36][point].
template <class Device, int Side, class Transform>
static void image_to_points(const float* image, int64_t height, int64_t width, int64_t channels, int64_t b, int64_t top,
                            int64_t left, const float* zeros, float* points, int64_t point, const Transform& transform) {
  using F = typename Device::template Lanes<float>;
  constexpr int lanes = Device::template lanes<float>;
  const float* from[Side][Side];
  int64_t step[Side][Side];  // the zeros are those of one vector
  for (int64_t y = 0; y < Side; ++y)
    for (int64_t x = 0; x < Side; ++x) {
      const bool inside = top + y >= 0 && top + y < height && left + x >= 0 && left + x < width;
      from[y][x] = inside ? image + ((b * height + top + y) * width + left + x) * channels : zeros;
      step[y][x] = inside;
    }
  for (int64_t next = 0; next < channels; next += lanes) {
    const int64_t c = Side == 6 && next > 0 && next + lanes > channels ? channels - lanes : next;  // see transform_tile
    F pixel[Side][Side], moved[6][6];
    if (c + lanes <= channels) {
      for (int y = 0; y < Side; ++y)
        for (int x = 0; x < Side; ++x) pixel[y][x] = Device::template pack<float, lanes>(from[y][x] + c * step[y][x]);
    } else {
      for (int y = 0; y < Side; ++y)
        for (int x = 0; x < Side; ++x) {
          pixel[y][x] = F{};
          __builtin_memcpy(&pixel[y][x], from[y][x] + c * step[y][x], static_cast<size_t>(channels - c) * sizeof(float));
        }
    }
    both_ways<F, Side, 6>(pixel, moved, transform);
    for (int64_t f = 0; f < kPoints; ++f) Device::template put<float, lanes>(points + f * point + c, moved[f / 6][f % 6]);
  }
}

// The tiles of a gradient, and where its sums lie: of one part after the other, of every point.
template <class Device>
struct GradientTiles {
  using F = typename Device::template Lanes<float>;
  static constexpr int lanes = Device::template lanes<float>;

  const Conv3x3Gradient& op;
  const int64_t across, down, tiles, in_pad, out_pad, plane;

  explicit GradientTiles(const Conv3x3Gradient& of)
      : op(of),
        across((of.width + 3) / 4),
        down((of.height + 3) / 4),
        tiles(of.batch * down * across),
        in_pad(round_up(of.c_in, kPad)),
        out_pad(of.c_pad),
        plane(of.c_in * of.c_pad) {}

  // Tile `tile` as number i of those that lie at x and d.
  void transform(int64_t tile, int64_t i, const float* zeros, float* x, int64_t x_point, float* d, int64_t d_point) const {
    const int64_t b = tile / (down * across), top = tile / across % down * 4, left = tile % across * 4;
    image_to_points<Device, 6>(op.x, op.height, op.width, op.c_in, b, top - 1, left - 1, zeros, x + i * in_pad, x_point,
                               to_points<F>);
    image_to_points<Device, 4>(op.d_out, op.height, op.width, op.c_out, b, top, left, zeros, d + i * out_pad, d_point,
                               gradient_to_points<F>);
  }

  // At the point (1, 1) A d A^T is the sum of the tile.
  static constexpr int64_t kSumPoint = 7;
  void add_bias(const float* d, int64_t d_point, int64_t count, float* bias) const {
    for (int64_t c = 0; c < out_pad; c += lanes) {
      F sum{};
      for (int64_t k = 0; k < count; ++k) sum += Device::template pack<float, lanes>(d + kSumPoint * d_point + k * out_pad + c);
      Device::template put<float, lanes>(bias + c, sum + Device::template pack<float, lanes>(bias + c));
    }
  }

  // G^T . G of the sums of `parts` parts, and those of the bias.
  void finish(const float* sums, const float* bias, int64_t parts, const Parallel& threads) const {
    parallel<Device>(threads, op.c_in, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * out_pad; at < end * out_pad; at += lanes) {
        F point[6][6] = {}, tap[3][3];
        for (int64_t part = 0; part < parts; ++part)
          for (int64_t f = 0; f < kPoints; ++f)
            point[f / 6][f % 6] += Device::template pack<float, lanes>(sums + (part * kPoints + f) * plane + at);
        both_ways<F, 6, 3>(point, tap, weights_from_points<F>);
        for (int k = 0; k < 9; ++k) Device::template put<float, lanes>(op.d_weight + k * plane + at, tap[k / 3][k % 3]);
      }
    });
    for (int64_t c = 0; c < out_pad; ++c) op.d_bias[c] = 0;
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t c = 0; c < out_pad; ++c) op.d_bias[c] += bias[part * out_pad + c];
  }
};

// Few channels: every part of the tiles goes through all steps by itself, block by block in the second-level cache.
template <class Device>
static void conv3x3_gradient_by_parts(const GradientTiles<Device>& all, const Parallel& threads) {
  const int64_t fit = all.tiles / kPartTiles, parts = fit < 1 ? 1 : fit < kGradientParts ? fit : kGradientParts;
  const int64_t x_point = kConvTiles * all.in_pad + kPad, d_point = kConvTiles * all.out_pad + kPad;
  Scratch<Device, float> sums(threads, parts * kPoints * all.plane), bias(threads, parts * all.out_pad);
  parallel<Device>(threads, parts, [&](int64_t begin, int64_t end) {
    Scratch<Device, float> x(threads, kPoints * x_point), d(threads, kPoints * d_point), zeros(threads, kPad);
    Clear<Device, float>::run(zeros.data, kPad);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = all.tiles * part / parts, stop = all.tiles * (part + 1) / parts;
      float *own = sums.data + part * kPoints * all.plane, *own_bias = bias.data + part * all.out_pad;
      Clear<Device, float>::run(own_bias, all.out_pad);
      for (int64_t start = first; start < stop; start += kConvTiles) {
        const int64_t count = stop - start < kConvTiles ? stop - start : kConvTiles;
        for (int64_t i = 0; i < count; ++i) all.transform(start + i, i, zeros.data, x.data, x_point, d.data, d_point);
        for (int64_t f = 0; f < kPoints; ++f)
          product<Device, float>(all.op.c_in, all.out_pad, count, x.data + f * x_point, 1, all.in_pad, d.data + f * d_point,
                                 all.out_pad, own + f * all.plane, all.out_pad, start > first);
        all.add_bias(d.data, d_point, count, own_bias);
      }
    }
  });
  all.finish(sums.data, bias.data, parts, threads);
}

template <class Device>
static void conv3x3_gradient(const Conv3x3Gradient& op, const Parallel& threads) {
  const GradientTiles<Device> all(op);
  if (all.plane <= kPartPlane) return conv3x3_gradient_by_parts<Device>(all, threads);
  const int64_t in_pad = all.in_pad, out_pad = all.out_pad, plane = all.plane, tiles = all.tiles;
  // The order of the sums depends on the sizes alone.
  const int64_t fit = kGradientFloats / (kPoints * (in_pad + out_pad)) / 16 * 16;
  const int64_t most = tiles < 16 ? tiles : fit < 16 ? 16 : fit < tiles ? fit : tiles;
  const int64_t x_point = most * in_pad + kPad, d_point = most * out_pad + kPad;
  Scratch<Device, float> x(threads, kPoints * x_point), d(threads, kPoints * d_point), sums(threads, kPoints * plane);
  Scratch<Device, float> zeros(threads, kPad), bias(threads, out_pad);
  Clear<Device, float>::run(zeros.data, kPad);
  Clear<Device, float>::run(bias.data, out_pad);
  for (int64_t start = 0; start < tiles; start += most) {
    const int64_t count = tiles - start < most ? tiles - start : most;
    parallel<Device>(threads, count, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) all.transform(start + i, i, zeros.data, x.data, x_point, d.data, d_point);
    });
    const int64_t parts = (op.c_in + kConvChannels - 1) / kConvChannels;
    parallel<Device>(threads, kPoints * parts, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t f = i / parts, first = i % parts * kConvChannels;
        const int64_t rows = op.c_in - first < kConvChannels ? op.c_in - first : kConvChannels;
        product<Device, float>(rows, out_pad, count, x.data + f * x_point + first, 1, in_pad, d.data + f * d_point, out_pad,
                               sums.data + f * plane + first * out_pad, out_pad, start > 0);
        if (f == all.kSumPoint && first == 0) all.add_bias(d.data, d_point, count, bias.data);
      }
    });
  }
  all.finish(sums.data, bias.data, 1, threads);
}

}  // namespace davsr
