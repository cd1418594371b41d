// The gradient of the average along a motion whose weights a network changes, on a CPU. As in
// cpu_motion_average_gradient.h, with the network between: of cells, d log w_s = d_w_s w_s goes to the mismatch and
// through the network to its root, to the texture, and to the layers. No sum depends on the threads.
#pragma once

#include "cpu_cell_planes.h"
#include "cpu_motion_average_gradient.h"
#include "cpu_motion_trust.h"

namespace davsr {

// Of one frame: the network again, and back.
template <class Device>
struct TrustGradient {
  using F = typename Device::template Lanes<float>;
  using Planes = CellPlanes<Device>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int block = 8;        // channels that are made at a time
  static constexpr int seen_slopes = 2;  // of the root of the mismatch, and of the texture

  const TrustedAverageBackward& op;
  const MotionShape& shape;
  const TrustLayers& layers;
  Planes seen, hidden, second, slope, factor;  // second, slope: the layer behind, then the gradients
  WeightSums<Device> first_sums, second_sums;
  Scratch<Device, float> last_sums;  // [hidden + 1, wide]

  TrustGradient(const TrustedAverageBackward& of, const Parallel& threads)
      : op(of),
        shape(of.shape),
        layers(of.layers),
        seen(kTrustSees, of.shape.cells_h, of.shape.cells_w, threads),
        hidden(of.layers.hidden, of.shape.cells_h, of.shape.cells_w, threads),
        second(of.layers.hidden, of.shape.cells_h, of.shape.cells_w, threads),
        slope(of.layers.hidden, of.shape.cells_h, of.shape.cells_w, threads),
        factor(1, of.shape.cells_h, of.shape.cells_w, threads),
        first_sums(kTrustSees, of.layers.hidden, threads),
        second_sums(of.layers.hidden, of.layers.hidden, threads),
        last_sums(threads, (of.layers.hidden + 1) * wide) {}

  void run(int64_t b, int64_t p, float* d_layers) {
    const int64_t frame = (b * shape.frames + p) * shape.cells();
    first_sums.clear();
    second_sums.clear();
    Clear<Device, float>::run(last_sums.data, (layers.hidden + 1) * wide);
    Clear<Device, float>::run(op.d_texture + frame, shape.cells());
    for (int k = 0; k < shape.steps; ++k) {
      if (!shape.has(p + shape.step[k])) continue;
      const int64_t cells = shape.cell_at(b, k, p);
      see(k, op.root + cells, op.texture + frame, op.speed + frame);
      for (int64_t r = 0; r < seen.tall; ++r) rectify(seen, r, layers.first, layers.first_bias, hidden);
      for (int64_t r = 0; r < seen.tall; ++r) {
        rectify(hidden, r, layers.second, layers.second_bias, second);
        end(r, op.d_error + cells + r * shape.cells_w);
      }
      for (int64_t r = 0; r < seen.tall; ++r) back_through(r);
      second_sums.add(hidden, second);
      first_sums.add(seen, slope);
      for (int64_t r = 0; r < seen.tall; ++r)
        leave(r, op.root + cells + r * shape.cells_w, op.d_error + cells + r * shape.cells_w,
              op.d_texture + frame + r * shape.cells_w);
    }
    first_sums.write(d_layers);
    second_sums.write(d_layers + first_sums.numbers());
    float* last = d_layers + first_sums.numbers() + second_sums.numbers();
    for (int64_t j = 0; j <= layers.hidden; ++j)
      last[j] = Device::template sum<float, wide>(Device::template pack<float, wide>(last_sums.data + j * wide));
  }

  void see(int k, const float* root, const float* texture, const float* speed) {
    const float distance = static_cast<float>(shape.step[k] < 0 ? -shape.step[k] : shape.step[k]);
    for (int64_t r = 0; r < seen.tall; ++r, root += seen.cells, texture += seen.cells, speed += seen.cells) {
      __builtin_memcpy(seen.row(0, r), root, static_cast<size_t>(seen.cells) * sizeof(float));
      __builtin_memcpy(seen.row(1, r), texture, static_cast<size_t>(seen.cells) * sizeof(float));
      float *along = seen.row(2, r), *far = seen.row(3, r);
      for (int64_t c = 0; c < seen.cells; ++c) {
        along[c] = distance * speed[c];
        far[c] = distance;
      }
    }
  }

