// How tensors come into the layouts of the CPU kernels and back: padded planes of one group, and tiles of pixels in
// which the pixels of one channel follow each other.
#pragma once

#include "cpu_kernels.h"
#include "vectors.h"

namespace davsr {

constexpr int64_t kTile = 48;             // pixels; a multiple of every row count of product_panel
constexpr int64_t kPlaneBytes = 5 << 18;  // of a second-level cache of 2 MiB
constexpr int64_t kSumBytes = 1 << 17;    // of one of 1 MiB
constexpr int64_t kTileRow = kTile + 16;  // room for the lanes that a last vector reads and writes past its pixels

template <class Device, class Body>
static void parallel(const Parallel& threads, int64_t n, const Body& body) {
  threads.run(n, const_cast<void*>(static_cast<const void*>(&body)),
              [](void* context, int64_t begin, int64_t end) { (*static_cast<const Body*>(context))(begin, end); });
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

// What loops over single pixels need, which the compiler makes vectors of.
template <class Isa>
struct CpuPixel {
  template <class Real>
  static DAVSR_FN float root(float value) {
    return __builtin_sqrtf(value);
  }
  template <class Real>
  static DAVSR_FN double root(double value) {
    return __builtin_sqrt(value);
  }
};

// Calls visit(b, first group, last group) for [begin, end) of all (sample, group), at most `most` groups of one sample
// at a time.
template <class Device, class Visit>
static DAVSR_FN void samples(const AlignShape& shape, int64_t begin, int64_t end, int64_t most, const Visit& visit) {
  while (begin < end) {
    const int64_t b = begin / shape.groups, all = (b + 1) * shape.groups;
    int64_t stop = all < end ? all : end;
    if (begin + most < stop) stop = begin + most;
    visit(b, begin - b * shape.groups, stop - b * shape.groups);
    begin = stop;
  }
}

template <class Device, class Real, class Stored>
static void pad_row(const AlignShape& shape, const Planes& from, int64_t b, int64_t group, int64_t y, Real* plane) {
  const int64_t channels = shape.channels;
  Real* to = plane + (y + 1) * shape.padded_row() + channels;
  const Stored* source = static_cast<const Stored*>(from.data) + from.at(b, group * channels, y * shape.width);
  if (from.channel == 1 && channels % 8 == 0) {
    for (int64_t x = 0; x < shape.width; ++x)
      for (int64_t c = 0; c < channels; c += 8)
        for (int64_t i = c; i < c + 8; ++i) to[x * channels + i] = static_cast<Real>(widen(source[x * from.pixel + i]));
  } else if (from.channel == 1) {
    for (int64_t x = 0; x < shape.width; ++x)
      for (int64_t c = 0; c < channels; ++c) to[x * channels + c] = static_cast<Real>(widen(source[x * from.pixel + c]));
  } else {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t x = 0; x < shape.width; ++x)
        to[x * channels + c] = static_cast<Real>(widen(source[c * from.channel + x * from.pixel]));
  }
}

// Groups [first, last) of sample b into padded planes, row by row: neighbouring groups share the lines of channels-last
// features.
template <class Device, class Real>
static void pad_planes(const AlignShape& shape, const Planes& from, int64_t b, int64_t first, int64_t last, Real* planes) {
  const int64_t channels = shape.channels, row = shape.padded_row(), plane = shape.padded_plane();
  for (int64_t group = first; group < last; ++group) {
    Real* to = planes + (group - first) * plane;
    Clear<Device, Real>::run(to, row);
    Clear<Device, Real>::run(to + (shape.height + 1) * row, 2 * row);
  }
  for (int64_t y = 0; y < shape.height; ++y)
    for (int64_t group = first; group < last; ++group) {
      Real* to = planes + (group - first) * plane;
      Clear<Device, Real>::run(to + (y + 1) * row, channels);
      Clear<Device, Real>::run(to + (y + 1) * row + (shape.width + 1) * channels, 2 * channels);
      switch (from.kind) {
        case Kind::float32:
          pad_row<Device, Real, float>(shape, from, b, group, y, to);
          break;
        case Kind::float64:
          pad_row<Device, Real, double>(shape, from, b, group, y, to);
          break;
        case Kind::float16:
          pad_row<Device, Real, Half>(shape, from, b, group, y, to);
          break;
        default:
          pad_row<Device, Real, BFloat16>(shape, from, b, group, y, to);
      }
    }
}

// rows[i][j] <-> rows[j][i], in log2(lanes) rounds of exchanges between rows that are 1, 2, 4, ... apart.
template <class Device, class Real>
static DAVSR_FN void transpose(typename Device::template Lanes<Real>* rows) {
  constexpr int width = Device::template lanes<Real>;
#pragma GCC unroll 4
  for (int apart = 1; apart < width; apart *= 2) {
    typename Device::template Index<Real> first, second;
#pragma GCC unroll 16
    for (int l = 0; l < width; ++l) {
      first[l] = l & apart ? width + l - apart : l;
      second[l] = l & apart ? width + l : l + apart;
    }
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) {
      if (i & apart) continue;
      const auto a = rows[i], b = rows[i + apart];
      rows[i] = shuffle(a, b, first);
      rows[i + apart] = shuffle(a, b, second);
    }
  }
}

