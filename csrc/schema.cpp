// The operators' schemas. Kernels are registered per device; fake and autograd in the Python file of each op.
#include <torch/library.h>
#include <torch/version.h>

#include <string>

// Found in the file before it is loaded (davsr/ops/_extension.py): into another torch it might load, and crash.
extern "C" __attribute__((visibility("default"), used)) const char davsr_built_for[] = "davsr: built for torch " TORCH_VERSION;

TORCH_LIBRARY(davsr, m) {
  // `level` names one of cpu_levels() for tests and benchmarks; by default the best one that this processor has runs.
  m.def(
      "deform_align(Tensor features, Tensor raw, Tensor flow_1, Tensor? flow_2, Tensor weight, Tensor bias, int groups, "
      "float max_residue, str? level=None) -> Tensor");
  m.def(
      "deform_align_backward(Tensor grad, Tensor features, Tensor raw, Tensor flow_1, Tensor? flow_2, Tensor weight, int groups, "
      "float max_residue, str? level=None) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  // Complex tensors cross as real pairs, [..., 2].
  m.def(
      "fourier_division(Tensor x, Tensor y, Tensor otf, Tensor gram, Tensor alpha, int[] scale, int width, str? level=None) -> "
      "(Tensor, Tensor)");
  m.def(
      "fourier_division_backward(Tensor grad, Tensor x, Tensor otf, Tensor gram, Tensor alpha, Tensor quotient, int[] scale, "
      "int width, bool otf_gradient, str? level=None) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  // Videos [b, c, T, H, W], motion [b, T, 2, H, W], cells [b, steps, T, h, w].
  m.def("motion_mismatch(Tensor a, Tensor motion, int[] cell, int[] steps, str? level=None) -> Tensor");
  m.def(
      "motion_mismatch_backward(Tensor grad, Tensor a, Tensor motion, int[] cell, int[] steps, bool motion_gradient, "
      "str? level=None) -> (Tensor, Tensor)");
  m.def("motion_blend(Tensor a, Tensor motion, Tensor weight, int[] steps, str? level=None) -> (Tensor, Tensor)");
  m.def(
      "motion_blend_backward(Tensor d_mean, Tensor d_support, Tensor a, Tensor motion, Tensor weight, Tensor mean, "
      "Tensor support, int[] steps, bool motion_gradient, str? level=None) -> (Tensor, Tensor, Tensor)");
  // Mean, support, and the cells' weights, which are there for the gradient. What ends in _ writes to memory that is
  // there, without derivative; of the average, the mean alone.
  m.def(
      "motion_average(Tensor a, Tensor motion, int[] cell, int[] steps, float mismatch, float reach, str? level=None) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "motion_average_backward(Tensor d_mean, Tensor? d_support, Tensor a, Tensor motion, Tensor weight, Tensor mean, "
      "Tensor support, int[] cell, int[] steps, float mismatch, str? level=None) -> Tensor");
  m.def(
      "motion_average_(Tensor(a!) out, Tensor a, Tensor motion, int[] cell, int[] steps, float mismatch, float reach, "
      "str? level=None) -> ()");
  m.def("flatten(Tensor x, Tensor step, float flat, str? level=None) -> Tensor");
  m.def("flatten_(Tensor(a!) out, Tensor x, Tensor step, float flat, str? level=None) -> ()");
  m.def("flatten_backward(Tensor grad, Tensor x, Tensor step, float flat, str? level=None) -> (Tensor, Tensor)");
  // Frames [first, first + count) of `total` averaged and flattened into out [b, c, count, H, W]; frame p lies at place
  // p % held of a [b, c, held, H, W]; motion [b, count, 2, H, W], or of cells, in their own pixels; on the CPU alone.
  m.def(
      "motion_round_(Tensor(a!) out, Tensor a, Tensor motion, Tensor step, int first, int total, int[] cell, int[] steps, "
      "float mismatch, float reach, float flat, str? level=None) -> ()");
  // motion_round_ with two small networks in it, as pack_trust and pack_detail make them (davsr/ops/_learned_round.py);
  // speed [b, count, h, w]; float32.
  m.def(
      "learned_round_(Tensor(a!) out, Tensor a, Tensor motion, Tensor speed, Tensor step, Tensor[] trust, Tensor[] detail, "
      "int first, int total, int[] cell, int[] steps, float mismatch, float reach, float low, float high, float flat, "
      "float support_level, str? level=None) -> ()");
  // The average whose weights a network, as pack_trust makes it, multiplies by the exponential of what it makes of
  // cells, held between low and high; speed [b, T, h, w]. Mean and support, and what the gradient needs: the weights
  // and the roots of the mismatch in cells, the textures [b, T, h, w]. That gradient: of a, and of the six tensors of
  // the network, one after the other; samples: memory for b T steps c H (W + 48) numbers. On the CPU alone, float32.
  m.def(
      "trusted_average_kept(Tensor a, Tensor motion, Tensor speed, Tensor[] trust, int[] cell, int[] steps, float mismatch, "
      "float reach, float low, float high, str? level=None) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "trusted_average_backward_(Tensor(a!) samples, Tensor d_mean, Tensor? d_support, Tensor a, Tensor motion, Tensor speed, "
      "Tensor mean, Tensor support, Tensor weight, Tensor root, Tensor texture, Tensor[] trust, int[] cell, int[] steps, "
      "float mismatch, float low, float high, str? level=None) -> (Tensor, Tensor)");
  // mean, flattened, and what a network [hidden, 16 c + 1, 3, 3], [16 c, hidden, 3, 3] adds to its cells of 4x4 pixels;
  // support [b, T, H, W]. The result, like mean, and the hidden layer [b T, h, w, hidden]. The gradients: of the mean,
  // the support, the step and the four layers. On the CPU alone, float32.
  m.def(
      "flatten_with_detail(Tensor mean, Tensor support, Tensor step, Tensor first, Tensor first_bias, Tensor last, "
      "Tensor last_bias, float flat, float support_level, str? level=None) -> (Tensor, Tensor)");
  m.def(
      "flatten_with_detail_backward(Tensor grad, Tensor mean, Tensor support, Tensor hidden, Tensor step, Tensor first, "
      "Tensor last, float flat, float support_level, str? level=None) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  // Of ahead = z + momentum (z - before), all alike and dense: adds to d_z, leaves the gradient of `before` in d_ahead,
  // and returns that of the momentum. On the CPU alone.
  m.def(
      "momentum_backward_(Tensor(a!) d_z, Tensor(b!) d_ahead, Tensor z, Tensor before, float momentum, str? level=None) -> "
      "Tensor");
  // Frames [b, count, c, H, W] of any strides whose planes are dense; video [b, t, c, H, W], flows [b, count, 2, h, w];
  // on the CPU alone, float32, without derivative.
  m.def(
      "warp_between_(Tensor(a!) out, Tensor video, Tensor before, Tensor after, int[] low, float[] share, str? level=None) -> "
      "()");
  // z, picture, detail [n, 3, 4 h, 4 w], known [n, k, h, w] -> cells [n, h, w, 144 + k]; cells [n, h, w, 64] and trust
  // [n, 1, h, w] -> frames like z; on the CPU alone, float32, without derivative.
  m.def(
      "fusion_cells(Tensor z, Tensor picture, Tensor detail, Tensor known, float gain, str? level=None) -> "
      "Tensor");
  m.def(
      "fusion_pixels(Tensor z, Tensor picture, Tensor detail, Tensor cells, Tensor trust, float half, float gain, "
      "str? level=None) -> Tensor");
  // A of three axes: time, rows, columns, as taps at start, start + 1, ... from HR sample scale i on. A x or y - A x,
  // and A^T y or x + A^T y. x [b, c, T, H, W], y [b, c, t, h, w].
  m.def(
      "camera(Tensor x, Tensor? y, float[] time, float[] rows, float[] columns, int[] start, int[] scale, bool circular, "
      "str? level=None) -> Tensor");
  m.def(
      "camera_adjoint(Tensor y, Tensor? x, float[] time, float[] rows, float[] columns, int[] start, int[] scale, "
      "bool circular, str? level=None) -> Tensor");
  m.def(
      "camera_adjoint_(Tensor(a!) out, Tensor y, Tensor? x, float[] time, float[] rows, float[] columns, int[] start, "
      "int[] scale, bool circular, str? level=None) -> ()");
  // z = x + A^T u into out, which without x is x, and u = (A A^T + alpha)^-1 (y - A x), y = 0 where there is none: on
  // every LR frame by itself, in the orthogonal bases [h, h] of rows and [w, w] of columns, where A A^T is spectrum [h,
  // w]; alpha [b]. On the CPU alone, without derivative.
  m.def(
      "data_step_(Tensor(a!) out, Tensor? x, Tensor? y, Tensor alpha, Tensor rows_basis, Tensor columns_basis, Tensor spectrum, "
      "float[] time, float[] rows, float[] columns, int[] start, int[] scale, bool circular, str? level=None) -> Tensor");
  // On the CPU alone: elsewhere torch's own convolution is as good. The derivative is that of the plain convolution.
  // `points`: conv3x3_points of the weight, where it is known; `shuffle`: channels (i, j, c) become pixels
  // (2 y + i, 2 x + j).
  m.def(
      "conv3x3(Tensor x, Tensor weight, Tensor bias, Tensor? residual, float slope, str? level=None, Tensor? points=None, "
      "bool shuffle=False) -> Tensor");
  m.def("conv3x3_points(Tensor weight, str? level=None) -> Tensor");
  m.def("conv3x3_weight_gradient(Tensor grad, Tensor x, str? level=None) -> (Tensor, Tensor)");
  m.def("cpu_levels() -> str[]");
  m.def("has_cuda() -> bool");
  m.def("built_for() -> str", [] { return std::string(TORCH_VERSION); });  // only this torch and its patch releases fit
}
