// The step down the total variation of frames, and what a network of two 3x3 convolutions over their cells of 4x4
// pixels adds to it, on a CPU. Twice over the frames, as the last layer sees the hidden one around every cell; cells
// are made where they are needed, and what comes of them is added to pixels that are in the cache.
#pragma once

#include "cpu_cell_groups.h"
#include "cpu_cell_rows.h"
#include "cpu_flatten.h"
#include "cpu_motion_sample.h"

namespace davsr {

// What a layer makes of a group, cell by cell, before it goes to pixels.
template <class Device>
struct MadeCells {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;

  const int64_t pad, room;
  Scratch<Device, float> data;

  MadeCells(const TileGroups& all, int64_t numbers, const Parallel& threads)
      : pad(round_up(numbers, kPad)), room(kTileCells * all.across * pad), data(threads, kTileCells * all.together * room) {}

  // Row r of cells, from the group's first one on.
  const float* row(int64_t r) const { return data.data + r * room; }
  // Channels of tile (y, x) from c on, rows of tiles from the group's first one on.
  void put(int64_t y, int64_t x, int64_t c, const F (&made)[kTileCells][kTileCells], F bias) const {
    for (int64_t r = 0; r < kTileCells; ++r)
      for (int64_t k = 0; k < kTileCells; ++k)
        Device::template put<float, wide>(data.data + (kTileCells * y + r) * room + (kTileCells * x + k) * pad + c,
                                          made[r][k] + bias);
  }
};

// The frames that detail is found in: their pixels and their hidden layer [cells_h, cells_w, hidden] in cells.
template <class Device>
struct DetailFrames {
  using Group = TileGroups::Group;
  static constexpr int wide = Device::template lanes<float>;

  const MotionShape& shape;
  const int64_t pixels, hidden;  // numbers of a cell
  const TileGroups all;

  DetailFrames(const MotionShape& of, int64_t of_hidden)
      : shape(of), pixels(kCellSide * kCellSide * of.channels), hidden(of_hidden), all(of) {}

  CellRow<Device> cells(const Group& group, int64_t r) const { return CellRow<Device>(shape, group.frame * all.cells_h + r); }

  // What a group sees of frames x, and of their support, if there is one: with it frames go on beyond their end as they
  // end, without it there are zeros.
  void see_pixels(CellWindow<Device>& window, const Group& group, const float* x, const float* support, float level) const {
    window.slide(group, [&](int64_t r, float* row) {
      row_to_cells(cells(group, r), x, support, level, support != nullptr, row, window.pad);
    });
  }
  // The transpose.
  void add_pixels(const MadeCells<Device>& made, const Group& group, float* x, float* support) const {
    const int64_t first = kTileCells * group.top, stop = kTileCells * group.stop;
    for (int64_t r = first; r < stop && r < all.cells_h; ++r)
      cells_to_row(cells(group, r), made.row(r - first), made.pad, support != nullptr, x, support);
  }

  int64_t hidden_at(int64_t frame, int64_t r, int64_t x) const { return ((frame * all.cells_h + r) * all.cells_w + x) * hidden; }
  void see_hidden(CellWindow<Device>& window, const Group& group, const float* from) const {
    const int64_t together = window.pad == hidden ? all.cells_w : 1;  // cells
    window.slide(group, [&](int64_t r, float* row) {
      for (int64_t x = 0; x < all.cells_w; x += together)
        __builtin_memcpy(row + x * window.pad, from + hidden_at(group.frame, r, x),
                         static_cast<size_t>(together * hidden) * sizeof(float));
    });
  }
  // visit(where, row, cell, how many) for the cells of tile (y, x) that are inside of the frame, hidden channels from c
  // on.
  template <class Visit>
  void each_hidden(int64_t frame, int64_t y, int64_t x, int64_t c, const Visit& visit) const {
    const int some = static_cast<int>(hidden - c < wide ? hidden - c : wide);
    for (int64_t r = 0; r < kTileCells && kTileCells * y + r < all.cells_h; ++r)
      for (int64_t k = 0; k < kTileCells && kTileCells * x + k < all.cells_w; ++k)
        visit(hidden_at(frame, kTileCells * y + r, kTileCells * x + k) + c, r, k, some);
  }
};

// Steps down the total variation of groups of rows, or their gradients.
template <class Device, bool gradient, int few>
struct FlattenedGroups {
  const MotionShape& shape;
  FlattenedRows<Device, float, gradient, few> rows;
  int64_t next = -1;  // the row after the last one, counted through all frames

