// motion_average.h in one pass on a CPU: every neighbour is sampled once, into rows that stay in the cache until the
// weights of their cells are known.
#pragma once

#include "cpu_motion_raised.h"
#include "cpu_motion_trust.h"

namespace davsr {

constexpr int64_t kRaised = 4;  // rows of cells at every column; the last ones of a frame may all be known at once

// A frame that is averaged: where it, its neighbours and its motion lie, and where its mean goes.
template <class Real>
struct AveragedFrame {
  const Real* own;
  const Real* image[MotionShape::kMost];        // of each step; null: there is none
  const Real* motion;                           // [2, height, width], or of cells where it is raised
  const Real* speed;                            // of cells, where a network changes the weights
  Real *mean, *support;                         // their row `top`; support: null where it is not asked for
  Real *weight, *root, *texture;                // of all rows, of step 0 (the first two), or null
  int64_t plane, mean_plane, weight_step, top;  // from one channel to the next, and from one step
};

// The average of one frame in one strip, row by row.
template <class Device, class Real, int few, bool learned = false>  // few: how many channels there are, 0: any number
struct AveragePass {
  using F = typename Device::template Lanes<Real>;
  static constexpr int wide = Device::template lanes<Real>;

  const MotionShape& shape;
  const double mismatch, reach;
  const bool raised_motion;
  const int64_t channels, strips;
  const int64_t room, kept;  // kept: rows of samples from the one that is blended on
  Strip strip{};
  AveragedFrame<Real> frame{};
  int present = 0, step[MotionShape::kMost];    // numbers of the steps that lead to frames
  int64_t own_rows[2] = {}, own_cells[2] = {};  // [begin, end) of the cells whose weights nobody else writes
  SampledRow<Device, Real> row;
  CellColumns<Device, Real> columns;
  Scratch<Device, Real> samples;  // [kept][steps][channels][room]
  Scratch<Device, Real> squares;  // [steps][room], sums over the rows of a cell
  Scratch<Device, Real> raised;   // [kRaised][steps][room], the weights of rows of cells at every column
  Scratch<Device, Real> grey;     // [2][room], sums of the own brightness and of its square, where a network asks
  RaisedMotion<Device, Real> motion;
  TrustRows<Device, Real, learned> trust;
  int64_t first_weighed = 0, next_hidden = 0;  // rows of cells, of the network

  static Strip strip_of(const MotionShape& shape, int64_t number, int64_t strips) {
    return Strip::of<Real>(shape, number, strips, TrustRows<Device, Real, learned>::reach);
  }
  static int64_t widest(const MotionShape& shape, int64_t strips) {
    int64_t most = 0;
    for (int64_t n = 0; n < strips; ++n) {
      const int64_t sampled = strip_of(shape, n, strips).sampled;
      most = sampled > most ? sampled : most;
    }
    return most;
  }
  static int64_t rows_kept(const MotionShape& shape) {
    int64_t most = 1;
    for (int64_t y = 0; y < shape.height; ++y) most = needed(shape, y) - y > most ? needed(shape, y) - y : most;
    return most;
  }
  // The rows that must have been sampled before row y is blended.
  static int64_t needed(const MotionShape& shape, int64_t y) {
    int64_t last = between<Real>(y, shape.height, shape.cells_h).second + TrustRows<Device, Real, learned>::reach;
    last = last < shape.cells_h ? last : shape.cells_h - 1;
    const int64_t rows = (last + 1) * shape.cell_h;
    return rows > y + 1 ? rows : y + 1;
  }

  AveragePass(const MotionShape& of, double mismatch_of, double reach_of, bool raised_of, const Parallel& threads,
              const TrustLayers* layers = nullptr)
      : shape(of),
        mismatch(mismatch_of),
        reach(reach_of),
        raised_motion(raised_of),
        channels(few ? few : of.channels),
        strips((of.width + kStrip - 1) / kStrip),
        room(CellColumns<Device, Real>::room_for(widest(of, strips))),
        kept(rows_kept(of)),
        row(of, 0, room, threads),
        columns(of, 0, of.width, threads),
        samples(threads, kept * of.steps * channels * room),
        squares(threads, of.steps * room),
        raised(threads, kRaised * of.steps * room),
        grey(threads, learned ? 2 * room : 1),
        motion(of, raised_of ? room : wide, threads),
        trust(layers, of.steps, of.cells_w, threads) {
    Clear<Device, Real>::run(samples.data, kept * of.steps * channels * room);
  }

