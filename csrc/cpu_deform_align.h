// The loops around deform_align.h on a CPU. Forward: tiles of pixels, whose columns stay in the second-level cache until the
// product has read them. Backward: one (sample, group) at a time, so that every sum has one owner and one order.
#pragma once

#include "cpu_kernels.h"
#include "cpu_product.h"

namespace davsr {

constexpr int64_t kTile = 48;              // pixels; a multiple of every row count of product_panel
constexpr int64_t kTileRow = kTile + 16;  // room for the lanes that a last vector reads and writes past its pixels

template <class Device, class Body>
static void parallel(const Parallel& threads, int64_t n, const Body& body) {
  threads.run(n, const_cast<void*>(static_cast<const void*>(&body)), [](void* context, int64_t begin, int64_t end) {
    (*static_cast<const Body*>(context))(begin, end);
  });
}

template <class Device, class Real>
struct Scratch {
  const Parallel& threads;
  Real* data;
  Scratch(const Parallel& owner, int64_t count)
      : threads(owner), data(static_cast<Real*>(owner.allocate(count * static_cast<int64_t>(sizeof(Real))))) {}
  ~Scratch() { threads.release(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

template <class Device, class Real>
struct Clear {
  static void run(Real* from, int64_t count) { __builtin_memset(from, 0, static_cast<size_t>(count) * sizeof(Real)); }
};

// One group of one sample into its padded plane.
template <class Device, class Real, class Stored>
static void pad_plane(const AlignShape& shape, const Planes& from, int64_t b, int64_t group, Real* plane) {
  const int64_t channels = shape.channels, row = shape.padded_row();
  Clear<Device, Real>::run(plane, row);
  Clear<Device, Real>::run(plane + (shape.height + 1) * row, 2 * row);
  for (int64_t y = 0; y < shape.height; ++y) {
    Real* to = plane + (y + 1) * row;
    Clear<Device, Real>::run(to, channels);
    Clear<Device, Real>::run(to + (shape.width + 1) * channels, 2 * channels);
    to += channels;
    const Stored* source = static_cast<const Stored*>(from.data) + from.at(b, group * channels, y * shape.width);
    if (from.channel == 1) {
      for (int64_t x = 0; x < shape.width; ++x)
        for (int64_t c = 0; c < channels; ++c) to[x * channels + c] = static_cast<Real>(widen(source[x * from.pixel + c]));
    } else {
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t x = 0; x < shape.width; ++x)
          to[x * channels + c] = static_cast<Real>(widen(source[c * from.channel + x * from.pixel]));
    }
  }
}

template <class Device, class Real>
static void pad_plane(const AlignShape& shape, const Planes& from, int64_t b, int64_t group, Real* plane) {
  switch (from.kind) {
    case Kind::float32:
      return pad_plane<Device, Real, float>(shape, from, b, group, plane);
    case Kind::float64:
      return pad_plane<Device, Real, double>(shape, from, b, group, plane);
    case Kind::float16:
      return pad_plane<Device, Real, Half>(shape, from, b, group, plane);
    default:
      return pad_plane<Device, Real, BFloat16>(shape, from, b, group, plane);
  }
}

// from[pixel * from_pixel + channel * from_channel] in float or double to planes at `at`, and back.
template <class Device, class Real, class Stored>
static void put_planes(const Planes& to, int64_t at, const Real* from, int64_t from_pixel, int64_t from_channel, int64_t count,
                       int64_t channels) {
  Stored* data = static_cast<Stored*>(to.data) + at;
  if (to.channel == 1) {
    for (int64_t p = 0; p < count; ++p)
      for (int64_t c = 0; c < channels; ++c) data[p * to.pixel + c] = narrow<Stored>(from[p * from_pixel + c * from_channel]);
  } else {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < count; ++p)
        data[c * to.channel + p * to.pixel] = narrow<Stored>(from[p * from_pixel + c * from_channel]);
  }
}

template <class Device, class Real>
static void put_planes(const Planes& to, int64_t at, const Real* from, int64_t from_pixel, int64_t from_channel, int64_t count,
                       int64_t channels) {
  switch (to.kind) {
    case Kind::float32:
      return put_planes<Device, Real, float>(to, at, from, from_pixel, from_channel, count, channels);
    case Kind::float64:
      return put_planes<Device, Real, double>(to, at, from, from_pixel, from_channel, count, channels);
    case Kind::float16:
      return put_planes<Device, Real, Half>(to, at, from, from_pixel, from_channel, count, channels);
    default:
      return put_planes<Device, Real, BFloat16>(to, at, from, from_pixel, from_channel, count, channels);
  }
}

// The pixels of one channel after the other: what the vectors read and write.
template <class Device, class Real, class Stored>
static void get_tile(const Planes& from, int64_t at, int64_t count, int64_t channels, Real* tile) {
  const Stored* data = static_cast<const Stored*>(from.data) + at;
  if (from.channel == 1) {
    for (int64_t p = 0; p < count; ++p)
      for (int64_t c = 0; c < channels; ++c) tile[c * kTileRow + p] = static_cast<Real>(widen(data[p * from.pixel + c]));
  } else {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < count; ++p)
        tile[c * kTileRow + p] = static_cast<Real>(widen(data[c * from.channel + p * from.pixel]));
  }
}

template <class Device, class Real>
static void get_tile(const Planes& from, int64_t at, int64_t count, int64_t channels, Real* tile) {
  switch (from.kind) {
    case Kind::float32:
      return get_tile<Device, Real, float>(from, at, count, channels, tile);
    case Kind::float64:
      return get_tile<Device, Real, double>(from, at, count, channels, tile);
    case Kind::float16:
      return get_tile<Device, Real, Half>(from, at, count, channels, tile);
    default:
      return get_tile<Device, Real, BFloat16>(from, at, count, channels, tile);
  }
}

// The raw channels and the flow of one group at the pixels of a tile; vectors may read past its last pixel.
template <class Device, class Real>
struct AlignTile {
  using F = typename Device::template Lanes<Real>;
  Real data[29 * kTileRow] = {};  // 18 offsets, 9 mask logits, flow dx, flow dy