  FlattenedGroups(const MotionShape& of, float step, float flat, const Parallel& threads)
      : shape(of), rows(of.channels, of.width, step, flat, threads) {}

  // grad, d_step (of every row): where gradients are made.
  void run(const TileGroups::Group& group, const float* x, const float* grad, float* out, float* d_step) {
    const int64_t tall = kTileCells * kCellSide, stop = tall * group.stop < shape.height ? tall * group.stop : shape.height;
    for (int64_t y = tall * group.top; y < stop; ++y) {
      const int64_t at = shape.at(group.frame / shape.frames, group.frame % shape.frames) + y * shape.width;
      const int64_t number = group.frame * shape.height + y;
      const float sum = rows.run(x + at, gradient ? grad + at : nullptr, shape.plane(), out + at, shape.plane(), y > 0,
                                 y + 1 < shape.height, number == next);
      if (gradient) d_step[number] = sum;
      next = number + 1;
    }
  }
};

// Channels of a layer's bias from c on.
template <class Device>
static DAVSR_FN typename Device::template Lanes<float> bias_at(const float* bias, int64_t c, int64_t channels) {
  constexpr int wide = Device::template lanes<float>;
  return load_some<Device, float>(bias + c, static_cast<int>(channels - c < wide ? channels - c : wide));
}

template <class Device>
static void hide_cells(const Detail& op, const DetailFrames<Device>& frames, const Parallel& threads) {
  const PointLayer<Device> layer(op.first, op.hidden, frames.pixels + 1, false, threads);
  parallel<Device>(threads, frames.all.count(), [&](int64_t begin, int64_t end) {
    CellWindow<Device> seen(frames.all, frames.pixels + 1, threads);
    const TilePoints<Device> from(frames.pixels + 1, threads), to(op.hidden, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const auto group = frames.all.group(unit);
      frames.see_pixels(seen, group, op.mean, op.support, op.level);
      frames.all.blocks(group, [&](const TileGroups::Block& block) {
        frames.all.each(block, [&](int64_t i, int64_t y, int64_t x) { from.see(seen, i, y, x); });
        layer.convolve(frames.all, block, from, to, [&](int64_t y, int64_t x, int64_t c, const auto& made) {
          const auto bias = bias_at<Device>(op.first_bias, c, op.hidden);
          frames.each_hidden(group.frame, y, x, c, [&](int64_t at, int64_t r, int64_t k, int some) {
            store_some<Device, float>(op.hidden_cells + at, rectified(made[r][k] + bias), some);
          });
        });
      });
    }
  });
}

template <class Device, int few>
static void detail_frames(const Detail& op, const Parallel& threads) {
  const DetailFrames<Device> frames(op.shape, op.hidden);
  hide_cells<Device>(op, frames, threads);
  const PointLayer<Device> layer(op.last, frames.pixels, op.hidden, false, threads);
  parallel<Device>(threads, frames.all.count(), [&](int64_t begin, int64_t end) {
    CellWindow<Device> seen(frames.all, op.hidden, threads);
    const TilePoints<Device> from(op.hidden, threads), to(frames.pixels, threads);
    const MadeCells<Device> added(frames.all, frames.pixels, threads);
    FlattenedGroups<Device, false, few> flattened(op.shape, *op.step, op.flat, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const auto group = frames.all.group(unit);
      flattened.run(group, op.mean, nullptr, op.out, nullptr);
      frames.see_hidden(seen, group, op.hidden_cells);
      frames.all.blocks(group, [&](const TileGroups::Block& block) {
        frames.all.each(block, [&](int64_t i, int64_t y, int64_t x) { from.see(seen, i, y, x); });
        layer.convolve(frames.all, block, from, to, [&](int64_t y, int64_t x, int64_t c, const auto& made) {
          added.put(y - group.top, x, c, made, bias_at<Device>(op.last_bias, c, frames.pixels));
        });
      });
      frames.add_pixels(added, group, op.out, nullptr);
    }
  });
}

template <class Device>
static void detail(const Detail& op, const Parallel& threads) {
  op.shape.channels == 3 ? detail_frames<Device, 3>(op, threads) : detail_frames<Device, 0>(op, threads);
}

}  // namespace davsr
