// The functions that each instruction set offers, as plain pointers: what crosses between files compiled for different
// processors.
#pragma once

#include "camera.h"
#include "portable.h"

namespace davsr {

// `run` calls body(context, begin, end) over [0, n), in parallel, in pieces of at least one.
struct Parallel {
  void (*run)(int64_t n, void* context, void (*body)(void* context, int64_t begin, int64_t end));
  void* (*allocate)(int64_t bytes);  // 64-byte aligned; throws
  void (*release)(void* memory);
};

// Matrices of `Real` (float, or double for double features); c_pad = c_out rounded up to kPad.
constexpr int64_t kPad = 16;

struct AlignForward {
  AlignShape shape;
  Planes features, raw, flow_1, flow_2, out;
  void* padded;        // [batch, groups, height + 3, width + 3, channels], filled here
  const void* weight;  // [groups * 9 * channels, c_pad]
  const void* bias;    // [c_pad]
  int64_t c_pad;
};

struct AlignBackward {
  AlignShape shape;
  Planes features, raw, flow_1, flow_2;
  Planes d_features, d_raw;
  const void* d_out;     // [batch, pixels, c_pad]
  const void* weight_t;  // [groups, c_pad, n_pad], n_pad = 9 * channels rounded up to kPad
  void* d_flow;          // [batch, groups, 2, pixels], (dx, dy), filled here
  void* d_weight;        // [batch, groups * 9 * channels, c_pad], filled here
  int64_t c_pad, n_pad;
};

struct Division {
  DivisionShape shape;
  // Interleaved real pairs. forward: x = X, base = Y, out = Z. backward: x = the gradient of Z, base = null, out = that
  // of X.
  const void *x, *base, *otf, *gram, *alpha;
  void *quotient, *out;
  bool transposed;  // the adjoint of the forward map
};

struct DivisionOtfGradient {
  DivisionShape shape;
  const void *x, *d_z, *quotient, *d_quotient;
  void* d_otf;
};

// out = residual + leaky(x * weight + bias), channels-last; `shuffle`: pixel (y, x) of channel (i, j, c), where each
// has c_out / 4, a multiple of kPad, becomes pixel (2 y + i, 2 x + j) of channel c, and there is no residual.
struct Conv3x3 {
  int64_t batch, height, width, c_in, c_out, c_pad;
  const float *x, *weight, *bias, *residual;  // weight [3, 3, c_in, c_pad], bias [c_pad]; residual like out, or null
  float* transformed;                         // [36, c_in, c_pad], filled here where there is a weight
  float* out;
  float slope;  // of negative values
  bool shuffle;
};

// Of the plain convolution.
struct Conv3x3Gradient {
  int64_t batch, height, width, c_in, c_out, c_pad;
  const float *x, *d_out;    // channels-last
  float *d_weight, *d_bias;  // [3, 3, c_in, c_pad], [c_pad], filled here
};

// Videos [batch, channels, frames, height, width], motion [batch, frames, 2, height, width], cells
// [batch, steps, frames, cells_h, cells_w], all dense.
struct MotionMismatch {
  MotionShape shape;
  const void *a, *motion;
  void* error;  // cells
};

struct MotionMismatchBackward {
  MotionShape shape;
  const void *a, *motion, *d_error;
  void *d_a, *d_motion;  // d_motion: null where it is not asked for
};

struct MotionBlend {
  MotionShape shape;
  const void *a, *motion, *weight;  // weight: cells
  void *mean, *support;             // support: [batch, frames, height, width]
};

struct MotionBlendBackward {
  MotionShape shape;
  const void *a, *motion, *weight, *mean, *support, *d_mean, *d_support;
  void *d_a, *d_weight, *d_motion;
};

struct MotionAverage {
  MotionShape shape;
  const void *a, *motion;
  void *mean, *support, *weight;  // support, weight (cells): null where they are not asked for
  double mismatch, reach;
};

constexpr int64_t kTrustSees = 4;  // root of the mismatch, texture, length of the motion, distance in time

// Two 3x3 convolutions [3, 3, in, hidden] and a sum over the hidden channels, a multiple of 8 of them; what comes out
// is held between low and high.
struct TrustLayers {
  int64_t hidden;
  const float *first, *first_bias, *second, *second_bias, *last;
  float last_bias, low, high;
};

// The average whose weights a network changes; speed [batch, frames, cells_h, cells_w], length of the motion. What its
// gradient needs, or null: the weights and the roots of the mismatch (cells), the textures (like speed).
struct TrustedAverage {
  MotionShape shape;
  const float *a, *motion, *speed;
  float *mean, *support;
  TrustLayers layers;
  double mismatch, reach;
  float *weight = nullptr, *root = nullptr, *texture = nullptr;
};

// Numbers of a row of samples that is kept, with what vectors write past it.
static DAVSR_FN int64_t sampled_row(int64_t width) { return width / 16 * 16 + 48; }

// Of the mean and the support (null: zero) to the frames and the layers. `turned`: the layers' transposes, which are
// convolutions with mirrored weights: [3, 3, hidden, hidden] and, to the first two channels alone, [3, 3, hidden, 2].
struct TrustedAverageBackward {
  MotionShape shape;
  const float *a, *motion, *speed, *mean, *support, *weight, *root, *texture, *d_mean, *d_support;
  TrustLayers layers;
  const float *second_turned, *first_turned;
  double mismatch;
  float *d_a, *d_error, *d_texture;  // d_error (cells), d_texture (like speed): filled here
  float *d_layers, *d_layers_parts;  // one after the other as in TrustLayers; [batch, frames] of them, filled here
  float* samples;                    // memory for sample_numbers()

