"""Tests of codet5p_jax.corpus.secrets.

No secret stands here whole: hosts of repositories look for them, as we do.
"""

import base64

import pytest
import tree_sitter
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

from codet5p_jax.corpus import secrets
from codet5p_jax.corpus.languages import LANGUAGES, grammar
from codet5p_jax.corpus.parsing import parse_functions
from codet5p_jax.corpus.secrets import EMAIL, EMAIL_KIND, KEYWORD_KIND, SECRET, scrub

DIGITS = "0123456789"
HEX = "9f3a61c07be2" * 8
BASE62 = "Zq3Tn8vK1xWb7RfYc5Lm2Pd9Hs4Jg6A" * 4
KEY = "\n".join(["MIICXAIBAAKBgQDn3tq2vG9Yx7" + "kQ8sZr4LwB1cVfHj5"] * 3)

PLANTED = {
    "ArtifactoryDetector": [f'"AK{"C"}{BASE62[:20]}"', f'token = "A{"P"}6{BASE62[:20]}"'],
    "AWSKeyDetector": [f'"AK{"IA"}2E0A8F3B1C7D9G5H"', f'aws_secret_key = "{BASE62[:40]}"'],
    "AzureStorageKeyDetector": [f'"Account{"Key"}={BASE62[:86]}=="'],
    "BasicAuthDetector": [f'"https://someone:{BASE62[:9]}@host.org/path"'],
    "CloudantDetector": [
        f'cloudant_apikey = "{HEX[:64]}"',
        f'cl_password = "{"abcdefgh" * 3}"',
        f'"https://account:{HEX[:64]}@account.cloudant.com"',
        f'"https://account:{"abcdefgh" * 3}@account.cloudant.com"',
    ],
    "DiscordBotTokenDetector": [f'"M{BASE62[:23]}.{BASE62[3:9]}.{BASE62[:27]}"'],
    "GitHubTokenDetector": [f'"gh{kind}_{BASE62[:36]}"' for kind in "pousr"],
    "GitLabTokenDetector": [
        f'"gl{kind}-{BASE62[:length]}"'
        for kind, length in (
            *(("pat", 20), ("dt", 20), ("ft", 20), ("soat", 20), ("rt", 20), ("cbt", 20)),
            *(("imt", 25), ("ptt", 40), ("agent", 50), ("oas", 64)),
        )
    ]
    + [f'"GR134{"8941"}{BASE62[:20]}"'],
    "IbmCloudIamDetector": [f'ibm_cloud_api_key = "{BASE62[:44]}"', f'password: "{BASE62[:44]}"'],
    "IbmCosHmacDetector": [f'cos_hmac_secret_access_key = "{HEX[:48]}"'],
    "JwtTokenDetector": [
        '"'
        + ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=")
            for part in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}', b"a signature of some length")
        )
        + '"'
    ],
    "MailchimpDetector": [f'"{HEX[:32]}-us12"'],
    "NpmDetector": [f'"//registry.npmjs.org/:_auth{"Token"}=np{"m_"}{BASE62[:36]}"'],
    "OpenAIDetector": [f'"sk-{BASE62[:20]}T3Blbk{"FJ"}{BASE62[:20]}"'],
    "PrivateKeyDetector": [
        f'"""-----BEGIN {kind} {"KEY"}{block}-----\n{KEY}\n-----END {kind} KEY{block}-----"""'
        for kind, block in (
            *(("DSA PRIVATE", ""), ("EC PRIVATE", ""), ("OPENSSH PRIVATE", ""), ("PRIVATE", "")),
            *(("RSA PRIVATE", ""), ("SSH2 ENCRYPTED PRIVATE", ""), ("PGP PRIVATE", " BLOCK")),
        )
    ]
    + [f'"""PuTTY-User-Key-File{"-2"}: ssh-rsa\nPrivate-Lines: 3\n{KEY}\nPrivate-MAC: {HEX}"""'],
    "PypiTokenDetector": [
        f'"pypi-Ag{server}{BASE62[:70]}"' for server in ("EIcHlwaS5vcmc", "ENdGVzdC5weXBpLm9yZw")
    ],
    "SendGridDetector": [f'"S{"G"}.{BASE62[:22]}.{BASE62[:43]}"'],
    "SlackDetector": [
        *(f'"xox{kind}-{DIGITS}-{DIGITS}-{BASE62[:24]}"' for kind in "abposr"),
        f'"https://hooks.slack.com/{"services"}/T{BASE62[:8]}/B{BASE62[:8]}/{BASE62[:24]}"',
    ],
    "SoftlayerDetector": [
        f'softlayer_api_key = "{HEX[:64]}"',
        f'"https://api.softlayer.com/soap/v3/{HEX[:64]}"',
    ],
    "SquareOAuthDetector": [f'"sq0{"csp"}-{BASE62[:43]}"'],
    "StripeDetector": [f'"{kind}k_{"live"}_{BASE62[:24]}"' for kind in "rs"],
    "TelegramBotTokenDetector": [f'"{DIGITS}:{BASE62[:35]}"'],
    "TwilioKeyDetector": [f'"A{"C"}{HEX[:32]}"', f'"S{"K"}{HEX[:32]}"'],
}
SECRETS = [(name, text) for name, texts in PLANTED.items() for text in texts]


