// A camera that is a product of three axes: A x, and x + A^T y, in one pass over the large video each. What is between
// the axes are a few rows that stay in the first-level cache.
#pragma once

#include "cpu_motion_sample.h"
#include "cpu_product.h"
#include "cpu_stream.h"

namespace davsr {

constexpr int64_t kCameraRows = 12;         // LR rows whose columns are filtered together: panels of 12 or 6
constexpr int64_t kCameraRaised = 1 << 14;  // HR pixels that are raised together, before every frame takes them

// An axis with what lies beyond its borders: taps lie at positions [0, reach), of which [begin, end) are samples.
template <class Device, class Real>
struct ExtendedAxis {
  const CameraAxis& axis;
  const int64_t size, reach;
  int64_t begin, end;

  explicit ExtendedAxis(const CameraAxis& of) : axis(of), size(of.scale * of.samples), reach(of.reach()) {
    begin = axis.start < 0 ? -axis.start : 0;
    end = size - axis.start < reach ? size - axis.start : reach;
    if (end < begin || begin > reach) begin = end = 0;
  }
  // A row with what lies beyond it.
  void extend(const Real* row, Real* extended) const {
    for (int64_t p = 0; p < begin; ++p) extended[p] = row[axis.place(p)];
    if (end > begin)
      __builtin_memcpy(extended + begin, row + begin + axis.start, static_cast<size_t>(end - begin) * sizeof(Real));
    for (int64_t p = end; p < reach; ++p) extended[p] = row[axis.place(p)];
  }
  // Its transpose.
  void fold(const Real* extended, Real* row) const {
    Clear<Device, Real>::run(row, size);
    if (end > begin)
      __builtin_memcpy(row + begin + axis.start, extended + begin, static_cast<size_t>(end - begin) * sizeof(Real));
    for (int64_t p = 0; p < begin; ++p) row[axis.place(p)] += extended[p];
    for (int64_t p = end; p < reach; ++p) row[axis.place(p)] += extended[p];
  }
};

// The transpose of an axis by HR samples: the LR samples that each is part of, and its weight in them.
template <class Device, class Real>
struct TurnedAxis {
  Scratch<Device, int64_t> first, sample;  // of HR sample i: [first[i], first[i + 1])
  Scratch<Device, Real> weight;
  int64_t most = 0;  // of one HR sample