  void rectify(const Planes& from, int64_t r, const float* weight, const float* bias, const Planes& to) const {
    from.template convolve<block>(r, weight, bias, layers.hidden, [&](int64_t at, int64_t x, const auto& sum) {
      for (int v = 0; v < Planes::vectors; ++v)
        for (int j = 0; j < block; ++j) Device::template put<float, wide>(to.row(at + j, r) + x + v * wide, rectified(sum[v][j]));
    });
    for (int64_t j = 0; j < layers.hidden; ++j) to.end_row(j, r);
  }

  // Row r of the logarithms of the factors: their gradient, that of the last layer, and of what that sums, in its
  // place.
  void end(int64_t r, const float* d_log) {
    float* given = factor.row(0, r);
    __builtin_memcpy(given, d_log, static_cast<size_t>(factor.cells) * sizeof(float));
    const F low = Device::template splat<float>(layers.low), high = Device::template splat<float>(layers.high);
    float* of_bias = last_sums.data + layers.hidden * wide;
    F bias = Device::template pack<float, wide>(of_bias);
    for (int64_t x = 0; x < factor.cells; x += wide) {
      F sum = Device::template splat<float>(layers.last_bias);
      for (int64_t j = 0; j < layers.hidden; ++j)
        sum += Device::template pack<float, wide>(second.row(j, r) + x) * layers.last[j];
      F slope_of = Device::template pack<float, wide>(given + x);
      slope_of = sum < low ? F{} : slope_of;
      slope_of = sum > high ? F{} : slope_of;
      bias += slope_of;
      Device::template put<float, wide>(given + x, slope_of);
    }
    Device::template put<float, wide>(of_bias, bias);
    for (int64_t j = 0; j < layers.hidden; ++j) {
      float *here = second.row(j, r), *of_last = last_sums.data + j * wide;
      F sum = Device::template pack<float, wide>(of_last);
      for (int64_t x = 0; x < factor.cells; x += wide) {
        const F value = Device::template pack<float, wide>(here + x), d = Device::template pack<float, wide>(given + x);
        sum += value * d;
        Device::template put<float, wide>(here + x, value > 0.0f ? d * layers.last[j] : F{});
      }
      Device::template put<float, wide>(of_last, sum);
    }
  }

  // The gradient of row r of the first hidden layer.
  void back_through(int64_t r) const {
    second.template convolve<block>(r, op.second_turned, nullptr, layers.hidden, [&](int64_t at, int64_t x, const auto& sum) {
      for (int v = 0; v < Planes::vectors; ++v)
        for (int j = 0; j < block; ++j) {
          const F value = Device::template pack<float, wide>(hidden.row(at + j, r) + x + v * wide);
          Device::template put<float, wide>(slope.row(at + j, r) + x + v * wide, value > 0.0f ? sum[v][j] : F{});
        }
    });
    for (int64_t j = 0; j < layers.hidden; ++j) slope.end_row(j, r);
  }

  // Of d log w of row r, that of the mismatch; and what the texture has of it.
  void leave(int64_t r, const float* root, float* d_error, float* d_texture) const {
    const F share = Device::template splat<float>(static_cast<float>(-1 / (op.mismatch * op.mismatch)));
    slope.template convolve<seen_slopes>(r, op.first_turned, nullptr, seen_slopes, [&](int64_t, int64_t x, const auto& sum) {
      for (int v = 0; v < Planes::vectors; ++v) {
        const int64_t at = x + v * wide, left = seen.cells - at;
        if (left <= 0) break;
        const int some = static_cast<int>(left < wide ? left : wide);
        const F half = 0.5f / load_some<Device, float>(root + at, some);
        store_some<Device, float>(d_error + at, load_some<Device, float>(d_error + at, some) * share + half * sum[v][0], some);
        store_some<Device, float>(d_texture + at, load_some<Device, float>(d_texture + at, some) + sum[v][1], some);
      }
    });
  }
};

// What a frame's own pixels have of the mean, of their mismatch and of their texture, and what its samples have: of a
// row of cells, and below the last one.
template <class Device, int few>
struct OwnGradient {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;