def _by_name():
    return {c.__name__: c for c in get_mapping_from_secret_type_to_class().values()}


def _found(detector, text):
    """What the library's own scan finds, line by line; the placeholder is none, as <templates>."""
    lines = text.split("\n")
    found = [s for line in lines for s in detector.analyze_line(filename="f", line=line)]
    return [s for s in found if s.secret_value != SECRET]


@pytest.mark.parametrize("cls", secrets.used_detectors(), ids=lambda cls: cls.__name__)
def test_every_detector_of_the_library_has_a_planted_secret_for_each_of_its_patterns(cls):
    for pattern in cls.denylist:
        assert any(pattern.search(text) for text in PLANTED[cls.__name__]), pattern.pattern


@pytest.mark.parametrize(("name", "text"), SECRETS, ids=lambda value: value[:24])
def test_a_planted_secret_that_the_library_finds_is_replaced(name, text):
    detector = _by_name()[name]()
    code = f"def connect():\n    credential = {text}\n    return open_session(credential)\n"
    assert _found(detector, code)
    scrubbed, counts = scrub(code)
    assert counts.total() >= 1
    assert not _found(detector, scrubbed)
    assert SECRET in scrubbed and scrubbed.endswith("    return open_session(credential)\n")
    assert not any(run in scrubbed for run in (BASE62[:8], HEX[:8], KEY[:8]))
    assert len(parse_functions(scrubbed.encode(), "python")) == 1


def test_only_detectors_that_are_documented_are_left_out():
    left_out = _by_name().keys() - {cls.__name__ for cls in secrets.used_detectors()}
    assert left_out == secrets.NOT_USED | {
        *("KeywordDetector", "HexHighEntropyString", "Base64HighEntropyString"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key = 'gh{'p'}_{BASE62[:36]}'", f"key = '{SECRET}'"),
        (f"key = 'gh{'p'}_{BASE62[:60]}'", f"key = '{SECRET}'"),  # longer than the pattern
        (f'aws_key = "{BASE62[:40]}"', f'aws_key = "{SECRET}"'),
        (f'"db://me:{BASE62[:9]}@host/x"', f'"db://me:{SECRET}@host/x"'),
        (f'apiKey: "{BASE62[:40]}",', f'apiKey: "{SECRET}",'),
        (f'Password = @"{BASE62[:40]}";', f'Password = @"{SECRET}";'),
        (f'client["secret"] = "{HEX[:40]}"', f'client["secret"] = "{SECRET}"'),
    ],
)
def test_the_secret_alone_is_replaced(text, expected):
    assert scrub(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        '"http://{user}:{password}@{host}"',
        '"http://%s:%s@%s"',
        "googlechat://<key>:<token>@default",
        '#define BEGIN "-----BEGIN RSA PRIVATE KEY-----"\n'
        "static int length = 40;\n"
        '#define END "-----END RSA PRIVATE KEY-----"',
        'password = "correct horse battery"',
        'secret_key_base = "secret_key_base_of_tests"',
        f'digest = "{HEX[:64]}"',
        'alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"',
        'version = "4.0.30319.1"',
        "key = compute_the_key_of_the_cache_entry(name)",
    ],
)
def test_what_only_looks_like_a_secret_stays(text):
    assert scrub(text) == (text, {})


