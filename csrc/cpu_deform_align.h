// The loops around deform_align.h on a CPU. Forward: blocks of tiles of pixels, group by group: the columns of a tile
// stay in the first-level cache until the product has read them, the group's plane in the second. Backward: every
// (sample, group) has one owner, who walks its tiles in order: no sum depends on the threads.
#pragma once

#include "cpu_product.h"
#include "cpu_tiles.h"

namespace davsr {

// The raw channels and the flow of one group at the pixels of a tile; vectors may read past its last pixel.
template <class Device, class Real>
struct AlignTile {
  using F = typename Device::template Lanes<Real>;
  Real data[29 * kTileRow] = {};  // 18 offsets, 9 mask logits, flow dx, flow dy

  // What is read next lies so many groups and pixels further.
  template <class Op>
  void read(const Op& op, int64_t b, int64_t group, int64_t first, int64_t count, int64_t groups, int64_t pixels) {
    const Planes& flow = group < op.shape.first_groups ? op.flow_1 : op.flow_2;
    const int64_t offset = op.raw.at(b, 18 * group, first), logit = op.raw.at(b, 18 * op.shape.groups + 9 * group, first);
    get_tile<Device, Real, 18>(op.raw, offset, op.raw.at(0, 18 * groups, pixels), count, data);
    get_tile<Device, Real, 9, 18>(op.raw, logit, op.raw.at(0, 9 * groups, pixels), count, data + 18 * kTileRow);
    get_tile<Device, Real, 2>(flow, flow.at(b, 0, first), flow.at(0, 0, pixels), count, data + 27 * kTileRow);
  }
  void write(const AlignBackward& op, int64_t b, int64_t group, int64_t first, int64_t count) const {
    const int64_t pixels = op.shape.pixels();
    Real* d_flow = static_cast<Real*>(op.d_flow) + (b * op.shape.groups + group) * 2 * pixels + first;
    const int64_t offset = 18 * group, logit = 18 * op.shape.groups + 9 * group;
    put_tile<Device, Real, 18>(op.d_raw, op.d_raw.at(b, offset, first), count, data);
    put_tile<Device, Real, 9>(op.d_raw, op.d_raw.at(b, logit, first), count, data + 18 * kTileRow);
    __builtin_memcpy(d_flow, data + 27 * kTileRow, static_cast<size_t>(count) * sizeof(Real));
    __builtin_memcpy(d_flow + pixels, data + 28 * kTileRow, static_cast<size_t>(count) * sizeof(Real));
  }
  DAVSR_FN F at(int channel, int64_t pixel) const {
    return Device::template pack<Real, Device::template lanes<Real>>(data + channel * kTileRow + pixel);
  }
  // In order of pixels: the lanes past a block are written again by the next.
  DAVSR_FN void put(int channel, int64_t pixel, F value) {
    Device::template put<Real, Device::template lanes<Real>>(data + channel * kTileRow + pixel, value);
  }
  DAVSR_FN Block<F> block(int64_t row, int64_t column, int64_t pixel) const {
    return {row, Device::template ramp<Real>(static_cast<Real>(column)), at(28, pixel), at(27, pixel)};
  }
  DAVSR_FN Tap<Device, Real> tap(const AlignShape& shape, const Block<F>& block, int k, int64_t pixel) const {
    return align_tap<Device, Real>(shape, block, k, at(2 * k, pixel), at(2 * k + 1, pixel), at(18 + k, pixel));
  }
};

// Calls visit(row, column, pixel, count) for the blocks of lanes that make up pixels [first, last).
template <class Device, class Real, class Visit>
static DAVSR_FN void blocks(const AlignShape& shape, int64_t first, int64_t last, const Visit& visit) {
  constexpr int64_t width = Device::template lanes<Real>;
  int64_t row = first / shape.width, column = first % shape.width;
  for (int64_t pixel = first; pixel < last;) {
    int64_t count = last - pixel < width ? last - pixel : width;
    if (shape.width - column < count) count = shape.width - column;
    visit(row, column, pixel, static_cast<int>(count));
    pixel += count;
    column += count;
    if (column == shape.width) {
      column = 0;
      ++row;
    }
  }
}

// What the vectors computed for a block of pixels, laid out for the loop over them.
template <class Device, class Real>
struct LaneTaps {
  Real top_left[Device::template lanes<Real>], top_right[Device::template lanes<Real>];
  Real low_left[Device::template lanes<Real>], low_right[Device::template lanes<Real>], mask[Device::template lanes<Real>];
  typename IntegerOf<Real>::type corner[Device::template lanes<Real>];