  const TrustedAverageBackward& op;
  const MotionShape& shape;
  const KeptSamples<Device, float>& samples;
  const int64_t channels, room;
  RaisedWeights<Device, float> weights;
  Scratch<Device, float> spread;            // [steps + 2][room]: D, then a slope and a level of the brightness
  Scratch<Device, float> cells, own_cells;  // a row of them

  OwnGradient(const TrustedAverageBackward& of, const KeptSamples<Device, float>& kept, const Parallel& threads)
      : op(of),
        shape(of.shape),
        samples(kept),
        channels(few ? few : of.shape.channels),
        room(of.shape.width + 2 * wide),
        weights(of.shape, of.weight, threads),
        spread(threads, (of.shape.steps + 2) * room),
        cells(threads, of.shape.cells_w),
        own_cells(threads, of.shape.cells_w) {
    Clear<Device, float>::run(spread.data, (shape.steps + 2) * room);  // and so it stays beyond the last cell
  }

  void run(int64_t b, int64_t p, int64_t r) {
    int present = 0, step[MotionShape::kMost];
    const float count = static_cast<float>(shape.cell_h * shape.cell_w), colours_of = static_cast<float>(channels);
    for (int k = 0; k < shape.steps; ++k) {
      if (!shape.has(p + shape.step[k])) continue;
      const float* d_error = op.d_error + shape.cell_at(b, k, p) + r * shape.cells_w;
      for (int64_t c = 0; c < shape.cells_w; ++c) cells.data[c] = d_error[c] * (2 / (count * colours_of));
      spread_cells<Device, float>(cells.data, shape.cells_w, shape.cell_w, spread.data + present * room);
      step[present++] = k;
    }
    texture_of(b, p, r, count, colours_of);
    for (int64_t y = r * shape.cell_h; y < (r + 1) * shape.cell_h; ++y) add_row(b, p, y, present, step);
    if (r + 1 < shape.cells_h) return;
    Clear<Device, float>::run(spread.data, (shape.steps + 2) * room);  // there is no cell
    for (int64_t y = (r + 1) * shape.cell_h; y < shape.height; ++y) add_row(b, p, y, present, step);
  }

  // With t = sqrt(mean of g^2 - (mean of g)^2 + least) of the brightness g: d g = d_t (g - mean of g) / (pixels t).
  void texture_of(int64_t b, int64_t p, int64_t r, float count, float colours_of) {
    const int64_t frame = (b * shape.frames + p) * shape.cells() + r * shape.cells_w;
    const float least = __builtin_sqrtf(kLeastDeviation);
    for (int64_t c = 0; c < shape.cells_w; ++c) own_cells.data[c] = 0;
    for (int64_t y = r * shape.cell_h; y < (r + 1) * shape.cell_h; ++y)
      for (int64_t i = 0; i < channels; ++i) {
        const float* from = op.a + shape.at(b, p) + i * shape.plane() + y * shape.width;
        for (int64_t c = 0; c < shape.cells_w; ++c)
          for (int64_t x = 0; x < shape.cell_w; ++x) own_cells.data[c] += from[c * shape.cell_w + x];
      }
    for (int64_t c = 0; c < shape.cells_w; ++c) {
      const float texture = op.texture[frame + c], mean = own_cells.data[c] / (count * colours_of);
      const float slope = texture > least ? op.d_texture[frame + c] / (count * texture * colours_of) : 0;
      cells.data[c] = slope / colours_of;  // of the sum of the colours
      own_cells.data[c] = -slope * mean;
    }
    spread_cells<Device, float>(cells.data, shape.cells_w, shape.cell_w, spread.data + shape.steps * room);
    spread_cells<Device, float>(own_cells.data, shape.cells_w, shape.cell_w, spread.data + (shape.steps + 1) * room);
  }