  TurnedAxis(const CameraAxis& axis, const Parallel& threads)
      : first(threads, axis.scale * axis.samples + 1),
        sample(threads, axis.samples * axis.taps),
        weight(threads, axis.samples * axis.taps) {
    const int64_t size = axis.scale * axis.samples;
    Clear<Device, int64_t>::run(first.data, size + 1);
    const auto visit = [&](const auto& body) {
      for (int64_t i = 0; i < axis.samples; ++i)
        for (int64_t k = 0; k < axis.taps; ++k) body(axis.place(axis.scale * i + k), i, k);
    };
    visit([&](int64_t at, int64_t, int64_t) { ++first.data[at + 1]; });
    for (int64_t i = 0; i < size; ++i) {
      most = first.data[i + 1] > most ? first.data[i + 1] : most;
      first.data[i + 1] += first.data[i];
    }
    visit([&](int64_t at, int64_t i, int64_t k) {
      const int64_t entry = first.data[at]++;
      sample.data[entry] = i;
      weight.data[entry] = static_cast<Real>(axis.weight[k]);
    });
    for (int64_t i = size; i > 0; --i) first.data[i] = first.data[i - 1];
    first.data[0] = 0;
  }
};

template <class Device, class Real>
static int64_t camera_room(int64_t width) {
  return round_up(width, kPad) + kPad;  // rows apart by no power of two
}

// out = A x, or y - A x. Threads share LR rows; the rows of a frame's mean over the exposure are kept while they are
// needed.
template <class Device, class Real>
static void camera(const Camera& op, const Parallel& threads) {
  using F = typename Device::template Lanes<Real>;
  constexpr int wide = Device::template lanes<Real>;
  const CameraAxis &time = op.time, &rows = op.rows, &columns = op.columns;
  const int64_t width = columns.scale * columns.samples, pixels = rows.scale * rows.samples * width;
  const int64_t room = camera_room<Device, Real>(width), low_room = round_up(columns.samples, kPad);
  const int64_t depth = columns.scale * (kPad - 1) + columns.taps;
  const int64_t extended_room = columns.scale * (low_room - 1) + columns.taps;
  const ExtendedAxis<Device, Real> across(columns);
  Scratch<Device, Real> matrix(threads, depth * kPad);  // kPad LR columns of the positions that they see
  Clear<Device, Real>::run(matrix.data, depth * kPad);
  for (int64_t j = 0; j < kPad; ++j)
    for (int64_t k = 0; k < columns.taps; ++k)
      matrix.data[(columns.scale * j + k) * kPad + j] = static_cast<Real>(columns.weight[k]);
  parallel<Device>(threads, op.images * time.samples * rows.samples, [&](int64_t begin, int64_t end) {
    Scratch<Device, Real> ring(threads, rows.taps * room), line(threads, room), low(threads, kCameraRows * low_room);
    Scratch<Device, Real> extended(threads, kCameraRows * extended_room);
    Scratch<Device, const Real*> frames(threads, time.taps), kept(threads, rows.taps);
    Clear<Device, Real>::run(extended.data, kCameraRows * extended_room);
    int64_t known = 0;  // positions below it lie in the ring, as far as they are needed
    for (int64_t unit = begin; unit < end;) {
      const int64_t i = unit % rows.samples, t = unit / rows.samples % time.samples, image = unit / rows.samples / time.samples;
      int64_t count = rows.samples - i < end - unit ? rows.samples - i : end - unit;
      count = count < kCameraRows ? count : kCameraRows;
      for (int64_t k = 0; k < time.taps; ++k)
        frames.data[k] =
            static_cast<const Real*>(op.x) + (image * time.scale * time.samples + time.place(time.scale * t + k)) * pixels;
      if (i == 0 || unit == begin) known = 0;
      for (int64_t r = 0; r < count; ++r) {
        const int64_t top = rows.scale * (i + r);
        for (known = known > top ? known : top; known < top + rows.taps; ++known) {
          const int64_t at = rows.place(known) * width;
          Real* to = ring.data + known % rows.taps * room;
          for (int64_t x = 0; x < width; x += wide) {
            const int some = static_cast<int>(width - x < wide ? width - x : wide);
            F sum{};
            for (int64_t k = 0; k < time.taps; ++k)
              sum += load_some<Device, Real>(frames.data[k] + at + x, some) * static_cast<Real>(time.weight[k]);
            Device::template put<Real, wide>(to + x, sum);
          }
        }
        for (int64_t k = 0; k < rows.taps; ++k) kept.data[k] = ring.data + (top + k) % rows.taps * room;
        for (int64_t x = 0; x < width; x += wide) {
          F sum{};
          for (int64_t k = 0; k < rows.taps; ++k)
            sum += Device::template pack<Real, wide>(kept.data[k] + x) * static_cast<Real>(rows.weight[k]);
          Device::template put<Real, wide>(line.data + x, sum);
        }
        across.extend(line.data, extended.data + r * extended_room);
      }
      for (int64_t j = 0; j < low_room; j += kPad)
        product<Device, Real>(count, kPad, depth, extended.data + columns.scale * j, extended_room, 1, matrix.data, kPad,
                              low.data + j, low_room, false);
      for (int64_t r = 0; r < count; ++r) {
        const int64_t first = (unit + r) * columns.samples;
        const Real *made = low.data + r * low_room, *y = op.y ? static_cast<const Real*>(op.y) + first : nullptr;
        Real* to = static_cast<Real*>(op.out) + first;
        if (y)
          for (int64_t j = 0; j < columns.samples; ++j) to[j] = y[j] - made[j];
        else
          __builtin_memcpy(to, made, static_cast<size_t>(columns.samples) * sizeof(Real));
      }
      unit += count;
    }
  });
}

// A^T y of one LR frame in the HR rows of up to `most` LR rows.
template <class Device, class Real>
struct RaisedRows {
  const Camera& op;
  const CameraAxis &rows, &columns;
  const TurnedAxis<Device, Real>& turned;
  const ExtendedAxis<Device, Real> across;
  const int64_t room, most;
  const int64_t block, per_block, late, depth, blocks;  // columns that are made together: HR, LR; LR ones before them
  const int64_t low_room, high_room;
  Scratch<Device, Real> matrix, low, high;

