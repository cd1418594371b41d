// Frames between two others: both moved to it, and blended. Vectors of pixels, row by row.
#pragma once

#include "cpu_motion_average.h"

namespace davsr {

constexpr int64_t kRowsAhead = 4;  // that samples are asked for, see SampledRow::fetch

// Rows of a flow raised to the pixels of a finer grid, bilinearly and half-pixel, in pixels of that grid.
template <class Device>
struct FlowRows {
  static constexpr int64_t pad = 16;  // what a last vector reads past the row
  const MotionShape& shape;
  int64_t row;  // of the buffer
  Scratch<Device, float> raised, beyond, line;
  Scratch<Device, int32_t> column;

  FlowRows(const MotionShape& of, const Parallel& threads)
      : shape(of),
        row(of.width + pad),
        raised(threads, 2 * row),
        beyond(threads, of.width),
        line(threads, of.cells_w),
        column(threads, 2 * of.width) {
    Clear<Device, float>::run(raised.data, 2 * row);
    for (int64_t x = 0; x < of.width; ++x) {
      const Between<float> at = between<float>(x, of.width, of.cells_w);
      column.data[2 * x] = static_cast<int32_t>(at.first);
      column.data[2 * x + 1] = static_cast<int32_t>(at.second);
      beyond.data[x] = at.beyond;
    }
  }
  // Row y of a flow [2, cells_h, cells_w]: [2][row], dx and dy.
  const float* at(const float* flow, int64_t y) {
    const Between<float> v = between<float>(y, shape.height, shape.cells_h);
    const float finer[2] = {static_cast<float>(shape.width) / static_cast<float>(shape.cells_w),
                            static_cast<float>(shape.height) / static_cast<float>(shape.cells_h)};
    for (int i = 0; i < 2; ++i, flow += shape.cells()) {
      const float *first = flow + v.first * shape.cells_w, *second = flow + v.second * shape.cells_w;
      for (int64_t x = 0; x < shape.cells_w; ++x) line.data[x] = finer[i] * (first[x] + v.beyond * (second[x] - first[x]));
      float* to = raised.data + i * row;
      for (int64_t x = 0; x < shape.width; ++x) {
        const float left = line.data[column.data[2 * x]];
        to[x] = left + beyond.data[x] * (line.data[column.data[2 * x + 1]] - left);
      }
    }
    return raised.data;
  }
};

// Adds `share` of one frame, moved along a row of a flow, to a row of every channel; or begins the row with it.
template <class Device>
static DAVSR_FN void add_moved(const WarpBetween& op, SampledRow<Device, float>& row, const float* frame, const float* flow,
                               int64_t flow_row, int64_t y, float share, bool begins, float* out) {
  using F = typename Device::template Lanes<float>;
  constexpr int wide = Device::template lanes<float>;
  const MotionShape& shape = op.shape;
  const F part = Device::template splat<float>(share);
  row.locate(flow, flow + flow_row, y, 1);
  for (int64_t x = 0; x < shape.width; x += wide) {
    const int count = row.lanes(x);
    const auto some = [&](auto n, int64_t c) {
      F value[n.value];
      const float* image = frame + c * shape.pixels();
      if (shape.width >= kWideRow) row.template fetch<n.value>(image, x, kRowsAhead);
      row.template read<n.value>(image, x, value);
#pragma GCC unroll 3
      for (int i = 0; i < n.value; ++i) {
        float* to = out + (c + i) * op.out_channel + x;
        const F moved = part * value[i];
        store_some<Device, float>(to, begins ? moved : moved + load_some<Device, float>(to, count), count);
      }
    };
    int64_t c = 0;
    for (; c + 3 <= shape.channels; c += 3) some(Colours<3>{}, c);
    for (; c < shape.channels; ++c) some(Colours<1>{}, c);
  }
}

template <class Device>
static void warp_between(const WarpBetween& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t frame = shape.channels * shape.pixels();
  parallel<Device>(threads, shape.batch * op.count * shape.height, [&](int64_t begin, int64_t end) {
    FlowRows<Device> flows(shape, threads);
    MotionShape alone = shape;  // a frame by itself, whose channels follow each other
    alone.frames = 1;
    SampledRow<Device, float> row(alone, 0, shape.width, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % shape.height, n = unit / shape.height % op.count, b = unit / shape.height / op.count;
      const int64_t low = op.low[n], high = low + 1 < shape.frames ? low + 1 : low;
      const int64_t flow = (b * op.count + n) * 2 * shape.cells();
      const auto share = static_cast<float>(op.share[n]);
      float* out = op.out + b * op.out_batch + n * op.out_frame + y * shape.width;
      const float* video = op.video + b * shape.frames * frame;
      add_moved<Device>(op, row, video + low * frame, flows.at(op.before + flow, y), flows.row, y, 1 - share, true, out);
      if (share != 0)
        add_moved<Device>(op, row, video + high * frame, flows.at(op.after + flow, y), flows.row, y, share, false, out);
    }
  });
}

}  // namespace davsr