  // Samples n become their gradients w g + D (n - a_p).
  void add_row(int64_t b, int64_t p, int64_t y, int present, const int* step) {
    const int64_t first = shape.at(b, p) + y * shape.width, plane = shape.plane();
    const float* support = op.support + (b * shape.frames + p) * shape.pixels() + y * shape.width;
    const float *slope = spread.data + shape.steps * room, *level = slope + room;
    float* sampled[MotionShape::kMost];
    typename RaisedWeights<Device, float>::Row weight[MotionShape::kMost];
    for (int k = 0; k < present; ++k) {
      sampled[k] = samples.row(b, p, step[k], y);
      weight[k] = weights.row(b, p, step[k], y);
    }
    for (int64_t i = 0; i < shape.width; i += wide) {
      const int some = static_cast<int>(shape.width - i < wide ? shape.width - i : wide);
      const F share = 1.0f / load_some<Device, float>(support + i, some);
      F turn{};
      for (int64_t c = 0; c < channels; ++c) turn += load_some<Device, float>(op.a + first + c * plane + i, some);
      turn = turn * Device::template pack<float, wide>(slope + i) + Device::template pack<float, wide>(level + i);
      colours(shape, [&](auto n, int64_t c) {
        F sum[n.value], own[n.value], g[n.value];
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) {
          own[j] = load_some<Device, float>(op.a + first + (c + j) * plane + i, some);
          g[j] = load_some<Device, float>(op.d_mean + first + (c + j) * plane + i, some) * share;
          sum[j] = g[j] + turn;
        }
        for (int k = 0; k < present; ++k) {
          look_ahead<n.value>(sampled[k] + c * samples.room + i, shape.cell_h * channels * samples.room, samples.room);
          const F d = Device::template pack<float, wide>(spread.data + k * room + i), w = weight[k].at(i);
#pragma GCC unroll 3
          for (int j = 0; j < n.value; ++j) {
            float* sample = sampled[k] + (c + j) * samples.room + i;
            const F apart = d * (Device::template pack<float, wide>(sample) - own[j]);
            sum[j] -= apart;
            Device::template put<float, wide>(sample, w * g[j] + apart);
          }
        }
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) store_some<Device, float>(op.d_a + first + (c + j) * plane + i, sum[j], some);
      });
    }
  }
};

template <class Device, int few>
static void trusted_average_backward_frames(const TrustedAverageBackward& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t frames = shape.batch * shape.frames, numbers = op.layer_numbers();
  const KeptSamples<Device, float> samples(shape, op.samples);
  const MotionAverageBackward average{shape,     op.a,         op.motion, op.weight,  op.mean,    op.support,
                                      op.d_mean, op.d_support, op.d_a,    op.d_error, op.mismatch};
  weight_gradients<Device, float, few, true>(average, &samples, threads);
  parallel<Device>(threads, frames, [&](int64_t begin, int64_t end) {
    TrustGradient<Device> network(op, threads);
    for (int64_t n = begin; n < end; ++n) network.run(n / shape.frames, n % shape.frames, op.d_layers_parts + n * numbers);
  });
  for (int64_t i = 0; i < numbers; ++i) op.d_layers[i] = 0;
  for (int64_t n = 0; n < frames; ++n)
    for (int64_t i = 0; i < numbers; ++i) op.d_layers[i] += op.d_layers_parts[n * numbers + i];
  parallel<Device>(threads, frames * shape.cells_h, [&](int64_t begin, int64_t end) {
    OwnGradient<Device, few> own(op, samples, threads);
    for (int64_t unit = begin; unit < end; ++unit)
      own.run(unit / shape.cells_h / shape.frames, unit / shape.cells_h % shape.frames, unit % shape.cells_h);
  });
  const double share = 2 / static_cast<double>(shape.channels * shape.cell_h * shape.cell_w);
  const SampleGradient left{shape, op.a, op.motion, op.weight, op.support, op.d_mean, op.d_error, share, op.d_a};
  leave_samples<Device, float, few>(left, &samples, threads);
}

template <class Device>
static void trusted_average_backward(const TrustedAverageBackward& op, const Parallel& threads) {
  op.shape.channels == 3 ? trusted_average_backward_frames<Device, 3>(op, threads)
                         : trusted_average_backward_frames<Device, 0>(op, threads);
}

}  // namespace davsr