// from[pixel * from_pixel + channel] in float or double to planes at `at`.
template <class Device, class Real, class Stored>
static void put_planes(const Planes& to, int64_t at, const Real* from, int64_t from_pixel, int64_t count, int64_t channels) {
  Stored* data = static_cast<Stored*>(to.data) + at;
  if (to.channel == 1) {
    for (int64_t p = 0; p < count; ++p)
      for (int64_t c = 0; c < channels; ++c) data[p * to.pixel + c] = narrow<Stored>(from[p * from_pixel + c]);
  } else {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < count; ++p) data[c * to.channel + p * to.pixel] = narrow<Stored>(from[p * from_pixel + c]);
  }
}

template <class Device, class Real>
static void put_planes(const Planes& to, int64_t at, const Real* from, int64_t from_pixel, int64_t count, int64_t channels) {
  switch (to.kind) {
    case Kind::float32:
      return put_planes<Device, Real, float>(to, at, from, from_pixel, count, channels);
    case Kind::float64:
      return put_planes<Device, Real, double>(to, at, from, from_pixel, count, channels);
    case Kind::float16:
      return put_planes<Device, Real, Half>(to, at, from, from_pixel, count, channels);
    default:
      return put_planes<Device, Real, BFloat16>(to, at, from, from_pixel, count, channels);
  }
}

// `count` <= lanes stored values, the rest zero; and back.
template <class Device, class Real, int count, class Stored>
static DAVSR_FN typename Device::template Lanes<Real> widen_lanes(const Stored* from) {
  constexpr int width = Device::template lanes<Real>;
  typename Device::template Lanes<Real> value{};
  if constexpr (sizeof(Stored) == sizeof(Real)) {
    __builtin_memcpy(&value, from, count * sizeof(Stored));
  } else if constexpr (kind_of<Stored>() == Kind::bfloat16 && sizeof(Real) == 4) {
    typename WordsOf<width>::half bits{};
    __builtin_memcpy(&bits, from, count * sizeof(Stored));
    const auto wide = __builtin_convertvector(bits, typename WordsOf<width>::whole) << 16;
    __builtin_memcpy(&value, &wide, sizeof value);
  } else {
    for (int l = 0; l < count; ++l) value[l] = static_cast<Real>(widen(from[l]));
  }
  return value;
}

template <class Device, class Real, int count, class Stored>
static DAVSR_FN void narrow_lanes(Stored* to, typename Device::template Lanes<Real> value) {
  constexpr int width = Device::template lanes<Real>;
  if constexpr (sizeof(Stored) == sizeof(Real)) {
    __builtin_memcpy(to, &value, count * sizeof(Stored));
  } else {
    Real wide[width];
    Stored stored[width];
    __builtin_memcpy(wide, &value, sizeof wide);
    for (int l = 0; l < width; ++l) stored[l] = narrow<Stored>(wide[l]);
    __builtin_memcpy(to, stored, count * sizeof(Stored));
  }
}

// The first of the `lanes` channels that one transposition moves: the last ones overlap those before.
template <class Device, class Real, int Channels>
static DAVSR_FN int first_of(int block) {
  constexpr int width = Device::template lanes<Real>;
  const int first = block * width;
  return Channels < width ? 0 : first + width <= Channels ? first : Channels - width;
}

// Of so many channels, those that go through transpositions: one or two left over are moved one by one.
template <class Device, class Real, int Channels>
constexpr int transposed() {
  constexpr int width = Device::template lanes<Real>;
  return Channels > width && Channels % width <= 2 ? Channels - Channels % width : Channels;
}

