"""Tests of codet5p_jax.corpus.parsing: one small file in each language."""

import pytest

from codet5p_jax.corpus.languages import LANGUAGES
from codet5p_jax.corpus.parsing import parse_functions


def _named(source, language):
    found = parse_functions(source.encode(), language)
    return {f.name: (f.docstring, f.code) for f in found}


def test_python_docstrings_are_cut_out_of_the_code():
    found = _named(
        '''
@cached
def area(r):
    """Area of a circle.

    More about it.
    """
    return 3 * r * r

class Circle:
    async def grow(self): "Makes it larger."

    def shrink(self):
        # no docstring
        if True:
            pass
''',
        "python",
    )
    assert found == {
        "area": ("Area of a circle.", "@cached\ndef area(r):\n    return 3 * r * r"),
        "grow": ("Makes it larger.", "async def grow(self): pass"),
        "shrink": ("", "def shrink(self):\n    # no docstring\n    if True:\n        pass"),
    }


def test_a_string_that_is_no_docstring_stays_in_the_code():
    found = _named('def f():\n    "a".join(b)\n    return 1\n', "python")
    assert found == {"f": ("", 'def f():\n    "a".join(b)\n    return 1')}


def test_java_methods_have_their_javadoc():
    found = _named(
        """
class A {
  /** Opens it.
   * @param path where */
  @Override
  public int open(String path) { return 0; }
  // not JavaDoc
  void close() {}
  A() {}
}
""",
        "java",
    )
    assert found["open"] == ("Opens it.", "@Override\npublic int open(String path) { return 0; }")
    assert found["close"] == ("", "void close() {}")
    assert found["A"] == ("", "A() {}")


def test_javascript_functions_are_named_by_what_they_are_assigned_to():
    found = _named(
        """
/** Adds numbers. */
export function add(a, b) { return a + b }
// Multiplies
// numbers.
const multiply = (a, b) => a * b;
/* Shows it. */
View.prototype.show = function (x) { return x };
var o = {
  // Hides it.
  hide: function () {},
  toggle() {},
};
run(function () {});
""",
        "javascript",
    )
    assert {name: docstring for name, (docstring, _) in found.items()} == {
        "add": "Adds numbers.",
        "multiply": "Multiplies numbers.",
        "show": "Shows it.",
        "hide": "Hides it.",
        "toggle": "",
    }
    assert found["multiply"][1] == "const multiply = (a, b) => a * b;"


def test_go_comments_right_above_document():
    found = _named(
        """package x
// Open opens
// it.
func Open() int { return 1 }

// about something else

func Close() {}
// Len is the length.
func (t *T) Len() int { return 0 }
""",
        "go",
    )
    assert {name: docstring for name, (docstring, _) in found.items()} == {
        "Open": "Open opens it.",
        "Close": "",
        "Len": "Len is the length.",
    }


def test_ruby_comments_document_the_first_method_of_a_class_too():
    found = _named(
        """class A
  # Opens it.
  #
  # More.
  def open(path)
    path
  end
=begin
Closes it.
=end
  def self.close; end
  def open?; end
end
""",
        "ruby",
    )
    assert found["open"] == ("Opens it.", "def open(path)\n  path\nend")
    assert found["close"][0] == "Closes it."
    assert found["open?"][0] == ""


def test_php_methods_have_their_phpdoc():
    found = _named(
        """<?php
class A {
    /**
     * Open it.
     *
     * @return int
     */
    public function open() { return 1; }
    # not PHPDoc
    function close() {}
}
""",
        "php",
    )
    assert found["open"] == ("Open it.", "public function open() { return 1; }")
    assert found["close"][0] == ""


def test_c_functions_are_named_inside_their_declarators():
    found = _named(
        """/* Frees the list.
 */
static void *free_list(struct list *l)
{
    return 0;
}
int size; // of the list
int length(void) { return 1; }
#ifdef X
// Opens it,
// slowly.
int open_it(void) { return 1; }
#endif
""",
        "c",
    )
    assert found["free_list"][0] == "Frees the list."
    assert found["length"][0] == ""
    assert found["open_it"][0] == "Opens it, slowly."


def test_cpp_templates_references_and_destructors():
    found = _named(
        """namespace a {
// Returns x.
template <typename T>
T& A<T>::get(int x) const { return x; }
/// \\brief Frees it.
A::~A() { }
class B {
  // Copies it.
  B& operator=(const B& b) { return *this; }
};
}
""",
        "cpp",
    )
    assert found["get"][0] == "Returns x."
    assert found["get"][1].startswith("template <typename T>\n")
    assert found["~A"][0] == "Frees it."
    assert found["operator="][0] == "Copies it."


def test_csharp_xml_comments_give_their_summary():
    found = _named(
        """namespace N { class A {
    /// <summary>
    /// Gets it.
    /// </summary>
    /// <param name="a">b</param>
    [Pure]
    public int Get(int a) { return a; }
    // not documentation
    void Set() => X();
} }
""",
        "csharp",
    )
    assert found["Get"] == ("Gets it.", "[Pure]\npublic int Get(int a) { return a; }")
    assert found["Set"][0] == ""


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_no_file_is_too_broken_to_parse(language):
    for source in (b"", b"\xff\xfe{{{", b"function f( {", b"class A { /* int f() {} "):
        assert isinstance(parse_functions(source, language), list)


def test_classes_and_namespaces_behind_a_macro_are_no_functions():
    code = """// Shapes of all kinds.
class SHAPES_EXPORT Shape : public Object {
 public:
  // Returns its area.
  double area() const { return area_; }
  // Whether it has one.
  explicit operator bool() const { return area_ > 0; }
};

SHAPES_BEGIN
namespace shapes {
int count() { return 1; }
}
"""
    names = [function.name for function in parse_functions(code.encode(), "cpp")]
    assert names == ["area", "operator bool", "count"]


@pytest.mark.timeout(60)
def test_functions_inside_of_twenty_others_are_left_out():
    names = [f"f{number}" for number in range(6_000)]
    opened = "\n".join(f"function {name}() {{" for name in names)
    code = opened + "\nreturn 1;\n" + "}\n" * len(names) + "function last() {\n}\n"
    found = parse_functions(code.encode(), "javascript")
    assert [function.name for function in found] == [*names[:21], "last"]
    assert sum(len(function.code) for function in found) < 21 * len(code)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("lines", "documented"), [(1_000, True), (1_001, False), (90_000, False)])
def test_more_than_a_thousand_comments_in_a_row_are_no_documentation(lines, documented):
    code = "package a\n\n" + "// A adds all.\n" * lines + "func A() {\n\tb()\n}\n"
    (found,) = parse_functions(code.encode(), "go")
    assert (found.name, bool(found.docstring)) == ("A", documented)