  template <class Op>
  void read(const Op& op, int64_t b, int64_t group, int64_t first, int64_t count) {
    const Planes& flow = group < op.shape.first_groups ? op.flow_1 : op.flow_2;
    get_tile<Device, Real>(op.raw, op.raw.at(b, 18 * group, first), count, 18, data);
    get_tile<Device, Real>(op.raw, op.raw.at(b, 18 * op.shape.groups + 9 * group, first), count, 9, data + 18 * kTileRow);
    get_tile<Device, Real>(flow, flow.at(b, 0, first), count, 2, data + 27 * kTileRow);
  }
  void write(const AlignBackward& op, int64_t b, int64_t group, int64_t first, int64_t count) const {
    const int64_t pixels = op.shape.pixels();
    Real* d_flow = static_cast<Real*>(op.d_flow) + (b * op.shape.groups + group) * 2 * pixels + first;
    put_planes<Device, Real>(op.d_raw, op.d_raw.at(b, 18 * group, first), data, 1, kTileRow, count, 18);
    put_planes<Device, Real>(op.d_raw, op.d_raw.at(b, 18 * op.shape.groups + 9 * group, first), data + 18 * kTileRow, 1, kTileRow,
                             count, 9);
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

// columns[pixel of the tile][group, tap, channel] for one group.
template <class Device, class Real, int N>
static void sample_group(const AlignShape& shape, const AlignTile<Device, Real>& tile, const Real* plane, int64_t group,
                         int64_t first, int64_t last, Real* columns) {
  constexpr int width = Device::template lanes<Real>;
  const int64_t channels = shape.channels, row = shape.padded_row(), stride = shape.columns();
  blocks<Device, Real>(shape, first, last, [&](int64_t y, int64_t x, int64_t pixel, int count) {
    const auto block = tile.block(y, x, pixel - first);
    Real* to = columns + (pixel - first) * stride + group * 9 * channels;
    for (int k = 0; k < 9; ++k) {
      const auto tap = tile.tap(shape, block, k, pixel - first);
      auto weight = corner_weights(tap.down, tap.right);
      weight.top_left *= tap.mask;
      weight.top_right *= tap.mask;
      weight.low_left *= tap.mask;
      weight.low_right *= tap.mask;
      Real weights[4][width];
      typename IntegerOf<Real>::type corners[width];
      Device::template put<Real, width>(weights[0], weight.top_left);
      Device::template put<Real, width>(weights[1], weight.top_right);
      Device::template put<Real, width>(weights[2], weight.low_left);
      Device::template put<Real, width>(weights[3], weight.low_right);
      __builtin_memcpy(corners, &tap.corner, sizeof corners);
      for (int l = 0; l < count; ++l)
        sample<Device, Real, Real, N>(plane + corners[l] * channels, channels, row,
                                      CornerWeights<Real>{weights[0][l], weights[1][l], weights[2][l], weights[3][l]},
                                      to + l * stride + k * channels);
    }
  });
}

template <class Device, class Real, int N>
static void align_forward(const AlignForward& op, const Parallel& threads) {
  const AlignShape& shape = op.shape;
  Real* padded = static_cast<Real*>(op.padded);
  const int64_t planes = shape.batch * shape.groups, plane = shape.padded_plane();
  parallel<Device>(threads, planes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      pad_plane<Device, Real>(shape, op.features, i / shape.groups, i % shape.groups, padded + i * plane);
  });

  const int64_t pixels = shape.pixels(), depth = shape.columns(), tiles = (pixels + kTile - 1) / kTile;
  parallel<Device>(threads, shape.batch * tiles, [&](int64_t begin, int64_t end) {
    Scratch<Device, Real> columns(threads, kTile * depth), out(threads, kTile * op.c_pad);
    AlignTile<Device, Real> tile;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / tiles, first = i % tiles * kTile;
      const int64_t last = first + kTile < pixels ? first + kTile : pixels;
      for (int64_t group = 0; group < shape.groups; ++group) {
        tile.read(op, b, group, first, last - first);
        sample_group<Device, Real, N>(shape, tile, padded + (b * shape.groups + group) * plane, group, first, last,
                                      columns.data);
      }
      for (int64_t p = 0; p < last - first; ++p)
        __builtin_memcpy(out.data + p * op.c_pad, op.bias, static_cast<size_t>(op.c_pad) * sizeof(Real));
      product<Device, Real>(last - first, op.c_pad, depth, columns.data, depth, 1, static_cast<const Real*>(op.weight), op.c_pad,
                            out.data, op.c_pad, true);
      put_planes<Device, Real>(op.out, op.out.at(b, 0, first), out.data, op.c_pad, 1, last - first, shape.c_out);
    }
  });
}

// The gradients of one group at pixels [first, last): d_columns in, columns out, corners' and coordinates' gradients added.
template <class Device, class Real, int N>
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
      Real weights[5][width];
      typename IntegerOf<Real>::type corners[width];
      Device::template put<Real, width>(weights[0], weight.top_left);
      Device::template put<Real, width>(weights[1], weight.top_right);
      Device::template put<Real, width>(weights[2], weight.low_left);
      Device::template put<Real, width>(weights[3], weight.low_right);
      Device::template put<Real, width>(weights[4], tap.mask);
      __builtin_memcpy(corners, &tap.corner, sizeof corners);
      Real dots[4][width] = {};
      for (int l = 0; l < count; ++l) {
        const int64_t cell = corners[l] * channels, column = (pixel - first + l) * stride + k * channels;
        const auto dot = sample_backward<Device, Real, Real, N>(
            plane + cell, d_plane + cell, channels, row,
            CornerWeights<Real>{weights[0][l], weights[1][l], weights[2][l], weights[3][l]}, weights[4][l],
            d_columns + column, columns + column);
        dots[0][l] = dot.top_left;
        dots[1][l] = dot.top_right;
        dots[2][l] = dot.low_left;
        dots[3][l] = dot.low_right;
      }
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

template <class Device, class Real, int N>
static void align_backward(const AlignBackward& op, const Parallel& threads) {
  const AlignShape& shape = op.shape;
  const int64_t pixels = shape.pixels(), plane = shape.padded_plane(), depth = 9 * shape.channels;
  parallel<Device>(threads, shape.batch * shape.groups, [&](int64_t begin, int64_t end) {
    Scratch<Device, Real> features(threads, plane), gradient(threads, plane);
    Scratch<Device, Real> columns(threads, kTile * op.n_pad), d_columns(threads, kTile * op.n_pad);
    AlignTile<Device, Real> tile, d_tile;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / shape.groups, group = i % shape.groups;
      pad_plane<Device, Real>(shape, op.features, b, group, features.data);
      Clear<Device, Real>::run(gradient.data, plane);
      Real* d_weight = static_cast<Real*>(op.d_weight) + i * depth * op.c_pad;
      Clear<Device, Real>::run(d_weight, depth * op.c_pad);
      const Real* weight = static_cast<const Real*>(op.weight_t) + group * op.c_pad * op.n_pad;
      for (int64_t first = 0; first < pixels; first += kTile) {
        const int64_t last = first + kTile < pixels ? first + kTile : pixels;
        const Real* d_out = static_cast<const Real*>(op.d_out) + (b * pixels + first) * op.c_pad;
        product<Device, Real>(last - first, op.n_pad, shape.c_out, d_out, op.c_pad, 1, weight, op.n_pad, d_columns.data,
                              op.n_pad, false);
        tile.read(op, b, group, first, last - first);
        group_backward<Device, Real, N>(shape, tile, d_tile, features.data, gradient.data, first, last, d_columns.data,
                                        columns.data, op.n_pad);
        d_tile.write(op, b, group, first, last - first);
        product<Device, Real>(depth, op.c_pad, last - first, columns.data, 1, op.n_pad, d_out, op.c_pad, d_weight, op.c_pad,
                              true);
      }
      for (int64_t y = 0; y < shape.height; ++y)
        put_planes<Device, Real>(op.d_features, op.d_features.at(b, group * shape.channels, y * shape.width),
                                 gradient.data + (y + 1) * shape.padded_row() + shape.channels, shape.channels, 1, shape.width,
                                 shape.channels);
    }
  });
}

template <class Device, class Real>
static void align_forward_channels(const AlignForward& op, const Parallel& threads) {
  if (op.shape.channels % 8 == 0) return align_forward<Device, Real, 8>(op, threads);
  if (op.shape.channels % 4 == 0) return align_forward<Device, Real, 4>(op, threads);
  if (op.shape.channels % 2 == 0) return align_forward<Device, Real, 2>(op, threads);
  return align_forward<Device, Real, 1>(op, threads);
}

template <class Device, class Real>
static void align_backward_channels(const AlignBackward& op, const Parallel& threads) {
  if (op.shape.channels % 8 == 0) return align_backward<Device, Real, 8>(op, threads);
  if (op.shape.channels % 4 == 0) return align_backward<Device, Real, 4>(op, threads);
  if (op.shape.channels % 2 == 0) return align_backward<Device, Real, 2>(op, threads);
  return align_backward<Device, Real, 1>(op, threads);
}

}  // namespace davsr
