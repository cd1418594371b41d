// The gradient of cpu_detail.h, as often over the frames: first that of the hidden layer, then that of the frames, each
// with those of the layer that is between. No sum depends on the threads.
#pragma once

#include "cpu_detail.h"

namespace davsr {

constexpr int64_t kDetailParts = 16;  // of the frames at most, whose sums are added up at the end
constexpr int64_t kPartGroups = 4;    // of a part at least, where there are more

// As many for every number of threads, and even.
static DAVSR_FN int64_t detail_parts(const TileGroups& all) {
  const int64_t fit = all.count() / kPartGroups / 2 * 2;
  return fit < 1 ? 1 : fit < kDetailParts ? fit : kDetailParts;
}

// visit(part, whether it begins, group) for the groups of parts [begin, end).
template <class Visit>
static DAVSR_FN void groups_of_parts(const TileGroups& all, int64_t parts, int64_t begin, int64_t end, const Visit& visit) {
  for (int64_t part = begin; part < end; ++part) {
    const int64_t first = all.count() * part / parts, stop = all.count() * (part + 1) / parts;
    for (int64_t unit = first; unit < stop; ++unit) visit(part, unit == first, all.group(unit));
  }
}

// A layer [made, seen, 3, 3] back: of a group that of what it saw goes to a visitor, see PointLayer::convolve, and what
// its weights have to the sums of a part.
template <class Device>
struct LayerBack {
  const LayerSums<Device>& sums;
  const PointLayer<Device>& layer;
  CellWindow<Device> given, seen;  // the gradient of what it made, and what it saw
  const TilePoints<Device> back, slope, from, to;

  LayerBack(const LayerSums<Device>& of, const PointLayer<Device>& transposed, const TileGroups& all, const Parallel& threads)
      : sums(of),
        layer(transposed),
        given(all, of.made, threads),
        seen(all, of.seen, threads),
        back(of.made, threads),
        slope(of.made, threads),
        from(of.seen, threads),
        to(of.seen, threads) {}

  template <class Visit>
  void run(const TileGroups& all, const TileGroups::Group& group, int64_t part, bool begins, const Visit& visit) const {
    all.blocks(group, [&](const TileGroups::Block& block) {
      all.each(block, [&](int64_t i, int64_t y, int64_t x) {
        back.see(given, i, y, x);
        slope.see_gradient(given, i, y, x);
        from.see(seen, i, y, x);
      });
      sums.add(part, begins && block.first == 0, from, slope, block.count);
      layer.convolve(all, block, back, to, visit);
    });
  }
};

// Of the hidden layer, and what the last one has of every part.
template <class Device>
static void hidden_gradient(const DetailBackward& op, const DetailFrames<Device>& frames, const LayerSums<Device>& sums,
                            float* d_hidden, const Parallel& threads) {
  using F = typename Device::template Lanes<float>;
  const PointLayer<Device> transposed(op.last, sums.made, sums.seen, true, threads);
  parallel<Device>(threads, sums.parts, [&](int64_t begin, int64_t end) {
    LayerBack<Device> layer(sums, transposed, frames.all, threads);
    groups_of_parts(frames.all, sums.parts, begin, end, [&](int64_t part, bool begins, const TileGroups::Group& group) {
      frames.see_pixels(layer.given, group, op.grad, nullptr, 0);
      frames.see_hidden(layer.seen, group, op.hidden_cells);
      layer.run(frames.all, group, part, begins, [&](int64_t y, int64_t x, int64_t c, const auto& made) {
        frames.each_hidden(group.frame, y, x, c, [&](int64_t at, int64_t r, int64_t k, int some) {
          const F there = load_some<Device, float>(op.hidden_cells + at, some);
          store_some<Device, float>(d_hidden + at, there > 0.0f ? made[r][k] : F{}, some);
        });
      });
    });
  });
}

// Of the frames, their support, and the step of every row, and what the first layer has of every part.
template <class Device, int few>
static void frame_gradient(const DetailBackward& op, const DetailFrames<Device>& frames, const LayerSums<Device>& sums,
                           const float* d_hidden, float* d_step, const Parallel& threads) {
  using F = typename Device::template Lanes<float>;
  const PointLayer<Device> transposed(op.first, sums.made, sums.seen, true, threads);
  parallel<Device>(threads, sums.parts, [&](int64_t begin, int64_t end) {
    LayerBack<Device> layer(sums, transposed, frames.all, threads);
    const MadeCells<Device> added(frames.all, sums.seen, threads);
    FlattenedGroups<Device, true, few> flattened(op.shape, *op.step, op.flat, threads);
    groups_of_parts(frames.all, sums.parts, begin, end, [&](int64_t part, bool begins, const TileGroups::Group& group) {
      flattened.run(group, op.mean, op.grad, op.d_mean, d_step);
      frames.see_hidden(layer.given, group, d_hidden);
      frames.see_pixels(layer.seen, group, op.mean, op.support, op.level);
      layer.run(frames.all, group, part, begins,
                [&](int64_t y, int64_t x, int64_t c, const auto& made) { added.put(y - group.top, x, c, made, F{}); });
      frames.add_pixels(added, group, op.d_mean, op.d_support);
    });
  });
}

template <class Device, int few>
static void detail_backward_frames(const DetailBackward& op, const Parallel& threads) {
  const DetailFrames<Device> frames(op.shape, op.hidden);
  const int64_t parts = detail_parts(frames.all), rows = frames.all.frames * op.shape.height;
  const LayerSums<Device> first(parts, op.hidden, frames.pixels + 1, threads), last(parts, frames.pixels, op.hidden, threads);
  Scratch<Device, float> d_hidden(threads, frames.hidden_at(frames.all.frames, 0, 0)), d_step(threads, rows);
  hidden_gradient<Device>(op, frames, last, d_hidden.data, threads);
  frame_gradient<Device, few>(op, frames, first, d_hidden.data, d_step.data, threads);
  parallel<Device>(threads, first.seen + last.seen, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      if (c < first.seen)
        first.write(c, op.d_first, op.d_first_bias);
      else
        last.write(c - first.seen, op.d_last, op.d_last_bias);
  });
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row) sum += d_step.data[row];
  *op.d_step = static_cast<float>(sum);
}

template <class Device>
static void detail_backward(const DetailBackward& op, const Parallel& threads) {
  op.shape.channels == 3 ? detail_backward_frames<Device, 3>(op, threads) : detail_backward_frames<Device, 0>(op, threads);
}

}  // namespace davsr
