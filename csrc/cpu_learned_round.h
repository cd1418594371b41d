// A round along a motion with its two small networks on a CPU: the average whose weights one changes, the step down its
// total variation, and detail that the other finds in its cells of 4x4 pixels. Part of a frame by part of a frame, so
// that the average stays in the cache until all is made of it.
#pragma once

#include "cpu_cell_tiles.h"
#include "cpu_flatten.h"
#include "cpu_motion_bands.h"

namespace davsr {

constexpr int kDetailCell = 4;                           // pixels
constexpr int64_t kTileRows = kTileCells * kDetailCell;  // of pixels; detail depends on as many around them
constexpr int64_t kFewRows = 192;                        // of a part at least: what lies around it is averaged twice

// Some rows of an average: of every channel, and of its support.
struct AveragedRows {
  const float *mean, *support;
  int64_t first, plane;  // the first row's number; from one channel to the next
};

// What the network finds in a frame, row of tiles by row of tiles.
template <class Device>
struct DetailRows {
  using F = typename Device::template Lanes<float>;
  using Tiles = TiledCells<Device>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int tile = kTileCells * kDetailCell;  // pixels

  const DetailLayers& layers;
  const MotionShape& shape;
  const int64_t cells_h, cells_w, seen_channels, line_room;
  Tiles seen, hidden;
  Scratch<Device, float> line;  // a row of pixels, whose end is repeated

  DetailRows(const DetailLayers& of, const MotionShape& frames, const Parallel& threads)
      : layers(of),
        shape(frames),
        cells_h((frames.height + kDetailCell - 1) / kDetailCell),
        cells_w((frames.width + kDetailCell - 1) / kDetailCell),
        seen_channels(kDetailCell * kDetailCell * frames.channels),
        line_room((cells_w / kTileCells + wide) / wide * wide * tile),
        seen(seen_channels + 1, 2 * kTileCells, cells_w, threads),
        hidden(of.hidden, 3 * kTileCells, cells_w, threads),
        line(threads, line_room) {
    Clear<Device, float>::run(line.data, line_room);
  }

  // visit(first tile, cells[cell of a tile][column]) of the line.
  template <class Visit>
  DAVSR_FN void tiles_of_line(const Visit& visit) const {
    for (int64_t x = 0; x < Tiles::tiles(cells_w); x += wide) {
      F pixels[tile];
#pragma GCC unroll 16
      for (int i = 0; i < tile; ++i) pixels[i] = Device::template pack<float, wide>(line.data + x * tile + i * wide);
      Sorted<Device>::template deal<tile>(pixels);
      visit(x, pixels);
    }
  }

  // Row r of cells: every channel's pixels, then the mean of the support less `level`. A cell that reaches over the
  // frame's end repeats its last pixels; only those inside count for the mean.
  void see(const AveragedRows& from, int64_t r) {
    const int64_t top = r * kDetailCell, tall = shape.height - top < kDetailCell ? shape.height - top : kDetailCell;
    for (int64_t c = 0; c < shape.channels; ++c)
      for (int64_t y = 0; y < kDetailCell; ++y) {
        const int64_t row = top + (y < tall ? y : tall - 1) - from.first;
        __builtin_memcpy(line.data, from.mean + c * from.plane + row * shape.width,
                         static_cast<size_t>(shape.width) * sizeof(float));
        for (int64_t x = shape.width; x < kDetailCell * cells_w; ++x) line.data[x] = line.data[shape.width - 1];
        float* to = seen.row(r, (c * kDetailCell + y) * kDetailCell);
        tiles_of_line([&](int64_t x, const F* pixels) {
#pragma GCC unroll 16
          for (int i = 0; i < tile; ++i)
            Device::template put<float, wide>(to + (i % kDetailCell * kTileCells + i / kDetailCell) * seen.room + x, pixels[i]);
        });
      }
    see_support(from.support + (top - from.first) * shape.width, tall, seen.row(r, seen_channels));
    seen.end_row(r, cells_w);
  }

  void see_support(const float* from, int64_t tall, float* to) {
    float* sums = line.data;
    DAVSR_NO_ALIAS
    for (int64_t x = 0; x < shape.width; ++x) {
      float sum = 0;
      for (int64_t y = 0; y < tall; ++y) sum += from[y * shape.width + x];
      sums[x] = sum;
    }
    const int64_t across = shape.width - (cells_w - 1) * kDetailCell, end = cells_w - 1;
    float last = 0;  // of the last cell, which may be narrow
    for (int64_t i = 0; i < across; ++i) last += sums[end * kDetailCell + i];
    const float share = 1 / static_cast<float>(tall * kDetailCell);
    tiles_of_line([&](int64_t x, const F* pixels) {
#pragma GCC unroll 4
      for (int i = 0; i < kTileCells; ++i) {
        const F* of = pixels + i * kDetailCell;
        Device::template put<float, wide>(to + i * seen.room + x, (of[0] + of[1] + of[2] + of[3]) * share - layers.level);
      }
    });
    to[end % kTileCells * seen.room + end / kTileCells] = last / static_cast<float>(tall * across) - layers.level;
  }

