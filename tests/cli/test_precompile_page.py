"""Tests of codet5p_jax.cli.precompile_page."""

import html.parser
import re

import pytest

from codet5p_jax.cli.precompile_page import page, write_page

GIB = 2**30
FITS = {
    "phase": "all",
    "steps": 100_000,
    "topology": "v5e:4x4",
    "chips": 32,
    "mesh": {"slice": 2, "data": 16, "model": 1},
    "fsdp": False,
    "batches": {"span_denoising": 2048, "decoder_clm": 512},
    "microbatches": 16,
    "remat_policy": "jax.checkpoint_policies.dots_saveable",
    "dtype": "bfloat16",
    "state_bytes": 3 * GIB,
    "usable_hbm_bytes": int(15.75 * GIB),
    "fits": True,
    "hbm_bytes": int(10.5 * GIB),
    "spare": 1 / 3,
    "compile_seconds": 61.4,
    "model_flops": 90e12,
    "flops": 100e12,
    "hbm_traffic_bytes": 800e9,
    "collectives": [
        {
            "kind": "all-reduce",
            "group_size": 16,
            "across_slices": False,
            "count": 50,
            "operand_bytes": 600_000_000,
            "wire_bytes": 1_125_000_000.0,
        },
        {
            "kind": "all-reduce",
            "group_size": 2,
            "across_slices": True,
            "count": 10,
            "operand_bytes": 44_000_000,
            "wire_bytes": 44_000_000.0,
        },
    ],
    "unknown": ["FLOPs of the custom call Sort: counted as 0."],
    "seconds": {"MXU": 0.5, "HBM": 0.976, "ICI": 0.006, "DCN": 0.014},
    "limit": "HBM",
    "step_seconds": 0.976,
    "mfu_bound": 0.468,
    "heaviest": [
        {
            "name": "fusion.7",
            "opcode": "fusion",
            "origin": "jit(step)/while/body/attention/<lambda>/add",
            "type_text": "bf16[8]",
            "runs": 192,
            "hbm_bytes": 80_000_000_000,
        }
    ],
}
DOES_NOT = {
    **{k: FITS[k] for k in ("steps", "topology", "chips", "mesh", "fsdp", "batches", "dtype")},
    **{k: FITS[k] for k in ("microbatches", "remat_policy", "state_bytes", "usable_hbm_bytes")},
    "phase": "denoising",
    "fits": False,
    "hbm_bytes": 20 * GIB,
    "said": "Used 20.00G of 15.75G hbm. <b>",
}
VERSIONS = {"jax": "0.10.2", "libtpu": "0.0.42"}


class _Page(html.parser.HTMLParser):
    """Text of a page and what it links to; fails on elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.words, self.links, self._open = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())
        assert self._open == []

    def handle_starttag(self, name, attributes):
        if name not in ("meta", "br"):
            self._open.append(name)
        self.links += [value for key, value in attributes if key in ("src", "href")]

    def handle_startendtag(self, name, attributes):
        pass

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        if self._open[-1:] not in (["style"], ["script"]):
            self.words.append(data)


@pytest.fixture(scope="module")
def shown():
    return page([FITS, DOES_NOT], recipe="recipes/stage1_220m.gin", versions=VERSIONS)


def test_a_page_tells_what_the_step_needs_moves_and_sends(shown):
    text = _Page(shown).text
    for words in (
        "Compiled for v5e:4x4",
        "Phase all: slice 2 x data 16",
        "976 ms least time of a step",
        "46.8% MFU, at most",
        "33% HBM to spare",
        "Whole step at its peak 10.50 GiB",
        "Memory (HBM): the limit 800 GB read and written 976 ms",
        "Matrix units 100 TFLOPs, 90% the model's 500 ms",
        "Network between slices (DCN) 44.0 MB sent 14.0 ms",
        "all-reduce of 16 50 600 MB 12.0 MB 1.12 GB",
        "all-reduce across 2 slices 10 44.0 MB 4.40 MB 44.0 MB",
        "body/attention/<lambda>/add fusion.7 fusion 192 80.0 GB 10.0%",
        "FLOPs of the custom call Sort: counted as 0.",
        "span_denoising 2,048, decoder_clm 512",
        "jax 0.10.2 libtpu 0.0.42",
    ):
        assert words in text, words


def test_a_phase_that_does_not_fit_says_so_and_what_to_try(shown):
    text = _Page(shown).text
    assert "Does not fit: needs 20.00 GiB of 15.75 GiB. Try more MICROBATCHES" in text
    assert "Used 20.00G of 15.75G hbm. <b>" in text  # escaped, or it would be a tag


def test_without_an_amount_it_is_more_than_there_is():
    text = _Page(page([{**DOES_NOT, "hbm_bytes": None}], recipe="r", versions={})).text
    assert "needs more than there is of 15.75 GiB" in text


def test_the_figures_of_a_toy_are_told_in_smaller_units():
    small = {name: FITS[name] / 1e6 for name in ("flops", "model_flops", "hbm_traffic_bytes")}
    small |= {"state_bytes": 3 * 2**20, "step_seconds": 12.3e-6}
    text = _Page(page([{**FITS, **small}], recipe="r", versions={})).text
    for words in ("12.3 µs", "100 MFLOPs, 90%", "800 kB read and written", "objectives) 3.00 MiB"):
        assert words in text, words


def test_bars_are_as_long_as_what_they_show(shown):
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', shown)]
    assert widths[:3] == [19.0, 66.7, 100.0]  # 3, 10.5 and 15.75 of 15.75 GiB
    assert widths[3:7] == [51.2, 100.0, 0.6, 1.4]  # of the 976 ms


def test_a_single_slice_has_no_network_between_slices():
    alone = {**FITS, "seconds": {**FITS["seconds"], "DCN": 0.0}, "collectives": []}
    text = _Page(page([alone], recipe="r", versions={})).text
    assert "Network between slices" not in text
    assert "None: the chip works alone." in text


def test_a_search_in_vain_makes_a_page_too():
    text = _Page(page([], recipe="r", versions={})).text
    assert "Nothing that was tried fits. Try more MICROBATCHES" in text


def test_the_page_refers_to_nothing_outside_itself(shown, tmp_path):
    assert _Page(shown).links == []
    path = tmp_path / "deep" / "page.html"
    write_page(path, [FITS, DOES_NOT], recipe="recipes/stage1_220m.gin", versions=VERSIONS)
    assert path.read_text(encoding="utf-8") == shown
