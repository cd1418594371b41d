// The ends of the learned prior's fusion on the CPU: tensors in, pointers to the kernels of the chosen instruction set,
// tensors out.
#include "cpu_host.h"

namespace davsr {
namespace {

using Level = std::optional<c10::string_view>;

// Frames whose planes are dense and follow each other; only the stride from frame to frame is free.
at::Tensor dense_frames(const at::Tensor& frames, const at::Tensor& z, const char* op, const char* name) {
  check_sizes(frames, z.sizes(), op, name);
  check_type(frames, z, op, name, "z");
  const int64_t H = z.size(2), W = z.size(3);
  const bool dense = frames.stride(3) == 1 && frames.stride(2) == W && frames.stride(1) == H * W;
  return dense ? frames : frames.contiguous();
}

void check_frames(const at::Tensor& z, const char* op) {
  TORCH_CHECK_VALUE(z.dim() == 4 && z.size(1) == 3 && z.size(2) % 4 == 0 && z.size(3) % 4 == 0 && z.scalar_type() == at::kFloat,
                    op, ": z must be [n, 3, 4 h, 4 w], float32, got ", z.sizes(), " of ", z.scalar_type());
}

at::Tensor fusion_cells(const at::Tensor& z_in, const at::Tensor& picture_in, const at::Tensor& detail_in,
                        const at::Tensor& known_in, double gain, Level level) {
  const char* op = "fusion_cells";
  check_frames(z_in, op);
  const at::Tensor z = z_in.contiguous(), picture = dense_frames(picture_in, z, op, "picture");
  const at::Tensor detail = dense_frames(detail_in, z, op, "detail");
  const int64_t n = z.size(0), h = z.size(2) / 4, w = z.size(3) / 4;
  TORCH_CHECK_VALUE(known_in.dim() == 4, op, ": known must be [n, k, h, w], got ", known_in.sizes());
  check_sizes(known_in, {n, known_in.size(1), h, w}, op, "known");
  check_type(known_in, z, op, "known", "z");
  const at::Tensor known = known_in.contiguous(), cells = at::empty({n, h, w, 144 + known.size(1)}, z.options());
  if (cells.numel() > 0)
    choose(level).fusion_cells(
        {n, h, w, known.size(1), z.const_data_ptr<float>(), picture.const_data_ptr<float>(), detail.const_data_ptr<float>(),
         known.const_data_ptr<float>(), picture.stride(0), detail.stride(0), cells.data_ptr<float>(), static_cast<float>(gain)},
        threads());
  return cells;
}

at::Tensor fusion_pixels(const at::Tensor& z_in, const at::Tensor& picture_in, const at::Tensor& detail_in,
                         const at::Tensor& cells_in, const at::Tensor& trust_in, double half, double gain, Level level) {
  const char* op = "fusion_pixels";
  check_frames(z_in, op);
  const at::Tensor z = z_in.contiguous(), picture = dense_frames(picture_in, z, op, "picture");
  const at::Tensor detail = dense_frames(detail_in, z, op, "detail");
  const int64_t n = z.size(0), h = z.size(2) / 4, w = z.size(3) / 4;
  check_sizes(cells_in, {n, h, w, 64}, op, "cells");
  check_type(cells_in, z, op, "cells", "z");
  check_sizes(trust_in, {n, 1, h, w}, op, "trust");
  check_type(trust_in, z, op, "trust", "z");
  const at::Tensor cells = cells_in.contiguous(), trust = trust_in.contiguous(), out = at::empty_like(z);
  if (out.numel() > 0)
    choose(level).fusion_pixels(
        {n, h, w, z.const_data_ptr<float>(), picture.const_data_ptr<float>(), detail.const_data_ptr<float>(),
         cells.const_data_ptr<float>(), trust.const_data_ptr<float>(), picture.stride(0), detail.stride(0), out.data_ptr<float>(),
         static_cast<float>(half), static_cast<float>(gain)},
        threads());
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
  m.impl("fusion_cells", fusion_cells);
  m.impl("fusion_pixels", fusion_pixels);
}

}  // namespace davsr