  RaisedRows(const Camera& of, const TurnedAxis<Device, Real>& by_rows, const Parallel& threads)
      : op(of),
        rows(of.rows),
        columns(of.columns),
        turned(by_rows),
        across(of.columns),
        room(camera_room<Device, Real>(across.size)),
        most(kCameraRaised / (of.rows.scale * room) > 1 ? kCameraRaised / (of.rows.scale * room) : 1),
        block(kPad / common(kPad, columns.scale) * columns.scale),
        per_block(block / columns.scale),
        late((columns.taps - 1 + columns.scale - 1) / columns.scale),
        depth(per_block + late),
        blocks((columns.reach() + block - 1) / block),
        low_room(late + per_block * blocks),
        high_room(block * blocks),
        matrix(threads, depth * block),
        low(threads, most * rows.scale * low_room),
        high(threads, most * rows.scale * high_room) {
    Clear<Device, Real>::run(low.data, most * rows.scale * low_room);
    Clear<Device, Real>::run(matrix.data, depth * block);
    for (int64_t d = 0; d < depth; ++d)  // LR column d - late of a block, counted from its first
      for (int64_t k = 0; k < columns.taps; ++k) {
        const int64_t at = columns.scale * (d - late) + k;
        if (at >= 0 && at < block) matrix.data[d * block + at] = static_cast<Real>(columns.weight[k]);
      }
  }
  static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; }

  // Of LR rows i, i + 1, ...: [count * rows.scale][room].
  void raise(const Real* y, int64_t i, int64_t count, Real* to) {
    const int64_t tall = count * rows.scale;
    for (int64_t r = 0; r < tall; ++r) {
      Real* sum = low.data + r * low_room + late;
      Clear<Device, Real>::run(sum, columns.samples);
      const int64_t at = rows.scale * i + r;
      for (int64_t entry = turned.first.data[at]; entry < turned.first.data[at + 1]; ++entry) {
        const Real* from = y + turned.sample.data[entry] * columns.samples;
        const Real weight = turned.weight.data[entry];
        DAVSR_NO_ALIAS
        for (int64_t j = 0; j < columns.samples; ++j) sum[j] += weight * from[j];
      }
    }
    for (int64_t b = 0; b < blocks; ++b)
      product<Device, Real>(tall, block, depth, low.data + per_block * b, low_room, 1, matrix.data, block, high.data + block * b,
                            high_room, false);
    for (int64_t r = 0; r < tall; ++r) across.fold(high.data + r * high_room, to + r * room);
  }
};

// to = x + weight * raised, or without x, in a row; streamed if `to` is made of whole vectors.
template <class Device, class Real>
static void add_raised(const Real* x, const Real* raised, Real weight, int64_t width, bool streamed, Real* to) {
  constexpr int wide = Device::template lanes<Real>;
  const auto made = [=](int64_t c, int some) {
    const auto value = load_some<Device, Real>(raised + c, some) * weight;
    return x ? load_some<Device, Real>(x + c, some) + value : value;
  };
  int64_t c = 0;
  if (streamed)
    for (; c < width; c += wide) stream(to + c, made(c, wide));
  else
    for (; c + wide <= width; c += wide) Device::template put<Real, wide>(to + c, made(c, wide));
  if (c < width) store_some<Device, Real>(to + c, made(c, static_cast<int>(width - c)), static_cast<int>(width - c));
}

