"""Tests of codet5p_jax.cli.corpus_show."""


def test_a_corpus_is_shown_with_its_examples(codet5p, built_corpus):
    code, shown, _ = codet5p("corpus", "show", built_corpus)
    assert code == 0
    assert "Languages" in shown and "Licences" in shown and "Left out" in shown
    assert "Returns the [red]area[/red] of circle number" in shown
    assert not any(line.endswith(" ") for line in shown.splitlines())
    assert "four" not in shown.partition("A pair")[0]


def test_every_source_is_listed_on_request(codet5p, built_corpus):
    _, shown, _ = codet5p("corpus", "show", built_corpus, "--sources")
    rows = [line.split() for line in shown.splitlines()]
    assert {"one", "two", "three", "four"} <= {row[0] for row in rows if row}


def test_the_page_is_written_and_named(codet5p, built_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    page = tmp_path / "pages" / "corpus.html"
    _, shown, _ = codet5p("corpus", "show", built_corpus, "--html=~/pages/corpus.html")
    assert f"Page: {page}" in shown and "<h1>" in page.read_text()


def test_verifying_counts_every_record(codet5p, built_corpus):
    _, shown, _ = codet5p("corpus", "show", built_corpus, "--verify")
    assert "records read, all whole." in shown


def test_a_directory_without_corpus_is_one_line_and_code_2(codet5p, tmp_path):
    code, _, error = codet5p("corpus", "show", tmp_path)
    assert code == 2 and "codet5p corpus build" in error
