// The one kernel, and its instantiation for every unit that cuda.cpp launches. No torch header: nvcc alone compiles and
// checks it.
#include "camera_units.h"
#include "cuda_device.h"
#include "motion_units.h"

namespace davsr {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlocks = 1 << 20;  // more work than that is walked in strides

template <class Unit>
__global__ void __launch_bounds__(kThreads) units(int64_t count, const Unit unit) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride) unit(i);
}

}  // namespace

template <class Unit>
void run_units(int64_t count, const Unit& unit, cudaStream_t stream) {
  if (count == 0) return;
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  units<Unit><<<static_cast<unsigned>(blocks < kBlocks ? blocks : kBlocks), kThreads, 0, stream>>>(count, unit);
}

#define DAVSR_RUN(...) template void run_units<__VA_ARGS__>(int64_t, const __VA_ARGS__&, cudaStream_t);
#define DAVSR_ALIGN(Stored, N)            \
  DAVSR_RUN(AlignSample<Cuda, Stored, N>) \
  DAVSR_RUN(AlignGradient<Cuda, Stored, N>)
#define DAVSR_DIVISION(Real)              \
  DAVSR_RUN(DivisionRows<Cuda, Real>)     \
  DAVSR_RUN(DivisionQuotient<Cuda, Real>) \
  DAVSR_RUN(DivisionUnfold<Cuda, Real>)   \
  DAVSR_RUN(DivisionOtf<Cuda, Real>)

#define DAVSR_MOTION(Real)                \
  DAVSR_RUN(MismatchCell<Cuda, Real>)     \
  DAVSR_RUN(MismatchGradient<Cuda, Real>) \
  DAVSR_RUN(BlendPixel<Cuda, Real>)       \
  DAVSR_RUN(BlendGradient<Cuda, Real>)    \
  DAVSR_RUN(FlattenPixel<Cuda, Real>)

#define DAVSR_CAMERA(Real)           \
  DAVSR_RUN(CameraAlong<Cuda, Real>) \
  DAVSR_RUN(CameraBack<Cuda, Real>)

DAVSR_ALIGN(float, 4)
DAVSR_ALIGN(float, 1)
DAVSR_ALIGN(double, 2)
DAVSR_ALIGN(double, 1)
DAVSR_ALIGN(Half, 8)
DAVSR_ALIGN(Half, 1)
DAVSR_ALIGN(BFloat16, 8)
DAVSR_ALIGN(BFloat16, 1)
DAVSR_DIVISION(float)
DAVSR_DIVISION(double)
DAVSR_MOTION(float)
DAVSR_MOTION(double)
DAVSR_CAMERA(float)
DAVSR_CAMERA(double)

}  // namespace davsr