// Channels of planes to rows of a tile, the pixels of one channel after the other: what the vectors read and write. The
// tile that is read next lies `next` further. `Before`: so many channels lie before the first one, whatever they are;
// channels too few for a vector are read behind them, as its last lanes.
template <class Device, class Real, class Stored, int Channels, int Before>
static void get_tile(const Planes& from, int64_t at, int64_t next, int64_t count, Real* tile) {
  constexpr int width = Device::template lanes<Real>,
                lead = Channels < width && Channels + Before >= width ? width - Channels : 0;
  constexpr int part = Channels < width ? Channels : width;
  const Stored* data = static_cast<const Stored*>(from.data) + at;
  int64_t p = 0;
  if (from.channel == 1) {
    constexpr int most = transposed<Device, Real, Channels>();
    for (; p + width <= count; p += width) {
      for (int block = 0; block * width < most; ++block) {
        const int begin = first_of<Device, Real, most>(block);
        typename Device::template Lanes<Real> rows[width];
#pragma GCC unroll 16
        for (int l = 0; l < width; ++l) {
          const Stored* row = data + (p + l) * from.pixel + begin;
          const uintptr_t there = reinterpret_cast<uintptr_t>(row) + static_cast<uintptr_t>(next) * sizeof(Stored);
          __builtin_prefetch(reinterpret_cast<const void*>(there));
          __builtin_prefetch(reinterpret_cast<const void*>(there + (Channels - 1) * sizeof(Stored)));
          rows[l] = widen_lanes<Device, Real, lead + part>(row - lead);
        }
        transpose<Device, Real>(rows);
#pragma GCC unroll 16
        for (int l = 0; l < part; ++l) Device::template put<Real, width>(tile + (begin + l) * kTileRow + p, rows[lead + l]);
      }
      for (int c = most; c < Channels; ++c)
        for (int l = 0; l < width; ++l) tile[c * kTileRow + p + l] = static_cast<Real>(widen(data[(p + l) * from.pixel + c]));
    }
    for (; p < count; ++p)
      for (int c = 0; c < Channels; ++c) tile[c * kTileRow + p] = static_cast<Real>(widen(data[p * from.pixel + c]));
  } else {
    for (int c = 0; c < Channels; ++c)
      for (p = 0; p < count; ++p) tile[c * kTileRow + p] = static_cast<Real>(widen(data[c * from.channel + p * from.pixel]));
  }
}

template <class Device, class Real, class Stored, int Channels>
static void put_tile(const Planes& to, int64_t at, int64_t count, const Real* tile) {
  constexpr int width = Device::template lanes<Real>, part = Channels < width ? Channels : width;
  Stored* data = static_cast<Stored*>(to.data) + at;
  int64_t p = 0;
  if (to.channel == 1) {
    constexpr int most = transposed<Device, Real, Channels>();
    for (; p + width <= count; p += width) {
      for (int block = 0; block * width < most; ++block) {
        const int begin = first_of<Device, Real, most>(block);
        typename Device::template Lanes<Real> rows[width] = {};
#pragma GCC unroll 16
        for (int l = 0; l < part; ++l) rows[l] = Device::template pack<Real, width>(tile + (begin + l) * kTileRow + p);
        transpose<Device, Real>(rows);
#pragma GCC unroll 16
        for (int l = 0; l < width; ++l) narrow_lanes<Device, Real, part>(data + (p + l) * to.pixel + begin, rows[l]);
      }
      for (int l = 0; l < width; ++l)
        for (int c = most; c < Channels; ++c) data[(p + l) * to.pixel + c] = narrow<Stored>(tile[c * kTileRow + p + l]);
    }
    for (; p < count; ++p)
      for (int c = 0; c < Channels; ++c) data[p * to.pixel + c] = narrow<Stored>(tile[c * kTileRow + p]);
  } else {
    for (int c = 0; c < Channels; ++c)
      for (p = 0; p < count; ++p) data[c * to.channel + p * to.pixel] = narrow<Stored>(tile[c * kTileRow + p]);
  }
}

template <class Device, class Real, int Channels, int Before = 0>
static void get_tile(const Planes& from, int64_t at, int64_t next, int64_t count, Real* tile) {
  switch (from.kind) {
    case Kind::float32:
      return get_tile<Device, Real, float, Channels, Before>(from, at, next, count, tile);
    case Kind::float64:
      return get_tile<Device, Real, double, Channels, Before>(from, at, next, count, tile);
    case Kind::float16:
      return get_tile<Device, Real, Half, Channels, Before>(from, at, next, count, tile);
    default:
      return get_tile<Device, Real, BFloat16, Channels, Before>(from, at, next, count, tile);
  }
}

template <class Device, class Real, int Channels>
static void put_tile(const Planes& to, int64_t at, int64_t count, const Real* tile) {
  switch (to.kind) {
    case Kind::float32:
      return put_tile<Device, Real, float, Channels>(to, at, count, tile);
    case Kind::float64:
      return put_tile<Device, Real, double, Channels>(to, at, count, tile);
    case Kind::float16:
      return put_tile<Device, Real, Half, Channels>(to, at, count, tile);
    default:
      return put_tile<Device, Real, BFloat16, Channels>(to, at, count, tile);
  }
}

}  // namespace davsr
