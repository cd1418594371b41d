// The axes of a camera, once for every device: LR sample i is the sum over its taps k of weight[k] times HR sample
// place(scale i + k).
#pragma once

#include "portable.h"

namespace davsr {

// Where the taps of an axis lie. Int: int64_t, or int32_t where axes are known to be short enough.
template <class Int>
struct CameraGrid {
  Int scale, samples;  // samples: of the LR side
  Int taps, start;
  bool circular;  // beyond the borders: periodic, or mirrored

  DAVSR_FN Int size() const { return scale * samples; }
  DAVSR_FN Int reach() const { return scale * (samples - 1) + taps; }
  DAVSR_FN Int period() const { return circular ? size() : 2 * size(); }
  DAVSR_FN Int place(Int position) const {
    const Int rest = (position + start) % period(), at = rest < 0 ? rest + period() : rest;
    return at < size() ? at : period() - 1 - at;
  }
  // Whether the taps from this position on lie within the borders, one after the other.
  DAVSR_FN bool inside(Int position) const { return position + start >= 0 && position + start + taps <= size(); }

  // The transpose: body(last, tap) for each position that is folded to HR sample `at`. LR samples last, last - 1, ...
  // see it by their taps tap, tap + scale, ...: as long as there are such samples and such taps.
  template <class Body>
  DAVSR_FN void folded(Int at, const Body& body) const {
    for (int mirrored = 0; mirrored < (circular ? 1 : 2); ++mirrored) {
      Int position = (mirrored ? period() - 1 - at : at) - start;
      if (position < 0 || position >= period()) {
        position %= period();
        if (position < 0) position += period();
      }
      for (; position < reach(); position += period()) {
        const Int last = position / scale < samples ? position / scale : samples - 1;
        body(last, position - scale * last);
      }
    }
  }
};

struct CameraAxis : CameraGrid<int64_t> {
  const double* weight;
};

// Videos of `images` = batch x channels: x on the HR side, y on the LR side, dense; what is added may be null.
struct Camera {
  int64_t images;
  CameraAxis time, rows, columns;
  const void *x, *y;
  void* out;  // forward: y - A x, without y A x; adjoint: x + A^T y, possibly x itself
};

}  // namespace davsr