  LaneTaps() = default;
  DAVSR_FN LaneTaps(const CornerWeights<typename Device::template Lanes<Real>>& weight, const Tap<Device, Real>& tap) {
    constexpr int width = Device::template lanes<Real>;
    Device::template put<Real, width>(top_left, weight.top_left);
    Device::template put<Real, width>(top_right, weight.top_right);
    Device::template put<Real, width>(low_left, weight.low_left);
    Device::template put<Real, width>(low_right, weight.low_right);
    Device::template put<Real, width>(mask, tap.mask);
    __builtin_memcpy(corner, &tap.corner, sizeof corner);
  }
  DAVSR_FN CornerWeights<Real> weight(int l) const { return {top_left[l], top_right[l], low_left[l], low_right[l]}; }
};

// Where the N channels of a group are half a vector: a whole one holds a cell and that to its right.
template <class Device, class Real, int N>
static DAVSR_FN void sample_pairs(const LaneTaps<Device, Real>& taps, int count, const Real* plane, int64_t row, Real* column,
                                  int64_t stride) {
  constexpr int width = Device::template lanes<Real>;
  const auto top_left = Device::template pack<Real, width>(taps.top_left);
  const auto top_right = Device::template pack<Real, width>(taps.top_right);
  const auto low_left = Device::template pack<Real, width>(taps.low_left);
  const auto low_right = Device::template pack<Real, width>(taps.low_right);
  typename Device::template Index<Real> lane;  // of both vectors of weights
  for (int c = 0; c < width; ++c) lane[c] = c < N ? 0 : width;
  for (int l = 0; l < count; ++l, lane += 1) {
    const Real* cell = plane + static_cast<int64_t>(taps.corner[l]) * N;
    const auto above = Device::template pack<Real, width>(cell) * Device::template pick<Real>(top_left, top_right, lane);
    const auto below = Device::template pack<Real, width>(cell + row) * Device::template pick<Real>(low_left, low_right, lane);
    Device::template put<Real, N>(column + l * stride, Device::template add_halves<Real>(above + below));
  }
}

// N channels at a time; `Fixed` where N is all of them. On its own, so that the loop has the registers to itself.
template <class Device, class Real, int N, bool Fixed>
__attribute__((noinline)) static void sample_lanes(const LaneTaps<Device, Real>& taps, int count, const Real* plane,
                                                   int64_t all_channels, int64_t row, Real* column, int64_t stride) {
  const int64_t channels = Fixed ? N : all_channels;
  if constexpr (Fixed && Device::template pairs<Real, N>) {
    sample_pairs<Device, Real, N>(taps, count, plane, row, column, stride);
  } else {
    for (int l = 0; l < count; ++l)
      sample<Device, Real, Real, N>(plane + taps.corner[l] * channels, channels, row, taps.weight(l), column + l * stride);
  }
}

template <class Device, class Real, int N, bool Fixed>
__attribute__((noinline)) static void sample_lanes_backward(const LaneTaps<Device, Real>& taps, int count, const Real* plane,
                                                            Real* d_plane, int64_t all_channels, int64_t row,
                                                            const Real* d_column, Real* column, int64_t stride,
                                                            Real (*dots)[Device::template lanes<Real>]) {
  const int64_t channels = Fixed ? N : all_channels;
  for (int l = 0; l < count; ++l) {
    const int64_t cell = taps.corner[l] * channels;
    const auto dot = sample_backward<Device, Real, Real, N>(plane + cell, d_plane + cell, channels, row, taps.weight(l),
                                                            taps.mask[l], d_column + l * stride, column + l * stride);
    dots[0][l] = dot.top_left;
    dots[1][l] = dot.top_right;
    dots[2][l] = dot.low_left;
    dots[3][l] = dot.low_right;
  }
}

// columns[pixel of the tile][tap, channel] of one group.
template <class Device, class Real, int N, bool Fixed>
static void sample_group(const AlignShape& shape, const AlignTile<Device, Real>& tile, const Real* plane, int64_t first,
                         int64_t last, Real* columns) {
  const int64_t channels = shape.channels, row = shape.padded_row(), stride = 9 * channels;
  blocks<Device, Real>(shape, first, last, [&](int64_t y, int64_t x, int64_t pixel, int count) {
    const auto block = tile.block(y, x, pixel - first);
    LaneTaps<Device, Real> taps[9];
    for (int k = 0; k < 9; ++k) {
      const auto tap = tile.tap(shape, block, k, pixel - first);
      taps[k] = LaneTaps<Device, Real>(corner_weights(tap.down, tap.right, tap.mask), tap);
    }
    Real* to = columns + (pixel - first) * stride;
    for (int k = 0; k < 9; ++k)
      sample_lanes<Device, Real, N, Fixed>(taps[k], count, plane, channels, row, to + k * channels, stride);
  });
}

template <class Device, class Real, int N, bool Fixed>
static void align_forward(const AlignForward& op, const Parallel& threads) {
  const AlignShape& shape = op.shape;
  Real* padded = static_cast<Real*>(op.padded);
  const int64_t planes = shape.batch * shape.groups, plane = shape.padded_plane();
  parallel<Device>(threads, planes, [&](int64_t begin, int64_t end) {
    samples<Device>(shape, begin, end, shape.groups, [&](int64_t b, int64_t g, int64_t stop) {
      pad_planes<Device, Real>(shape, op.features, b, g, stop, padded + (b * shape.groups + g) * plane);
    });
  });

  const int64_t pixels = shape.pixels(), depth = 9 * shape.channels, tiles = (pixels + kTile - 1) / kTile;
  // Together: tiles whose sums stay in the second-level cache beside the plane of one group, which they sample in turn.
  const int64_t fit = kSumBytes / (kTile * op.c_pad * static_cast<int64_t>(sizeof(Real))), most = fit > 1 ? fit : 1;
  parallel<Device>(threads, shape.batch * tiles, [&](int64_t begin, int64_t end) {
    Scratch<Device, Real> columns(threads, kTile * depth), out(threads, most * kTile * op.c_pad);
    AlignTile<Device, Real> tile;
    for (int64_t stop; begin < end; begin = stop) {
      const int64_t b = begin / tiles, all = (b + 1) * tiles;
      stop = begin + most;
      if (all < stop) stop = all;
      if (end < stop) stop = end;
      const int64_t start = (begin - b * tiles) * kTile, beyond = (stop - b * tiles) * kTile;
      const int64_t finish = beyond < pixels ? beyond : pixels;
      for (int64_t p = 0; p < finish - start; ++p)
        __builtin_memcpy(out.data + p * op.c_pad, op.bias, static_cast<size_t>(op.c_pad) * sizeof(Real));
      for (int64_t group = 0; group < shape.groups; ++group)
        for (int64_t first = start; first < finish; first += kTile) {
          const int64_t last = first + kTile < finish ? first + kTile : finish;
          tile.read(op, b, group, first, last - first, 0, kTile);
          sample_group<Device, Real, N, Fixed>(shape, tile, padded + (b * shape.groups + group) * plane, first, last,
                                               columns.data);
          product<Device, Real>(last - first, op.c_pad, depth, columns.data, depth, 1,
                                static_cast<const Real*>(op.weight) + group * depth * op.c_pad, op.c_pad,
                                out.data + (first - start) * op.c_pad, op.c_pad, true);
        }
      put_planes<Device, Real>(op.out, op.out.at(b, 0, start), out.data, op.c_pad, finish - start, shape.c_out);
    }
  });
}

// The gradients of one group at pixels [first, last): d_columns in, columns out, corners' and coordinates' gradients
// added.
template <class Device, class Real, int N, bool Fixed>
static void group_backward(const AlignShape& shape, const AlignTile<Device, Real>& tile, AlignTile<Device, Real>& d_tile,
                           const Real* plane, Real* d_plane, int64_t first, int64_t last, const Real* d_columns, Real* columns,
                           int64_t stride) {
  using F = typename Device::template Lanes<Real>;
  constexpr int width = Device::template lanes<Real>;
  const int64_t channels = shape.channels, row = shape.padded_row();
  const F reach = Device::template splat<Real>(static_cast<Real>(shape.max_residue));
  blocks<Device, Real>(shape, first, last, [&](int64_t y, int64_t x, int64_t pixel, int count) {
    const auto block = tile.block(y, x, pixel - first);
    F d_flow_y = F{}, d_flow_x = F{};
    for (int k = 0; k < 9; ++k) {
      const auto tap = tile.tap(shape, block, k, pixel - first);
      const auto weight = corner_weights(tap.down, tap.right);
      const LaneTaps<Device, Real> lanes(weight, tap);
      Real dots[4][width] = {};
      const int64_t column = (pixel - first) * stride + k * channels;
      sample_lanes_backward<Device, Real, N, Fixed>(lanes, count, plane, d_plane, channels, row, d_columns + column,
                                                    columns + column, stride, dots);
      CornerDots<F> dot;
      __builtin_memcpy(&dot, dots, sizeof dot);
      const auto d = tap_gradient<F>(dot, tap.down, tap.right, tap.mask, tap.tanh_y, tap.tanh_x, reach);
      d_tile.put(2 * k, pixel - first, d.offset_y);
      d_tile.put(2 * k + 1, pixel - first, d.offset_x);
      d_tile.put(18 + k, pixel - first, d.logit);
      d_flow_y += d.y;
      d_flow_x += d.x;
    }
    d_tile.put(27, pixel - first, d_flow_x);
    d_tile.put(28, pixel - first, d_flow_y);
  });
}

template <class Device, class Real, int N, bool Fixed>
static void align_backward(const AlignBackward& op, const Parallel& threads) {
  const AlignShape& shape = op.shape;
  const int64_t pixels = shape.pixels(), plane = shape.padded_plane(), depth = 9 * shape.channels;
  parallel<Device>(threads, shape.batch * shape.groups, [&](int64_t begin, int64_t end) {
    // Together: groups that share the cache lines of channels-last tensors, as long as their planes stay in the cache.
    const int64_t fit = kPlaneBytes / (2 * plane * static_cast<int64_t>(sizeof(Real))), most = fit > 1 ? fit : 1;
    Scratch<Device, Real> features(threads, most * plane), gradients(threads, most * plane);
    Scratch<Device, Real> columns(threads, kTile * op.n_pad), d_columns(threads, kTile * op.n_pad);
    AlignTile<Device, Real> tile, d_tile;
    samples<Device>(shape, begin, end, most, [&](int64_t b, int64_t g, int64_t stop) {
      pad_planes<Device, Real>(shape, op.features, b, g, stop, features.data);
      Clear<Device, Real>::run(gradients.data, (stop - g) * plane);
      Real* d_weights = static_cast<Real*>(op.d_weight) + b * shape.groups * depth * op.c_pad;
      Clear<Device, Real>::run(d_weights + g * depth * op.c_pad, (stop - g) * depth * op.c_pad);
      for (int64_t first = 0; first < pixels; first += kTile) {
        const int64_t last = first + kTile < pixels ? first + kTile : pixels;
        const Real* d_out = static_cast<const Real*>(op.d_out) + (b * pixels + first) * op.c_pad;
        for (int64_t group = g; group < stop; ++group) {
          const Real* weight = static_cast<const Real*>(op.weight_t) + group * op.c_pad * op.n_pad;
          product<Device, Real>(last - first, op.n_pad, shape.c_out, d_out, op.c_pad, 1, weight, op.n_pad, d_columns.data,
                                op.n_pad, false);
          tile.read(op, b, group, first, last - first, 1, 0);
          group_backward<Device, Real, N, Fixed>(shape, tile, d_tile, features.data + (group - g) * plane,
                                                 gradients.data + (group - g) * plane, first, last, d_columns.data, columns.data,
                                                 op.n_pad);
          d_tile.write(op, b, group, first, last - first);
          product<Device, Real>(depth, op.c_pad, last - first, columns.data, 1, op.n_pad, d_out, op.c_pad,
                                d_weights + group * depth * op.c_pad, op.c_pad, true);
        }
      }
      for (int64_t y = 0; y < shape.height; ++y)
        for (int64_t group = g; group < stop; ++group)
          put_planes<Device, Real>(op.d_features, op.d_features.at(b, group * shape.channels, y * shape.width),
                                   gradients.data + (group - g) * plane + (y + 1) * shape.padded_row() + shape.channels,
                                   shape.channels, shape.width, shape.channels);
    });
  });
}

template <class Device, class Real>
static void align_forward_channels(const AlignForward& op, const Parallel& threads) {
  if (op.shape.channels == 8) return align_forward<Device, Real, 8, true>(op, threads);
  if (op.shape.channels % 8 == 0) return align_forward<Device, Real, 8, false>(op, threads);
  if (op.shape.channels % 4 == 0) return align_forward<Device, Real, 4, false>(op, threads);
  if (op.shape.channels % 2 == 0) return align_forward<Device, Real, 2, false>(op, threads);
  return align_forward<Device, Real, 1, false>(op, threads);
}

template <class Device, class Real>
static void align_backward_channels(const AlignBackward& op, const Parallel& threads) {
  if (op.shape.channels == 8) return align_backward<Device, Real, 8, true>(op, threads);
  if (op.shape.channels % 8 == 0) return align_backward<Device, Real, 8, false>(op, threads);
  if (op.shape.channels % 4 == 0) return align_backward<Device, Real, 4, false>(op, threads);
  if (op.shape.channels % 2 == 0) return align_backward<Device, Real, 2, false>(op, threads);
  return align_backward<Device, Real, 1, false>(op, threads);
}

}  // namespace davsr