  DAVSR_FN int64_t sample_numbers() const {
    return shape.batch * shape.frames * shape.steps * shape.height * shape.channels * sampled_row(shape.width);
  }
  DAVSR_FN int64_t layer_numbers() const { return layers.hidden * (9 * (kTrustSees + layers.hidden) + 3) + 1; }
};

// Of the mean and the support to the frames; weight: what the average found.
struct MotionAverageBackward {
  MotionShape shape;
  const void *a, *motion, *weight, *mean, *support, *d_mean, *d_support;  // d_support: null where it is zero
  void* d_a;
  void* d_error;  // cells, filled here
  double mismatch;
};

// Images [batch, channels, frames, height, width], one of each batch and frame.
struct Flatten {
  MotionShape shape;
  double flat;
  const void *x, *step;  // step: one number
  const void* grad;      // backward: of the result; forward: null
  void* out;             // the result; backward: the gradient of x
  void* d_step;          // backward: [batch, frames, height], to be summed
};

// Frames [first, first + count) of a clip of `total` frames, averaged and flattened, of which frame p lies at place
// p % shape.frames of a; `raised`: the motion [batch, count, 2, ...] lies on the grid of cells, in its own pixels.
struct MotionRound {
  MotionShape shape;
  int64_t first, count, total;
  const void *a, *motion, *step;  // step: one number
  void* out;                      // [batch, channels, count, height, width]
  double mismatch, reach, flat;
  bool raised;
};

// Two 3x3 convolutions over cells of 4x4 pixels, of 16 numbers of every channel and the support's mean less `level`, by
// their weights at the points of tiles of 4x4 (see cpu_cell_tiles.h): first [6, 6, 16 channels + 1, hidden], last
// [6, 6, hidden, 16 channels]; hidden: a multiple of 8.
struct DetailLayers {
  int64_t hidden;
  const float *first, *first_bias, *last, *last_bias;
  float level;
};

// A round whose weights one network changes, and to whose frames the other adds detail, in float32; speed, length of
// the motion [batch, count, cells_h, cells_w].
struct LearnedRound {
  MotionRound round;
  const float* speed;
  TrustLayers trust;
  DetailLayers detail;
};

// Frames [batch, channels, frames, height, width] flattened, and what a network adds to their cells of 4x4 pixels, of
// which there are cells_h x cells_w a frame: first [hidden, 16 channels + 1, 3, 3], last [16 channels, hidden, 3, 3],
// and biases. It sees the pixels of every channel row by row, where a cell reaches over the frame's end the last ones
// again, and the mean of the support [batch, frames, height, width] less `level`.
struct Detail {
  MotionShape shape;
  int64_t hidden;
  const float *mean, *support, *step;  // step: one number
  const float *first, *first_bias, *last, *last_bias;
  float flat, level;
  float *out, *hidden_cells;  // like mean; [batch, frames, cells_h, cells_w, hidden]
};

// The gradients of all of it for that of the result.
struct DetailBackward {
  MotionShape shape;
  int64_t hidden;
  const float *grad, *mean, *support, *hidden_cells, *step, *first, *last;
  float flat, level;
  float *d_mean, *d_support, *d_step, *d_first, *d_first_bias, *d_last, *d_last_bias;
};

// Frames [batch, count] between frame low[n] of a video [batch, frames, channels, height, width] and the next one.
struct WarpBetween {
  MotionShape shape;  // cells_h, cells_w: of the flows
  int64_t count;
  const float *video, *before, *after;  // flows [batch, count, 2, cells_h, cells_w] to both frames, in their own pixels
  const int64_t* low;                   // [count]
  const double* share;                  // [count], of the frame after
  float* out;
  int64_t out_batch, out_frame, out_channel;  // strides; rows and planes are dense
};

// Cells of 4x4 pixels [batch, height, width, 3 * 48 + known_channels] of frames [batch, 3, 4 height, 4 width], whose
// planes are dense, and of `known` [batch, known_channels, height, width].
struct FusionCells {
  int64_t batch, height, width, known_channels;
  const float *z, *picture, *detail, *known;
  int64_t picture_batch, detail_batch;  // strides
  float* out;
  float gain;
};

// Frames like z, from cells [batch, height, width, 64]: 48 that are added, 16 shares; trust [batch, height, width].
struct FusionPixels {
  int64_t batch, height, width;
  const float *z, *picture, *detail, *cells, *trust;
  int64_t picture_batch, detail_batch;
  float* out;
  float half, gain;
};

// z = x + A^T u, u = (A A^T + alpha)^-1 (y - A x), on every LR frame by itself: A A^T has the eigenvalues `spectrum`
// there, and the basis rows x columns.
struct DataStep {
  Camera camera;                                  // x, y or null for zero, out: z
  const void *rows, *columns, *spectrum, *alpha;  // [h, h], [w, w], [h, w], [batch]
  int64_t frames_of_sample;                       // LR frames of all channels
  void* u;                                        // like y, and room for kPad numbers more
};

// Of ahead = z + momentum (z - before), videos of so many numbers: d_z is added to, d_ahead becomes that of `before`.
struct MomentumGradient {
  int64_t numbers;
  const void *z, *before;
  void *d_z, *d_ahead, *d_momentum;
  double momentum;
};

struct CpuKernels {
  const char* level;
  void (*align_forward)(const AlignForward&, bool doubles, const Parallel&);
  void (*align_backward)(const AlignBackward&, bool doubles, const Parallel&);
  void (*division)(const Division&, bool doubles, const Parallel&);
  void (*division_otf_gradient)(const DivisionOtfGradient&, bool doubles, const Parallel&);
  void (*conv3x3)(const Conv3x3&, const Parallel&);
  void (*conv3x3_gradient)(const Conv3x3Gradient&, const Parallel&);
  void (*motion_mismatch)(const MotionMismatch&, bool doubles, const Parallel&);
  void (*motion_mismatch_backward)(const MotionMismatchBackward&, bool doubles, const Parallel&);
  void (*motion_blend)(const MotionBlend&, bool doubles, const Parallel&);
  void (*motion_blend_backward)(const MotionBlendBackward&, bool doubles, const Parallel&);
  void (*motion_average)(const MotionAverage&, bool doubles, const Parallel&);
  void (*trusted_average)(const TrustedAverage&, const Parallel&);
  void (*motion_average_backward)(const MotionAverageBackward&, bool doubles, const Parallel&);
  void (*flatten)(const Flatten&, bool doubles, const Parallel&);
  void (*motion_round)(const MotionRound&, bool doubles, const Parallel&);
  void (*learned_round)(const LearnedRound&, const Parallel&);
  void (*trusted_average_backward)(const TrustedAverageBackward&, const Parallel&);
  void (*detail)(const Detail&, const Parallel&);
  void (*detail_backward)(const DetailBackward&, const Parallel&);
  void (*warp_between)(const WarpBetween&, const Parallel&);
  void (*fusion_cells)(const FusionCells&, const Parallel&);
  void (*fusion_pixels)(const FusionPixels&, const Parallel&);
  void (*camera)(const Camera&, bool doubles, const Parallel&);
  void (*camera_adjoint)(const Camera&, bool doubles, const Parallel&);
  void (*data_step)(const DataStep&, bool doubles, const Parallel&);
  void (*momentum_gradient)(const MomentumGradient&, bool doubles, const Parallel&);
};

CpuKernels baseline_kernels();
CpuKernels avx2_kernels();
CpuKernels avx512_kernels();

}  // namespace davsr
