// 3x3 convolutions over the cells of frames and the gradients of their weights on a CPU, by Winograd's F(4x4, 3x3), as
// in cpu_conv3x3.h; a few rows of tiles at a time, whose cells need not be in memory before: they are made in a window
// that slides down the frame, where they lie in the cache.
#pragma once

#include "cpu_cells.h"
#include "cpu_conv3x3_gradient.h"

namespace davsr {

// Rows of tiles of frames of cells, as many together as fill a block of tiles.
struct TileGroups {
  struct Group {
    int64_t frame, top, stop;  // rows of tiles
  };
  struct Block {  // of the tiles of a group
    Group group;
    int64_t first, count;
  };
  const int64_t frames, cells_h, cells_w, across, down, together, of_frame;

  explicit DAVSR_FN TileGroups(const MotionShape& shape)
      : frames(shape.batch * shape.frames),
        cells_h(shape.cells_h),
        cells_w(shape.cells_w),
        across((cells_w + kTileCells - 1) / kTileCells),
        down((cells_h + kTileCells - 1) / kTileCells),
        together(most_together(across, down)),
        of_frame((down + together - 1) / together) {}

  static DAVSR_FN int64_t most_together(int64_t across, int64_t down) {
    const int64_t fit = across < kConvTiles ? kConvTiles / across : 1;
    return fit < down ? fit : down;
  }
  DAVSR_FN int64_t count() const { return frames * of_frame; }
  DAVSR_FN Group group(int64_t unit) const {
    const int64_t top = unit % of_frame * together;
    return {unit / of_frame, top, top + together < down ? top + together : down};
  }
  // visit(block) for all of a group, and visit(number, row, column) for the tiles of a block.
  template <class Visit>
  void blocks(const Group& group, const Visit& visit) const {
    const int64_t tiles = (group.stop - group.top) * across;
    for (int64_t first = 0; first < tiles; first += kConvTiles)
      visit(Block{group, first, tiles - first < kConvTiles ? tiles - first : kConvTiles});
  }
  template <class Visit>
  void each(const Block& block, const Visit& visit) const {
    for (int64_t i = 0; i < block.count; ++i) visit(i, block.group.top + (block.first + i) / across, (block.first + i) % across);
  }
};

// The rows of cells that a group sees, `numbers` of each side by side, with zeros around.
template <class Device>
struct CellWindow {
  const TileGroups& all;
  const int64_t numbers, pad, kept, room;
  Scratch<Device, float> data, outside;
  int64_t frame = -1, done = 0;  // the row after the last one that is there

  CellWindow(const TileGroups& groups, int64_t of_cell, const Parallel& threads)
      : all(groups),
        numbers(of_cell),
        pad(round_up(of_cell, kPad)),
        kept(kTileCells * groups.together + 2),
        room((kTileCells * groups.across + 2) * pad),
        data(threads, kept * room),
        outside(threads, room) {
    Clear<Device, float>::run(data.data, kept * room);
    Clear<Device, float>::run(outside.data, room);
  }

  // Numbers of cell (r, x); x from -1 on.
  float* cell(int64_t r, int64_t x) const { return data.data + r % kept * room + (x + 1) * pad; }
  const float* seen(int64_t r, int64_t x) const { return r >= 0 && r < all.cells_h ? cell(r, x) : outside.data; }

  // fill(row, its first cell) for what a group sees and is not there: groups come from the top down.
  template <class Fill>
  void slide(const TileGroups::Group& group, const Fill& fill) {
    const int64_t above = kTileCells * group.top - 1, below = kTileCells * group.stop + 1;
    const int64_t first = above < 0 ? 0 : above, stop = below < all.cells_h ? below : all.cells_h;
    if (group.frame != frame || done < first) done = first;
    frame = group.frame;
    for (; done < stop; ++done) fill(done, cell(done, 0));
  }
};

// Numbers of a block of tiles at the points: [kPoints][tile][pad].
template <class Device>
struct TilePoints {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;

  const int64_t pad, point;
  Scratch<Device, float> data;

  TilePoints(int64_t numbers, const Parallel& threads)
      : pad(round_up(numbers, kPad)), point(kConvTiles * pad + kPad), data(threads, kPoints * point) {}

  float* at(int64_t f) const { return data.data + f * point; }

  // Tile (y, x) as number i: the cells that its 4x4 results depend on.
  void see(const CellWindow<Device>& from, int64_t i, int64_t y, int64_t x) const { move<6>(from, i, y, x, to_points<F>); }
  // The gradient of its results.
  void see_gradient(const CellWindow<Device>& from, int64_t i, int64_t y, int64_t x) const {
    move<kTileCells>(from, i, y, x, gradient_to_points<F>);
  }

 private:
  template <int Side, class Transform>
  void move(const CellWindow<Device>& from, int64_t i, int64_t y, int64_t x, const Transform& transform) const {
    constexpr int64_t before = (Side - kTileCells) / 2;
    const float* row[Side];
    for (int64_t r = 0; r < Side; ++r) row[r] = from.seen(kTileCells * y - before + r, kTileCells * x - before);
    float* to = data.data + i * pad;
    for (int64_t c = 0; c < from.numbers; c += wide) {
      F cell[Side][Side], moved[6][6];
#pragma GCC unroll 6
      for (int r = 0; r < Side; ++r)
#pragma GCC unroll 6
        for (int k = 0; k < Side; ++k) cell[r][k] = Device::template pack<float, wide>(row[r] + k * pad + c);
      both_ways<F, Side, 6>(cell, moved, transform);
#pragma GCC unroll 36
      for (int f = 0; f < kPoints; ++f) Device::template put<float, wide>(to + f * point + c, moved[f / 6][f % 6]);
    }
  }
};

// A layer of weights [made, seen, 3, 3] at the points, [kPoints][seen][pad], or its transpose, which sees what it made.
template <class Device>
struct PointLayer {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;