def test_a_private_key_in_pieces_goes_whole():
    lines = "".join(f'    "{line}\\n"\n' for line in KEY.split("\n"))
    code = (
        f'const char *key =\n    "-----BEGIN EC PRIVATE {"KEY"}-----\\n"\n{lines}'
        '    "-----END EC PRIVATE KEY-----\\n";\nint main(void) { return 0; }\n'
    )
    scrubbed, counts = scrub(code)
    assert scrubbed == (
        f'const char *key =\n    "-----{SECRET}-----\\n";\nint main(void) {{ return 0; }}\n'
    )
    assert counts == {"Private Key": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@author Jane Roe <jane.roe+x@mail.roe.io>", f"@author Jane Roe <{EMAIL}>"),
        ("mailto:jane@roe.org.", f"mailto:{EMAIL}."),
        ('"To:\\njane@roe.org"', f'"To:\\n{EMAIL}"'),
        ("jane@roe.org,joe@roe.org", f"{EMAIL},{EMAIL}"),
    ],
)
def test_addresses_are_replaced(text, expected):
    scrubbed, counts = scrub(text)
    assert scrubbed == expected
    assert counts == {EMAIL_KIND: scrubbed.count(EMAIL)}
    assert scrub(scrubbed) == (scrubbed, {})


@pytest.mark.parametrize(
    "text",
    [
        "c = a@b.T + q@k.transpose(1)",
        "total = weights@values.mean[0]",
        "jane@example.com joe@mail.example.org user@host.test root@localhost",
        "git clone git@github.com:owner/name.git",
        "npm install lodash@4.17.21 icon@2x.png",
        "ftp://jane@ftp.roe.org/pub",
        'f"{name}@{host}.org" "%s@roe.org" "$user@roe.org"',
        "@pytest.mark.slow\n@app.route",
        "HomeController@index",
    ],
)
def test_what_is_no_address_of_a_person_stays(text):
    assert scrub(text) == (text, {})


def test_a_name_and_a_random_word_together_are_a_secret_of_their_own_kind():
    assert scrub(f'my_api_key = "{BASE62[:30]}+"')[1] == {KEYWORD_KIND: 1}


def test_letters_that_grow_in_lower_case_do_not_move_what_is_replaced():
    text = f'note = "\u0130\u0130"; apikey = "{BASE62[:30]}+"; mail = "jane@roe.org"'
    assert scrub(text)[0] == f'note = "\u0130\u0130"; apikey = "{SECRET}"; mail = "{EMAIL}"'


C_LIKE = 'int open_all(void) {\n    // {mail}\n    return connect("{token}");\n}\n'
FILES = {
    "c": "/* {mail} */\n" + C_LIKE,
    "cpp": "/// @author {mail}\ntemplate <class T>\n" + C_LIKE,
    "csharp": 'class A {\n  /// <a>{mail}</a>\n  int Open() { return F(@"{token}"); }\n}\n',
    "go": "// Open asks {mail}.\nfunc Open() error {\n\treturn dial(`{token}`)\n}\n",
    "java": 'class A {\n  /** @author {mail} */\n  int open() { return f("{token}"); }\n}\n',
    "javascript": "/** <{mail}> */\nconst open = () => <a href={f('{token}')}>ask</a>;\n",
    "php": "<p>{mail}</p>\n<?php\n/** {mail} */\nfunction open() { return f('{token}'); }\n",
    "python": "@author('{mail}')\ndef open():\n    return f('{token}')\n",
    "ruby": "# {mail}\ndef open\n  f(%w[{token}], '{mail}')\nend\n",
}


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_scrubbed_code_of_every_language_parses_as_before(language):
    token, mail = f"gh{'p'}_{BASE62[:36]}", "jane@roe.org"
    code = FILES[language].replace("{token}", token).replace("{mail}", mail)
    scrubbed, counts = scrub(code)
    assert counts == {"GitHub Token": 1, EMAIL_KIND: code.count(mail)}
    names = [
        [function.name for function in parse_functions(text.encode(), language)]
        for text in (code, scrubbed)
    ]
    assert names[0] == names[1] and len(names[0]) == 1
    assert not _errors(scrubbed, language)


def _errors(code, language):
    tree = tree_sitter.Parser(grammar(language)).parse(code.encode())
    return tree.root_node.has_error
