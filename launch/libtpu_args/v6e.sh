# shellcheck shell=bash disable=SC2034
# LIBTPU_INIT_ARGS for TPU v6e (Trillium): one tensor core, and SparseCores that can drive collectives.
# MaxText adds --2a886c8_chip_config_name=megachip_tccontrol, which libtpu 0.0.42 refuses where no TPU is.
LIBTPU_FLAGS=(
  # A SparseCore reduces gradients while the tensor core goes on with the backward pass.
  --xla_tpu_enable_sparse_core_collective_offload_all_reduce=true
  # Both want the same collectives; together they collide. One of the two, never both.
  --xla_tpu_enable_async_collective_fusion=false
  # Offloaded collectives appear in a profile.
  --xla_tpu_enable_all_reduce_offload_tracing=true
  # Buffers handed over keep the tensor core's layout: no copy on the way.
  --xla_tpu_use_tc_device_shape_on_sc=true
  # The offload needs the SparseCore's instructions unfused, ...
  --xla_sc_enable_instruction_fusion=false
  # ... one memory for all its tiles, ...
  --xla_sc_disjoint_spmem=false
  # ... and its work in one piece: v6e has no megacore to split it for.
  --xla_sc_disable_megacore_partitioning=true
  # 96 of the 128 MiB of VMEM for one operation (default 16): large tiles of matrix products are
  # read from HBM less often.
  --xla_tpu_scoped_vmem_limit_kib=98304
  # Gradient all-reduces over the data centre network (slices) overlap with the backward pass, ...
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  # ... gradients of different sizes too: embedding and layers differ.
  --xla_tpu_data_parallel_opt_different_sized_ops=true
)