  const int64_t seen, made, pad;
  Scratch<Device, float> weight;

  PointLayer(const float* of, int64_t of_made, int64_t of_seen, bool transposed, const Parallel& threads)
      : seen(transposed ? of_made : of_seen),
        made(transposed ? of_seen : of_made),
        pad(round_up(made, kPad)),
        weight(threads, kPoints * seen * pad) {
    for (int64_t c = 0; c < seen; ++c)
      for (int64_t first = 0; first < pad; first += wide) {
        F tap[3][3], moved[6][6];
        float taps[9][wide] = {};
        for (int64_t j = first; j < made && j < first + wide; ++j)
          for (int64_t k = 0; k < 9; ++k)
            taps[k][j - first] = transposed ? of[(c * made + j) * 9 + 8 - k] : of[(j * seen + c) * 9 + k];
        __builtin_memcpy(tap, taps, sizeof taps);
        both_ways<F, 3, 6>(tap, moved, weights_to_points<F>);
        for (int64_t f = 0; f < kPoints; ++f)
          Device::template put<float, wide>(weight.data + (f * seen + c) * pad + first, moved[f / 6][f % 6]);
      }
  }

  // visit(row, column, channel, made[row][cell]) for the tiles of a block, a vector of channels after the other; they
  // lie in `from`, and what is made of them at the points goes to `points`.
  template <class Visit>
  void convolve(const TileGroups& all, const TileGroups::Block& block, const TilePoints<Device>& from,
                const TilePoints<Device>& points, const Visit& visit) const {
    for (int64_t f = 0; f < kPoints; ++f)
      product<Device, float>(block.count, pad, seen, from.at(f), from.pad, 1, weight.data + f * seen * pad, pad, points.at(f),
                             pad, false);
    all.each(block, [&](int64_t i, int64_t y, int64_t x) {
      for (int64_t c = 0; c < made; c += wide) {
        F point[6][6], results[kTileCells][kTileCells];
#pragma GCC unroll 36
        for (int f = 0; f < kPoints; ++f) point[f / 6][f % 6] = Device::template pack<float, wide>(points.at(f) + i * pad + c);
        both_ways<F, 6, kTileCells>(point, results, from_points<F>);
        visit(y, x, c, results);
      }
    });
  }
};

// The gradients of the weights [made, seen, 3, 3] and biases of a layer, summed part by part of the tiles.
template <class Device>
struct LayerSums {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int64_t sum_point = 7;  // where A d A^T is the sum of a tile

  const int64_t parts, made, seen, pad, plane;
  Scratch<Device, float> sums, bias;

  LayerSums(int64_t of_parts, int64_t of_made, int64_t of_seen, const Parallel& threads)
      : parts(of_parts),
        made(of_made),
        seen(of_seen),
        pad(round_up(of_made, kPad)),
        plane(of_seen * pad),
        sums(threads, of_parts * kPoints * plane),
        bias(threads, of_parts * pad) {}

  // Of a block of tiles: what the layer saw, and the gradient of what it made. `begins`: with it a part's sums begin.
  void add(int64_t part, bool begins, const TilePoints<Device>& x, const TilePoints<Device>& d, int64_t count) const {
    float *own = sums.data + part * kPoints * plane, *own_bias = bias.data + part * pad;
    for (int64_t f = 0; f < kPoints; ++f)
      product<Device, float>(seen, pad, count, x.at(f), 1, x.pad, d.at(f), d.pad, own + f * plane, pad, !begins);
    for (int64_t c = 0; c < made; c += wide) {
      F sum = begins ? F{} : Device::template pack<float, wide>(own_bias + c);
      for (int64_t i = 0; i < count; ++i) sum += Device::template pack<float, wide>(d.at(sum_point) + i * d.pad + c);
      Device::template put<float, wide>(own_bias + c, sum);
    }
  }

  // The weights of channel c of what the layer saw; with the first one the biases.
  void write(int64_t c, float* d_weight, float* d_bias) const {
    for (int64_t first = 0; first < made; first += wide) {
      F point[6][6] = {}, tap[3][3];
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t f = 0; f < kPoints; ++f)
          point[f / 6][f % 6] += Device::template pack<float, wide>(sums.data + (part * kPoints + f) * plane + c * pad + first);
      both_ways<F, 6, 3>(point, tap, weights_from_points<F>);
      for (int64_t k = 0; k < 9; ++k)
        for (int64_t j = first; j < made && j < first + wide; ++j)
          d_weight[(j * seen + c) * 9 + k] = tap[k / 3][k % 3][j - first];
    }
    for (int64_t j = 0; c == 0 && j < made; ++j) {
      d_bias[j] = 0;
      for (int64_t part = 0; part < parts; ++part) d_bias[j] += bias.data[part * pad + j];
    }
  }
};

}  // namespace davsr