  void cover(int64_t number) {
    strip = strip_of(shape, number, strips);
    row.first = strip.first_sampled;
    row.count = strip.sampled;
    columns.cover(shape, strip.begin, strip.end);
    if (raised_motion) motion.cover(strip);
    own_cells[0] = strip.begin ? between<Real>(strip.begin - 1, shape.width, shape.cells_w).second + 1 : 0;
    own_cells[1] = columns.first_cell + columns.cells;
  }

  // Rows [begin, end) of a frame, all strips.
  void average(const AveragedFrame<Real>& of, int64_t begin, int64_t end) {
    frame = of;
    present = 0;
    for (int k = 0; k < shape.steps; ++k)
      if (frame.image[k]) step[present++] = k;
    for (int64_t number = 0; number < strips; ++number) {
      if (strips > 1 || strip.end == 0) cover(number);
      average_rows(begin, end);
    }
  }

  void average_rows(int64_t begin, int64_t end) {
    first_weighed = between<Real>(begin, shape.height, shape.cells_h).first;
    const int64_t first_seen = first_weighed > trust.reach ? first_weighed - trust.reach : 0;
    next_hidden = first_weighed > 1 ? first_weighed - 1 : 0;
    own_rows[0] = begin ? between<Real>(begin - 1, shape.height, shape.cells_h).second + 1 : 0;
    own_rows[1] = between<Real>(end - 1, shape.height, shape.cells_h).second + 1;
    clear_sums();
    int64_t sampled = first_seen * shape.cell_h;
    for (int64_t y = begin; y < end; ++y) {
      for (const int64_t stop = needed(shape, y); sampled < stop;) {
        const int64_t r = sampled / shape.cell_h, below = (r + 1) * shape.cell_h;
        sample_rows(sampled, below < stop ? below : stop);
        sampled = below < stop ? below : stop;
        if (sampled == below && r < shape.cells_h) weigh(r);
      }
      blend_row(y);
    }
  }

  Real* samples_of(int64_t y, int k) { return samples.data + (y % kept * shape.steps + k) * channels * room; }

  // One neighbour after the other: the rows that its samples come from stay in the first-level cache.
  void sample_rows(int64_t begin, int64_t end) {
    if (raised_motion) motion.raise(frame.motion, begin, end);
    for (int k = 0; k < present; ++k)
      for (int64_t y = begin; y < end; ++y) sample_row(y, step[k]);
    if (learned)
      for (int64_t y = begin; y < end; ++y) grey_row(y);
  }

  void grey_row(int64_t y) {
    const Real* own = frame.own + y * shape.width + strip.first_sampled;
    const Real share = static_cast<Real>(1 / static_cast<double>(channels));
    Real *sums = grey.data, *squares_of = grey.data + room;
    for (int64_t i = 0; i < strip.sampled; i += wide) {
      F sum{};
      colours(shape, [&](auto n, int64_t c) {
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) sum += load_some<Device, Real>(own + (c + j) * frame.plane + i, row.lanes(i));
      });
      sum *= share;
      Device::template put<Real, wide>(sums + i, Device::template pack<Real, wide>(sums + i) + sum);
      Device::template put<Real, wide>(squares_of + i, Device::template pack<Real, wide>(squares_of + i) + sum * sum);
    }
  }

