// The GPU's path on the CPU, one unit after the other. It is no fast path: it proves the units that a GPU runs where
// there is none.
#pragma once

#include "by_unit.h"

namespace davsr {

struct Serial : OneLane<Serial> {
  template <size_t bytes>
  static DAVSR_FN void copy(void* to, const void* from) {
    memcpy(to, from, bytes);
  }
  template <class Real>
  static DAVSR_FN void add_one(Real* to, Real value) {
    *to += value;
  }
  template <class Unit>
  static void launch(int64_t count, const Unit& unit) {
    for (int64_t i = 0; i < count; ++i) unit(i);
  }
};

}  // namespace davsr
