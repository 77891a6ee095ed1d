"""Tests of codet5p_jax.training.hlo.parser."""

import jax
import jax.numpy as jnp
import pytest

from codet5p_jax.training.hlo.parser import parse

# Lines of a TPU v5e program (libtpu 0.0.42), shortened.
TPU_TEXT = """\
HloModule jit_mm, is_scheduled=true, entry_computation_layout={(bf16[256,2048]{1,0:T(8,128)(2,1)})->bf16[256,2048]{1,0:T(8,128)(2,1)}}, num_partitions=4, frontend_attributes={arg_memory_spaces="0;0"}

FileNames
1 "/home/someone/programs.py"

FileLocations
1 {file_name_id=1 function_name_id=1 line=19 end_line=19 column=4 end_column=4}

%fused_computation.1 (param_0.6: bf16[2048,2048], param_1.6: bf16[256,2048]) -> bf16[256,2048] {
  %param_1.6 = bf16[256,2048]{1,0:T(8,128)(2,1)} parameter(1)
  %param_0.6 = bf16[2048,2048]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  ROOT %convolution.4 = bf16[256,2048]{1,0:T(8,128)(2,1)} convolution(%param_1.6, %param_0.6), dim_labels=bf_oi->bf, metadata={op_name="jit(mm)/dot_general, dim_labels=wrong" stack_frame_id=4}
}

ENTRY %main.1_spmd (param: bf16[256,2048], param.1: bf16[2048,2048]) -> bf16[256,2048] {
  %param.1 = bf16[2048,2048]{1,0:T(8,128)(2,1)} parameter(1), sharding={replicated}, metadata={op_name="w"}
  %copy-start = (bf16[2048,2048]{1,0:T(8,128)(2,1)S(1)}, bf16[2048,2048]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%param.1), cross_program_prefetch_index=0
  %param = bf16[256,2048]{1,0:T(8,128)(2,1)} parameter(0), sharding={devices=[4,1]<=[4]}, metadata={op_name="x"}
  %copy-done = bf16[2048,2048]{1,0:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  ROOT %fusion = bf16[256,2048]{1,0:T(8,128)(2,1)} fusion(%copy-done, /*index=1*/%param), kind=kOutput, calls=%fused_computation.1, backend_config={"flag_configs":[],"estimated_cycles":"52502"}
}
"""  # noqa: E501


def test_a_tpu_program_has_its_computations_and_instructions():
    module = parse(TPU_TEXT)
    assert (module.entry, module.devices) == ("main.1_spmd", 4)
    assert list(module.computations) == ["fused_computation.1", "main.1_spmd"]
    main = module.computations["main.1_spmd"]
    assert [instruction.opcode for instruction in main.instructions.values()] == [
        "parameter",
        "copy-start",
        "parameter",
        "copy-done",
        "fusion",
    ]
    root = main.instructions[main.root]
    assert root.operands == ("copy-done", "param")
    assert module.called(root, "calls").root == "convolution.4"
    assert [buffer.memory_space for buffer in main.instructions["copy-start"].buffers] == [1, 0, 2]


def test_attributes_are_not_sought_in_metadata():
    fused = parse(TPU_TEXT).computations["fused_computation.1"]
    assert fused.instructions["convolution.4"].attribute("dim_labels") == "bf_oi->bf"
    assert fused.instructions["convolution.4"].attribute("window") is None
    assert fused.parameters == {0: "param_0.6", 1: "param_1.6"}
    assert [user.name for user in fused.users["param_0.6"]] == ["convolution.4"]


def test_attributes_keep_their_brackets():
    lines = (
        "  %a = f32[2]{0} parameter(0)\n"
        "  ROOT %s = f32[1]{0} slice(%a), slice={[0:1], [2:3]}, x=1\n"
    )
    module = parse("HloModule m\n\nENTRY %main (a: f32[2]) -> f32[1] {\n" + lines + "}\n")
    main = module.computations["main"]
    assert main.instructions["s"].attribute("slice") == "{[0:1], [2:3]}"
    assert main.instructions["s"].attribute("x") == "1"
    assert module.devices == 1


def test_an_instruction_tells_where_it_comes_from_unless_the_compiler_made_it():
    lines = (
        "  %a = f32[2]{0} parameter(0)\n"
        '  ROOT %s = f32[2]{0} sine(%a), metadata={op_type="x" op_name="jit(f)/sin"}\n'
    )
    module = parse("HloModule m\n\nENTRY %main (a: f32[2]) -> f32[2] {\n" + lines + "}\n")
    instructions = module.computations["main"].instructions
    assert (instructions["s"].origin, instructions["a"].origin) == ("jit(f)/sin", "")


def test_an_origin_has_the_quotes_of_a_parameters_name_without_their_escapes():
    metadata = r'metadata={op_name="params[\'embedding\']"}'
    line = f"  ROOT %a = f32[2]{{0}} parameter(0), {metadata}\n"
    module = parse("HloModule m\n\nENTRY %main (a: f32[2]) -> f32[2] {\n" + line + "}\n")
    assert module.computations["main"].instructions["a"].origin == "params['embedding']"


def test_the_text_of_a_compiled_function_can_be_read():
    text = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((3, 3))).compile().as_text()
    module = parse(text)
    opcodes = [
        instruction.opcode
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
    ]
    assert "dot" in opcodes and "sine" in opcodes


def test_thousands_of_lines_are_read_in_a_blink():
    body = "".join(
        f"  %i{n} = f32[8,128]{{1,0:T(8,128)}} add(%i{n - 1}, %i{n - 1}), metadata={{op_name="
        f'"{"x" * 400}"}}\n'
        for n in range(1, 5000)
    )
    text = "HloModule m\n\nENTRY %main (i0: f32[8,128]) -> f32[8,128] {\n"
    text += "  %i0 = f32[8,128]{1,0:T(8,128)} parameter(0)\n" + body + "}\n"
    assert len(parse(text).computations["main"].instructions) == 5000


def test_a_text_that_is_no_program_is_an_error():
    with pytest.raises(ValueError, match=r"no ENTRY computation but 'module @jit_f'.*as_text"):
        parse("module @jit_f")


def test_a_line_that_is_no_instruction_is_an_error():
    with pytest.raises(ValueError, match=r"'  nonsense' is no HLO instruction"):
        parse("HloModule m\n\nENTRY %main () -> f32[] {\n  nonsense\n}\n")


def test_a_call_of_what_the_text_does_not_hold_is_an_error():
    module = parse(TPU_TEXT.replace("calls=%fused_computation.1", "calls=%absent"))
    main = module.computations[module.entry]
    with pytest.raises(ValueError, match=r"fusion \(fusion\) calls calls=absent, which the text"):
        module.called(main.instructions["fusion"], "calls")