  void sample_row(int64_t y, int k) {
    const Real* along = raised_motion ? motion.row(y) : frame.motion + y * shape.width + strip.first_sampled;
    row.locate(along, along + (raised_motion ? motion.room : shape.pixels()), y, shape.step[k]);
    const Real* own = frame.own + y * shape.width + strip.first_sampled;
    const Real* image = frame.image[k];
    Real *to = samples_of(y, k), *sums = squares.data + k * room;
    for (int64_t i = 0; i < strip.sampled; i += wide) {
      F square = Device::template pack<Real, wide>(sums + i);
      colours(shape, [&](auto n, int64_t c) {
        F value[n.value];
        if (shape.width >= kWideRow) {
          row.template fetch<n.value>(image + c * frame.plane, i, shape.cell_h);
          if (k == step[0]) look_ahead<n.value>(own + c * frame.plane + i, shape.cell_h * shape.width, frame.plane);
        }
        row.template read<n.value>(image + c * frame.plane, i, value);
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) {
          Device::template put<Real, wide>(to + (c + j) * room + i, value[j]);
          const F difference = value[j] - load_some<Device, Real>(own + (c + j) * frame.plane + i, row.lanes(i));
          square += difference * difference;
        }
      });
      Device::template put<Real, wide>(sums + i, square);
    }
  }

  void clear_sums() {
    Clear<Device, Real>::run(squares.data, shape.steps * room);
    if (learned) Clear<Device, Real>::run(grey.data, 2 * room);
  }

  // The sums of row r of cells are whole.
  void weigh(int64_t r) {
    const Real share =
        static_cast<Real>(-1 / (mismatch * mismatch * static_cast<double>(channels * shape.cell_h * shape.cell_w)));
    if constexpr (learned) see_texture(r);
    for (int each = 0; each < present; ++each) {
      const int k = step[each];
      const double frames = shape.step[k];
      const F far = Device::template splat<Real>(static_cast<Real>(-frames * frames / (2 * reach * reach)));
      Real* weights = columns.row.data;
      sum_cells(squares.data + k * room, weights);
      if constexpr (learned) see(r, k, weights);
      for (int64_t c = 0; c < strip.cells; c += wide) {
        const F log_weight = Device::template pack<Real, wide>(weights + c) * share + far;
        if constexpr (learned)
          Device::template put<Real, wide>(trust.untrusted_of(k, r) + c, log_weight);
        else
          Device::template put<Real, wide>(weights + c, Device::template exp<Real>(log_weight));
      }
      if (!learned) raise(r, k);
    }
    if constexpr (learned) trust_rows(r);
    clear_sums();
  }

  // The weights of row r of cells at every column.
  void raise(int64_t r, int k) {
    columns.raise(raised.data + (r % kRaised * shape.steps + k) * room);
    if (frame.weight) keep(columns.row.data, columns.first_cell, r, frame.weight + k * frame.weight_step);
  }

  // Row r of a number of every cell, from cell `first` on.
  void keep(const Real* cells, int64_t first, int64_t r, Real* to) const {
    if (r >= own_rows[0] && r < own_rows[1])
      __builtin_memcpy(to + r * shape.cells_w + own_cells[0], cells + own_cells[0] - first,
                       static_cast<size_t>(own_cells[1] - own_cells[0]) * sizeof(Real));
  }

  // The texture of row r of cells, and the length of its motion, as they are of every step.
  void see_texture(int64_t r) {
    const Real share = static_cast<Real>(1 / static_cast<double>(shape.cell_h * shape.cell_w));
    const int64_t next = trust.room;
    Real *texture = trust.shared.row(0, r), *square = texture + next;
    sum_cells(grey.data, texture);
    sum_cells(grey.data + room, square);
    const Real* speed = frame.speed + r * shape.cells_w + strip.first_cell;
    DAVSR_NO_ALIAS
    for (int64_t c = 0; c < strip.cells; ++c) {
      const Real own = texture[c] * share, deviation = square[c] * share - own * own;
      texture[c] = CpuPixel<Device>::template root<Real>((deviation > 0 ? deviation : 0) + kLeastDeviation);
      texture[next + c] = speed[c];
      texture[2 * next + c] = 1;
    }
    trust.shared.end_row(0, r, strip.cells);
    if (frame.texture) keep(texture, strip.first_cell, r, frame.texture);
  }

  // What the network sees of row r at step k alone, whose sums of squares are `sums`.
  void see(int64_t r, int k, const Real* sums) {
    const Real share = static_cast<Real>(1 / static_cast<double>(channels * shape.cell_h * shape.cell_w));
    Real* to = trust.root.row(k, r);
    DAVSR_NO_ALIAS
    for (int64_t c = 0; c < strip.cells; ++c) to[c] = CpuPixel<Device>::template root<Real>(sums[c] * share + kLeastMismatch);
    trust.root.end_row(k, r, strip.cells);
    if (frame.root) keep(to, strip.first_cell, r, frame.root + k * frame.weight_step);
  }

  // Row r of cells was seen: the rows that are hidden behind it, and the weights that follow from them.
  void trust_rows(int64_t r) {
    const int64_t last = shape.cells_h - 1;
    const auto weights_of = [&](int64_t at) {
      if (at < first_weighed) return;
      for (int each = 0; each < present; ++each) {
        const Real* log_weights = trust.trusted(step[each], at, strip.cells, shape.cells_h);
        log_weights += columns.first_cell - strip.first_cell;
        for (int64_t c = 0; c < columns.cells; c += wide)
          Device::template put<Real, wide>(columns.row.data + c,
                                           Device::template exp<Real>(Device::template pack<Real, wide>(log_weights + c)));
        raise(at, step[each]);
      }
    };
    for (; next_hidden < r || (r == last && next_hidden == last); ++next_hidden) {
      trust.hide(present, step, shape.step, next_hidden, strip.cells, shape.cells_h);
      weights_of(next_hidden - 1);
      if (next_hidden == last) weights_of(last);
    }
  }

  DAVSR_FN void sum_cells(const Real* from, Real* to) {
    if (shape.cell_w == 4)
      sum_cells_of<4>(from, to);
    else
      sum_cells_of<0>(from, to);
  }
  template <int cell_w>
  DAVSR_FN void sum_cells_of(const Real* from, Real* to) {
    const int64_t width = cell_w ? cell_w : shape.cell_w;
    DAVSR_NO_ALIAS
    for (int64_t c = 0; c < strip.cells; ++c) {
      Real sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += from[c * width + i];
      to[c] = sum;
    }
  }

  void blend_row(int64_t y) {
    const Between<Real> at = between<Real>(y, shape.height, shape.cells_h);
    const int64_t pixel = y * shape.width + strip.begin, shift = strip.begin - strip.first_sampled;
    const Real *sampled[MotionShape::kMost], *upper[MotionShape::kMost], *lower[MotionShape::kMost];
    for (int k = 0; k < present; ++k) {
      sampled[k] = samples_of(y, step[k]) + shift;
      upper[k] = raised.data + (at.first % kRaised * shape.steps + step[k]) * room;
      lower[k] = raised.data + (at.second % kRaised * shape.steps + step[k]) * room;
    }
    const F down = Device::template splat<Real>(at.beyond);
    const int64_t count = strip.end - strip.begin, plane = frame.plane, mean_plane = frame.mean_plane;
    const Real* own = frame.own + pixel;
    Real* mean = frame.mean + pixel - frame.top * shape.width;
    Real* support = frame.support ? frame.support + pixel - frame.top * shape.width : nullptr;
    for (int64_t i = 0; i < count; i += wide) {
      const int some = static_cast<int>(count - i < wide ? count - i : wide);
      colours(shape, [&](auto n, int64_t c) {
        F sum = Device::template splat<Real>(1), total[n.value];
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) total[j] = load_some<Device, Real>(own + (c + j) * plane + i, some);
        for (int k = 0; k < present; ++k) {
          const F high = Device::template pack<Real, wide>(upper[k] + i);
          const F weight = high + down * (Device::template pack<Real, wide>(lower[k] + i) - high);
          sum += weight;
#pragma GCC unroll 3
          for (int j = 0; j < n.value; ++j)
            total[j] += weight * Device::template pack<Real, wide>(sampled[k] + (c + j) * room + i);
        }
        if (support && c == 0) store_some<Device, Real>(support + i, sum, some);
        const F share = Real(1) / sum;
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) store_some<Device, Real>(mean + (c + j) * mean_plane + i, total[j] * share, some);
      });
    }
  }
};

}  // namespace davsr
