// A round along a motion with its two small networks on a CPU: the average whose weights one changes, the step down its
// total variation, and detail that the other finds in its cells of 4x4 pixels. Part of a frame by part of a frame, so
// that the average stays in the cache until all is made of it.
#pragma once

#include "cpu_cell_tiles.h"
#include "cpu_flatten.h"
#include "cpu_motion_bands.h"

namespace davsr {

constexpr int kDetailCell = 4;              // pixels
constexpr int64_t kPair = 2 * kDetailCell;  // rows of pixels that are made at a time; detail depends on as many around
constexpr int64_t kFewRows = 128;           // of a part at least: what lies around it is averaged twice

// Vectors of numbers that follow each other <-> vectors of every second, or every fourth of them.
template <class Device>
struct Sorted {
  using F = typename Device::template Lanes<float>;
  using I = typename Device::template Index<float>;
  static constexpr int wide = Device::template lanes<float>;

  static DAVSR_FN void split(F& a, F& b) {
    I even, odd;
#pragma GCC unroll 16
    for (int l = 0; l < wide; ++l) {
      even[l] = 2 * l;
      odd[l] = 2 * l + 1;
    }
    const F first = shuffle(a, b, even);
    b = shuffle(a, b, odd);
    a = first;
  }
  static DAVSR_FN void join(F& a, F& b) {
    I low, high;
#pragma GCC unroll 16
    for (int l = 0; l < wide; ++l) {
      low[l] = l / 2 + l % 2 * wide;
      high[l] = wide / 2 + l / 2 + l % 2 * wide;
    }
    const F first = shuffle(a, b, low);
    b = shuffle(a, b, high);
    a = first;
  }
  static DAVSR_FN void split_fours(F* v) {
    split(v[0], v[1]);
    split(v[2], v[3]);
    split(v[0], v[2]);
    split(v[1], v[3]);
  }
  static DAVSR_FN void join_fours(F* v) {
    join(v[0], v[2]);
    join(v[1], v[3]);
    join(v[0], v[1]);
    join(v[2], v[3]);
  }
  // Eight vectors of pixels: cells of four, first the even ones, then the odd ones.
  static DAVSR_FN void to_cells(F* v) {
    split_fours(v);
    split_fours(v + 4);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) split(v[i], v[4 + i]);
  }
  static DAVSR_FN void to_pixels(F* v) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) join(v[i], v[4 + i]);
    join_fours(v);
    join_fours(v + 4);
  }
};

// Some rows of an average: of every channel, and of its support.
struct AveragedRows {
  const float *mean, *support;
  int64_t first, plane;  // the first row's number; from one channel to the next
};

// What the network finds in a frame, pair of rows of cells by pair.
template <class Device>
struct DetailRows {
  using F = typename Device::template Lanes<float>;
  using Tiles = TiledCells<Device>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int64_t tile = 2 * kDetailCell;  // pixels

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
        line_room((cells_w / 2 + wide) / wide * wide * tile),
        seen(seen_channels + 1, cells_w, threads),
        hidden(of.hidden, cells_w, threads),
        line(threads, line_room) {
    Clear<Device, float>::run(line.data, line_room);
  }

  // visit(first tile, eight vectors of pixels of the line).
  template <class Visit>
  DAVSR_FN void tiles_of_line(const Visit& visit) const {
    for (int64_t x = 0; x < (cells_w + 1) / 2; x += wide) {
      F pixels[tile];
#pragma GCC unroll 8
      for (int i = 0; i < tile; ++i) pixels[i] = Device::template pack<float, wide>(line.data + x * tile + i * wide);
      visit(x, pixels);
    }
  }

  // Rows 2 pair and 2 pair + 1 of cells: every channel's pixels, then the mean of the support less `level`. A cell that
  // reaches over the frame's end repeats its last pixels; only those inside count for the mean.
  void see(const AveragedRows& from, int64_t pair) {
    for (int64_t r = 2 * pair; r < 2 * pair + 2 && r < cells_h; ++r) {
      const int64_t top = r * kDetailCell, tall = shape.height - top < kDetailCell ? shape.height - top : kDetailCell;
      for (int64_t c = 0; c < shape.channels; ++c)
        for (int64_t y = 0; y < kDetailCell; ++y) {
          const int64_t row = top + (y < tall ? y : tall - 1) - from.first;
          __builtin_memcpy(line.data, from.mean + c * from.plane + row * shape.width,
                           static_cast<size_t>(shape.width) * sizeof(float));
          for (int64_t x = shape.width; x < kDetailCell * cells_w; ++x) line.data[x] = line.data[shape.width - 1];
          float* to = seen.row(r, (c * kDetailCell + y) * kDetailCell);
          tiles_of_line([&](int64_t x, F* pixels) {
            Sorted<Device>::to_cells(pixels);
#pragma GCC unroll 4
            for (int i = 0; i < kDetailCell; ++i) {
              Device::template put<float, wide>(to + 2 * i * seen.room + x, pixels[i]);
              Device::template put<float, wide>(to + (2 * i + 1) * seen.room + x, pixels[kDetailCell + i]);
            }
          });
        }
      see_support(from.support + (top - from.first) * shape.width, tall, seen.row(r, seen_channels));
      seen.end_row(r, cells_w);
    }
  }