  void hide(int64_t r) {
    const auto put = [&](int64_t at, int64_t x, const auto& made) {
      for (int j = 0; j < Tiles::group; ++j)
        for (int i = 0; i < kTileCells * kTileCells; ++i)
          Device::template put<float, wide>(
              hidden.row(kTileCells * r + i / kTileCells, at + j) + i % kTileCells * hidden.room + x,
              rectified(made[j][i / kTileCells][i % kTileCells]));
    };
    seen.convolve(r, cells_h, cells_w, layers.first, layers.first_bias, layers.hidden, put);
    for (int i = 0; i < kTileCells; ++i) hidden.end_row(kTileCells * r + i, cells_w);
  }

  // Four numbers of a cell are one of its rows. Channels of the frames lie `plane` apart.
  void add(int64_t r, float* frame, int64_t plane) {
    static_assert(Tiles::group == kDetailCell);
    const auto add_rows = [&](int64_t at, int64_t x, const auto& made) {
      const int64_t c = at / (kDetailCell * kDetailCell), y = at / kDetailCell % kDetailCell;
      for (int i = 0; i < kTileCells; ++i) {
        const int64_t row = (kTileCells * r + i) * kDetailCell + y;
        if (row >= shape.height) return;
        F pixels[tile];
#pragma GCC unroll 16
        for (int k = 0; k < tile; ++k) pixels[k] = made[k % kDetailCell][i][k / kDetailCell];
        Sorted<Device>::template collect<tile>(pixels);
        float* to = frame + c * plane + row * shape.width;
        for (int k = 0; k < tile; ++k) {
          const int64_t column = x * tile + k * wide, left = shape.width - column;
          if (left <= 0) break;
          const int some = static_cast<int>(left < wide ? left : wide);
          store_some<Device, float>(to + column, load_some<Device, float>(to + column, some) + pixels[k], some);
        }
      }
    };
    hidden.convolve(r, cells_h, cells_w, layers.last, layers.last_bias, seen_channels, add_rows);
  }
};

template <class Device, int few>
static void learned_round_rows(const LearnedRound& op, const Parallel& threads) {
  const MotionRound& round = op.round;
  const MotionShape& shape = round.shape;
  const int64_t width = shape.width, height = shape.height, out_plane = round.count * shape.pixels();
  const int64_t channels = few ? few : shape.channels, tiles = (height + kTileRows - 1) / kTileRows;
  const int64_t most = kBand / width > kFewRows ? kBand / width : kFewRows, parts = (height + most - 1) / most;
  const int64_t of_part = (tiles + parts - 1) / parts, room = (of_part + 2) * kTileRows * width;
  parallel<Device>(threads, shape.batch * parts * round.count * of_part, [&](int64_t begin, int64_t end) {
    AveragePass<Device, float, few, true> pass(shape, round.mismatch, round.reach, round.raised, threads, &op.trust);
    FlattenedRows<Device, float, false, few> flattened(channels, width, *static_cast<const float*>(round.step),
                                                       static_cast<float>(round.flat), threads);
    DetailRows<Device> network(op.detail, shape, threads);
    Scratch<Device, float> mean(threads, channels * room), support(threads, room);
    while (begin < end) {
      const int64_t unit = begin / of_part, n = unit % round.count, part = unit / round.count % parts;
      const int64_t b = unit / round.count / parts, first = part * of_part + begin % of_part;
      int64_t stop = (part + 1) * of_part;
      stop = stop - first < end - begin ? stop : first + end - begin;
      begin += stop - first;
      stop = stop < tiles ? stop : tiles;
      if (first >= stop) continue;
      const int64_t above = first ? first - 1 : 0, below = stop < tiles ? stop + 1 : tiles;  // what is averaged
      const int64_t top = above * kTileRows, last = below * kTileRows < height ? below * kTileRows : height;
      AveragedFrame<float> frame = frame_of_round<float>(round, b, n);
      frame.speed = op.speed + (b * round.count + n) * shape.cells();
      frame.mean = mean.data;
      frame.support = support.data;
      frame.top = top;
      frame.mean_plane = (last - top) * width;
      pass.average(frame, top, last);
      const AveragedRows averaged{mean.data, support.data, top, frame.mean_plane};
      float* out = static_cast<float*>(round.out) + b * channels * out_plane + n * shape.pixels();
      int64_t seen = above * kTileCells, hidden = above;
      for (int64_t row = first; row < stop; ++row) {  // of tiles
        for (; hidden < tiles && hidden <= row + 1; ++hidden) {
          for (; seen * kDetailCell < last && seen <= kTileCells * (hidden + 1); ++seen) network.see(averaged, seen);
          network.hide(hidden);
        }
        for (int64_t y = row * kTileRows; y < (row + 1) * kTileRows && y < height; ++y)
          flattened.run(mean.data + (y - top) * width, nullptr, frame.mean_plane, out + y * width, out_plane, y > 0,
                        y + 1 < height, y > first * kTileRows);
        network.add(row, out, out_plane);
      }
    }
  });
}

template <class Device>
static void learned_round(const LearnedRound& op, const Parallel& threads) {
  op.round.shape.channels == 3 ? learned_round_rows<Device, 3>(op, threads) : learned_round_rows<Device, 0>(op, threads);
}

}  // namespace davsr
