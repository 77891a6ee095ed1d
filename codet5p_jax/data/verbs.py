"""English verbs of documentation, and sentences of them in the third person."""

import re

# What sentences about functions begin with.
_VERBS = """
abort accept accumulate acquire activate adapt add adjust advance align allocate allow analyze
append apply approximate ask assemble assert assign attach authenticate authorize average back
begin bind block broadcast build bump cache calculate call cancel cast change check choose clamp
clean clear clip clone close coerce collapse collect combine commit compact compare compile
compose compress compute concatenate configure connect consume convert copy count create cut
decode decompress decrease decrement decrypt deduplicate delegate delete dequeue derive
deserialize destroy detach detect determine disable discard disconnect dispatch display divide
download draw drop dump duplicate emit emulate enable encode encrypt enforce enqueue ensure
enumerate erase escape estimate evaluate exclude execute exit expand export extend extract fetch
fill filter find finish fire flag flatten flip flush fold force format forward free freeze
generate get give go grab group grow guess handle hash hide identify implement import include
increase increment indent index infer initialize inject insert inspect install instantiate
intersect invalidate invert invoke issue iterate join keep kill launch leave limit list load
locate lock log look lookup loop make map mark marshal match measure merge migrate modify monitor
mount move multiply mutate negate normalize notify obtain open order output overwrite pack pad
paint parse partition pass patch pause peek perform pick place plot pop populate prefix prepare
prepend prevent print process produce prompt provide prune publish pull purge push put query queue
quote raise randomize read rebuild receive recompute record redirect reduce refresh register
reject release reload remove rename render reorder repeat replace report request require reset
reshape resize resolve restart restore restrict resume retrieve return reverse revert revoke
rewrite roll rotate round run sample sanitize save scale scan schedule search seek select send
serialize set shift show shrink shuffle shut simplify simulate skip sleep slice sort specify split
spread start stop store stream strip sub subtract sum suspend swap switch synchronize tag take
tell terminate test toggle tokenize touch track transfer transform translate transpose traverse
trigger trim truncate try turn unescape unlock unpack unregister unset unwrap update upgrade
upload use validate verify visit wait walk warn watch wrap write yield zip
"""
# What follows a verb rather than a noun of the same spelling.
_OBJECT_WORDS = """
a all an another any both each either every false from given how if multiple new no none null one
only several some that the true two what when where whether which
"""
VERBS = frozenset(_VERBS.split())
_OBJECTS = frozenset(_OBJECT_WORDS.split())
_SEARCHING = frozenset({"check", "look", "search", "wait", "scan", "test", "ask"})
_IRREGULAR = {"go": "goes", "do": "does", "try": "tries"}
_COORDINATED = re.compile(r"(,| and| or| then| but)((?: then| and| or)?) ([a-z]+) (\S+)")


def third_person(verb: str) -> str:
    """Returns the verb as it stands behind "it": match -> matches, copy -> copies."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if re.search(r"(s|x|z|ch|sh)$", verb):
        return f"{verb}es"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}s"


_THIRD_PERSONS = {third_person(verb): verb for verb in VERBS}


def third_person_sentence(sentence: str) -> str | None:
    """Returns a sentence that begins with a verb as it would go on behind "it", or None.

    None where it begins with another word, or it is not certain that the word is a verb.

    "Parse the header and return the rest" -> "parses the header and returns the rest"
    """
    first, _, rest = sentence.partition(" ")
    verb, following = first.lower(), rest.partition(" ")[0].lower()
    if verb in _THIRD_PERSONS:
        base = _THIRD_PERSONS[verb]
        is_verb = following != "of" and (following != "for" or base in _SEARCHING)
        return f"{verb} {rest}" if is_verb and _agrees(rest) else None
    if verb not in VERBS or not (following in _OBJECTS or following.startswith("`")):
        return None
    found = [match for match in _COORDINATED.finditer(rest) if _is_coordinated(match)]
    if any(re.search(r"\b(to|can|will|should|must|may)\b", rest[: m.start()]) for m in found):
        return None  # "to parse and return the rest": no verb of the function's own
    for match in reversed(found):
        start, end = match.span(3)
        rest = f"{rest[:start]}{third_person(match.group(3))}{rest[end:]}"
    return f"{third_person(verb)} {rest}"


def _is_coordinated(match: re.Match[str]) -> bool:
    return match.group(3) in VERBS and match.group(4).lower() in _OBJECTS


def _agrees(rest: str) -> bool:
    """Whether the verbs behind a first one in the third person are in it too."""
    return not any(
        _is_coordinated(match) and not re.search(r"\bto\b", rest[: match.start()])
        for match in _COORDINATED.finditer(rest)
    )