  void see_support(const float* from, int64_t tall, float* to) {
    float* sums = line.data;
    DAVSR_NO_ALIAS
    for (int64_t x = 0; x < shape.width; ++x) {
      float sum = 0;
      for (int64_t y = 0; y < tall; ++y) sum += from[y * shape.width + x];
      sums[x] = sum;
    }
    const int64_t across = shape.width - (cells_w - 1) * kDetailCell;
    float last = 0;  // of the last cell, which may be narrow
    for (int64_t i = 0; i < across; ++i) last += sums[(cells_w - 1) * kDetailCell + i];
    const float share = 1 / static_cast<float>(tall * kDetailCell);
    tiles_of_line([&](int64_t x, F* pixels) {
      Sorted<Device>::to_cells(pixels);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const F* of = pixels + half * kDetailCell;
        Device::template put<float, wide>(to + half * seen.room + x, (of[0] + of[1] + of[2] + of[3]) * share - layers.level);
      }
    });
    to[(cells_w - 1) % 2 * seen.room + (cells_w - 1) / 2] = last / static_cast<float>(tall * across) - layers.level;
  }

  void hide(int64_t pair) {
    const auto put = [&](int64_t at, int64_t x, const auto& sum) {
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < Tiles::block; ++j) {
          float* to = hidden.row(2 * pair + i, at + j) + x;
          for (int half = 0; half < 2; ++half)
            Device::template put<float, wide>(to + half * hidden.room, rectified(sum[i][half][j]));
        }
    };
    seen.convolve(pair, cells_h, cells_w, layers.first, layers.first_bias, layers.hidden, put);
    for (int64_t r = 2 * pair; r < 2 * pair + 2; ++r) hidden.end_row(r, cells_w);
  }

  // Eight numbers of a cell are two of its rows. Channels of the frames lie `plane` apart.
  void add(int64_t pair, float* frame, int64_t plane) {
    const auto add_rows = [&](int64_t at, int64_t x, const auto& sum) {
      const int64_t c = at / (kDetailCell * kDetailCell), first = at / kDetailCell % kDetailCell;
      for (int i = 0; i < 2; ++i)
        for (int64_t y = 0; y < 2; ++y) {
          const int64_t row = (2 * pair + i) * kDetailCell + first + y;
          if (row >= shape.height) return;
          F pixels[tile];
          for (int j = 0; j < kDetailCell; ++j)
            for (int half = 0; half < 2; ++half) pixels[half * kDetailCell + j] = sum[i][half][y * kDetailCell + j];
          Sorted<Device>::to_pixels(pixels);
          float* to = frame + c * plane + row * shape.width;
          for (int k = 0; k < tile; ++k) {
            const int64_t column = x * tile + k * wide, left = shape.width - column;
            if (left <= 0) break;
            const int some = static_cast<int>(left < wide ? left : wide);
            store_some<Device, float>(to + column, load_some<Device, float>(to + column, some) + pixels[k], some);
          }
        }
    };
    hidden.convolve(pair, cells_h, cells_w, layers.last, layers.last_bias, seen_channels, add_rows);
  }
};

template <class Device, int few>
static void learned_round_rows(const LearnedRound& op, const Parallel& threads) {
  const MotionRound& round = op.round;
  const MotionShape& shape = round.shape;
  const int64_t width = shape.width, height = shape.height, out_plane = round.count * shape.pixels();
  const int64_t channels = few ? few : shape.channels, pairs = (height + kPair - 1) / kPair;
  const int64_t most = kBand / width > kFewRows ? kBand / width : kFewRows, parts = (height + most - 1) / most;
  const int64_t of_part = (pairs + parts - 1) / parts, room = (of_part + 2) * kPair * width;
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
      stop = stop < pairs ? stop : pairs;
      if (first >= stop) continue;
      const int64_t above = first ? first - 1 : 0, below = stop < pairs ? stop + 1 : pairs;  // pairs that are averaged
      const int64_t top = above * kPair, last = below * kPair < height ? below * kPair : height;
      AveragedFrame<float> frame = frame_of_round<float>(round, b, n);
      frame.speed = op.speed + (b * round.count + n) * shape.cells();
      frame.mean = mean.data;
      frame.support = support.data;
      frame.top = top;
      frame.mean_plane = (last - top) * width;
      pass.average(frame, top, last);
      const AveragedRows averaged{mean.data, support.data, top, frame.mean_plane};
      float* out = static_cast<float*>(round.out) + b * channels * out_plane + n * shape.pixels();
      int64_t seen = above, hidden = above;
      for (int64_t pair = first; pair < stop; ++pair) {
        for (; hidden < pairs && hidden <= pair + 1; ++hidden) {
          for (; seen < below && seen <= hidden + 1; ++seen) network.see(averaged, seen);
          network.hide(hidden);
        }
        for (int64_t y = pair * kPair; y < (pair + 1) * kPair && y < height; ++y)
          flattened.run(mean.data + (y - top) * width, nullptr, frame.mean_plane, out + y * width, out_plane, y > 0,
                        y + 1 < height, y > first * kPair);
        network.add(pair, out, out_plane);
      }
    }
  });
}

template <class Device>
static void learned_round(const LearnedRound& op, const Parallel& threads) {
  op.round.shape.channels == 3 ? learned_round_rows<Device, 3>(op, threads) : learned_round_rows<Device, 0>(op, threads);
}

}  // namespace davsr
