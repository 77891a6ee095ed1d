# shellcheck shell=bash disable=SC2034
# LIBTPU_INIT_ARGS for TPU v5p: megacore as v4, with twice the ICI bandwidth, so the same overlaps.
LIBTPU_FLAGS=(
  # Collectives run beside the matrix products that neither feed them nor need them yet.
  --xla_tpu_enable_async_collective_fusion=true
  # All-gathers too, which bring FSDP's parameters of the next layer.
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  # A long collective may span several products, not only one.
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  # The tensor core itself drives what was made asynchronous, between its own instructions.
  --xla_tpu_overlap_compute_collective_tc=true
  # Without it an all-gather is never split into a start and a done, and nothing fits in between.
  --xla_enable_async_all_gather=true
  # A megacore fusion that holds an all-gather occupies both cores until the gather has ended.
  --xla_tpu_megacore_fusion_allow_ags=false
  # Gradient all-reduces over the data centre network (slices) overlap with the backward pass, ...
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  # ... gradients of different sizes too: embedding and layers differ.
  --xla_tpu_data_parallel_opt_different_sized_ops=true
)