// out = x + A^T y, or A^T y. Threads share LR rows, of all frames.
template <class Device, class Real>
static void camera_adjoint(const Camera& op, const Parallel& threads) {
  constexpr int wide = Device::template lanes<Real>;
  const CameraAxis &time = op.time, &rows = op.rows, &columns = op.columns;
  const int64_t width = columns.scale * columns.samples, pixels = rows.scale * rows.samples * width;
  const int64_t frames = time.scale * time.samples;
  const TurnedAxis<Device, Real> by_time(time, threads), by_rows(rows, threads);
  const bool written_once = by_time.most == 1 && op.out != op.x;
  const bool by_vectors = width % wide == 0 && reinterpret_cast<uintptr_t>(op.out) % (wide * sizeof(Real)) == 0;
  const bool large = op.images * frames * pixels * static_cast<int64_t>(sizeof(Real)) >= kStreamed;
  const bool streamed = written_once && by_vectors && large;
  parallel<Device>(threads, op.images * rows.samples, [&](int64_t begin, int64_t end) {
    RaisedRows<Device, Real> raised(op, by_rows, threads);
    const int64_t slots = by_time.most;  // LR frames that one HR frame needs at a time
    const int64_t room = raised.room, slot_size = raised.most * rows.scale * room;
    Scratch<Device, Real> sums(threads, slots * slot_size);
    Scratch<Device, int64_t> held(threads, slots);
    Scratch<Device, const Real*> parts(threads, slots);
    for (int64_t unit = begin; unit < end;) {
      const int64_t i = unit % rows.samples, image = unit / rows.samples;
      int64_t together = rows.samples - i < end - unit ? rows.samples - i : end - unit;
      together = together < raised.most ? together : raised.most;
      unit += together;
      for (int64_t s = 0; s < slots; ++s) held.data[s] = -1;
      for (int64_t f = 0; f < frames; ++f) {
        const int64_t first = by_time.first.data[f], count = by_time.first.data[f + 1] - first;
        const int64_t* wanted = by_time.sample.data + first;
        for (int64_t n = 0; n < count; ++n) {
          int64_t slot = 0;
          while (slot < slots && held.data[slot] != wanted[n]) ++slot;
          if (slot == slots) {  // one that this frame does not need
            const auto needed = [&](int64_t t) {
              for (int64_t m = 0; m < count; ++m)
                if (wanted[m] == t) return true;
              return false;
            };
            for (slot = 0; needed(held.data[slot]);) ++slot;
            held.data[slot] = wanted[n];
            raised.raise(static_cast<const Real*>(op.y) + (image * time.samples + wanted[n]) * rows.samples * columns.samples, i,
                         together, sums.data + slot * slot_size);
          }
          parts.data[n] = sums.data + slot * slot_size;
        }
        for (int64_t r = 0; r < together * rows.scale; ++r) {
          const int64_t at = (image * frames + f) * pixels + (rows.scale * i + r) * width;
          const Real* x = op.x ? static_cast<const Real*>(op.x) + at : nullptr;
          Real* to = static_cast<Real*>(op.out) + at;
          if (count == 0 && x != to) {
            if (x)
              __builtin_memcpy(to, x, static_cast<size_t>(width) * sizeof(Real));
            else
              Clear<Device, Real>::run(to, width);
          }
          for (int64_t n = 0; n < count; ++n)
            add_raised<Device, Real>(n ? to : x, parts.data[n] + r * room, by_time.weight.data[first + n], width, streamed, to);
        }
      }
    }
    if (streamed) end_stream();
  });
}

}  // namespace davsr
