"""What a URL's text must be: right and wrong texts, and what whoever wrote a wrong one is told."""

import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.egress import Policy, judge_address, target
from hookrelay.rules.egress_url import BROWSERS_BLOCK, as_stored, check_text, check_url, judge_host, tidied

NOTHING_SAID = Policy()
HTTP = Policy(allow_http=True)


def opened(*entries, allow_http=False):
    rules = [entry if re.search("[g-z]", entry) else rule(entry) for entry in entries]
    return Policy(tuple(rules), allow_http=allow_http)


def rule(text):
    network, _, port = text.rpartition("@")
    return (ip_network(network), int(port)) if network else (ip_network(text), None)


# --- right ------------------------------------------------------------------------------------------------------

RIGHT = [
    "https://example.com",
    "https://example.com?x=1",
    "https://EXAMPLE.com:8443/a/b?c=d%20e&f[]=~!$'()*+,;:@/?",
    "https://example.com:443/",
    "https://example.com:1024/",
    "https://example.com:65535/",
    "https://xn--bcher-kva.example/x",
    "https://8.8.8.8/x",
    "https://8.8.8.8:8080/x",
    "https://[2a00:1450:4001:82a::200e]:8443/x",
    "https://[2A00::8.8.8.8]/",
    "https://a_b.example/",
    "https://1.2.3.4.example/",
    "https://0x7f.example/",
    "https://1e100.example/",
    f"https://{'a' * 63}.example/",
    f"https://{'a' * 49}.{'.'.join(['a' * 50] * 4)}/",
    "https://example.com/" + "a" * 2028,
]


@pytest.mark.parametrize("url", RIGHT, ids=lambda url: url[:50])
def test_what_the_rules_allow_is_right(url):
    assert check_url(url, NOTHING_SAID) is None


# --- wrong ------------------------------------------------------------------------------------------------------

WRONG = [
    # getaddrinfo reads all of these as 127.0.0.1
    ("https://0177.0.0.1/", "some would read as an address"),
    ("https://127.0.0.01/", "without leading zeros"),
    ("https://0x7f.1/", "some would read as an address"),
    ("https://0X7F.0.0.1/", "some would read as an address"),
    ("https://127.0.0.0x1/", "some would read as an address"),
    ("https://127.1/", "some would read as an address"),
    ("https://2130706433/", '"203.0.113.7"'),
    ("https://0x7f000001/", "some would read as an address"),
    ("https://00/", "some would read as an address"),
    ("https://1.2.3.4.5/", "some would read as an address"),
    ("https://256.1.1.1/", "some would read as an address"),
    ("https://example.1/", "some would read as an address"),
    ("https://example.0x/", "some would read as an address"),
    ("https://①②⑦.⓪.⓪.①/", "U+2460 at character 9"),
    ("https://127。0。0。1/", "U+3002"),
    # urlsplit strips these, or reads past them
    ("https://exam\tple.com/", "the character U+0009 at character 13: leave it out"),
    ("https://example.com/\r\nx", "the character U+000D at character 21: leave it out"),
    ("https://example.com/\n", "U+000A"),
    ("\nhttps://example.com/", "U+000A at character 1"),
    ("https://example.com/\0", "U+0000"),
    ("https://example.com/\x7f", "U+007F"),
    ("https://[::1]evil.com/", "no proper host"),
    ("https://evil.com[::1]/", "no proper host"),
    ("https://[[::1]]/", "no proper host"),
    ("https://[::1/", "no proper host"),
    # one reader's host is another's user or path
    ("https://user@example.com/", "use `headers` to authenticate"),
    ("https://user:hunter2@example.com/", "use `headers` to authenticate"),
    ("https://@example.com/", "use `headers` to authenticate"),
    ("https://example.com\\@evil.com/", "the character \\ at character 20: write /"),
    ("https:\\\\example.com/", "the character \\"),
    ("https://example.com/#x", "a fragment"),
    ("https://example.com#@evil.com/", "a fragment"),
    ("https://a%2eb/", "% in its host"),
    ("https://127.0.0.1%00.example/", "% in its host"),
    ("https://example.com%3a443/", "% in its host"),
    ("https://[fe80::1%25eth0]/", "a zone id"),
    ("https://[fe80::1%eth0]/", "a zone id"),
    ("https://[1::2::3]/", "no IPv6 address in its brackets"),
    ("https://[127.0.0.1]/", "no IPv6 address in its brackets"),
    ("https://[v1.x]/", "no IPv6 address in its brackets"),
    ("https://[]/", "no IPv6 address in its brackets"),
    ("https://::1/", "IPv6 in brackets"),
    ("https://fd00::1:8443/", "IPv6 in brackets"),
    # shape
    ("", "starts with https:// and a host"),
    ("example.com", "starts with https:// and a host"),
    ("//example.com/", "starts with https:// and a host"),
    ("https:/example.com/", "starts with https:// and a host"),
    ("https:example.com", "starts with https:// and a host"),
    ("HTTPS://example.com", "starts with https:// and a host"),
    ("ftp://example.com", "starts with https:// and a host"),
    ("file:///etc/passwd", "starts with https:// and a host"),
    ("gopher://example.com:70/", "starts with https:// and a host"),
    ("https://", "has no host"),
    ("https:///x", "has no host"),
    ("https://?x", "has no host"),
    ("https://:443/x", "has no host"),
    ("https://example.com./", "a dot at the end of its host"),
    ("https://localhost./", "a dot at the end of its host"),
    ("https://a..b/", "two dots in a row"),
    ("https://.a.example/", "two dots in a row"),
    ("https://-a.example/", '"-a" in its host'),
    ("https://a-.example/", '"a-" in its host'),
    ("https://a*b.example/", '"a*b" in its host'),
    (f"https://{'a' * 64}.example/", "a part of 64 characters"),
    (f"https://{'a' * 50}.{'.'.join(['a' * 50] * 4)}/", "a host of 254 characters"),
    ("https://example.com/a b", "a space at character 22: write it as %XX"),
    ('https://example.com/"', 'the character "'),
    ("https://bücher.example/", "xn-- form"),
    ("https://example.com/ü", "U+00FC"),
    ("https://example.com/" + "a" * 2029, "2049 characters long: at most 2048"),
    # ports
    ("https://example.com:/", "no proper port"),
    ("https://example.com:0/", "no proper port"),
    ("https://example.com:0443/", "no proper port"),
    ("https://example.com:65536/", "no proper port"),
    ("https://example.com:-1/", "no proper port"),
    ("https://example.com:+443/", "no proper port"),
    ("https://example.com:https/", "no proper port"),
    ("https://example.com:80/", "80 is for http; use 443 or 8443"),
    ("https://example.com:22/", 'an operator may add "example.com:22" to egress.allow'),
    ("https://example.com:1023/", "below 1024 there are 443 and, for http, 80"),
    ("https://example.com:6000/", "browsers block it"),
    ("https://8.8.8.8:25/", 'an operator may add "8.8.8.8/32:25" to egress.allow'),
    ("https://[2a00::1]:25/", 'an operator may add "[2a00::1/128]:25" to egress.allow'),
    # where it leads
    ("http://example.com/", "use https://, or an operator may set egress.allow_http = true"),
    ("https://localhost/", '"localhost" is refused by built-in: localhost (RFC 6761); an operator may add'),
    ("https://LOCALHOST:8443/", 'an operator may add "localhost:8443" to egress.allow'),
    ("https://intranet/", "refused by built-in: names without a dot"),
    ("https://metadata.google.internal/", 'an operator may add "metadata.google.internal:443" to egress.allow'),
    ("https://127.0.0.1/", 'built-in: 127.0.0.0/8 (loopback, RFC 1122); an operator may add "127.0.0.1/32:443"'),
    ("https://10.1.2.3/", 'refused by built-in: 10.0.0.0/8 (private, RFC 1918); an operator may add "10.1.2.3/32:443"'),
    ("https://169.254.169.254/", '"169.254.169.254/32:443" to egress.allow, and only as this one address'),
    ("https://[::1]/", 'an operator may add "[::1/128]:443" to egress.allow'),
    ("https://[::ffff:127.0.0.1]/", "refused by built-in: ::ffff:0:0/96 (IPv4-mapped, RFC 4291)"),
    ("https://[0:0:0:0:0:FFFF:7F00:1]/", "IPv4-mapped"),
    ("https://[fd00:ec2::254]/", "cloud metadata, Amazon"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "telling"), WRONG, ids=range(len(WRONG)))
def test_what_readers_disagree_about_or_rules_refuse_is_wrong_and_told(url, telling):
    wrong = check_url(url, NOTHING_SAID)
    assert wrong is not None
    assert telling in wrong


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "a b", "u:p@h", "localhost", "h:22", "[::1]x", "1.2", "a..b", "h:6000", "ü"]
)
def test_path_and_query_stay_unsaid(host):
    wrong = check_url(f"https://{host}/hunter2?token=hunter2", NOTHING_SAID)
    assert wrong is not None
    assert "hunter2" not in wrong


def test_every_port_that_browsers_block_is_refused():
    assert len(BROWSERS_BLOCK) == 19
    refused = {port for port in range(1, 65536) if check_url(f"https://a.example:{port}/", NOTHING_SAID) is not None}
    assert refused == ({*range(1024)} - {0, 443}) | BROWSERS_BLOCK


# --- what an operator says --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "policy"),
    [
        ("http://example.com/", HTTP),
        ("http://example.com:80/", HTTP),
        ("http://example.com:443/", HTTP),
        ("http://localhost:8080/", opened("localhost:8080", allow_http=True)),
        ("http://127.0.0.1:8080/", opened("127.0.0.1/32@8080", allow_http=True)),
        ("https://localhost/", opened("127.0.0.0/8")),
        ("https://billing.internal/", opened("10.0.0.0/8")),
        ("https://billing.internal/", opened("*.internal")),
        ("https://10.1.2.3/", opened("10.0.0.0/8")),
        ("https://[fd00::1]/", opened("fd00::/8")),
        ("https://169.254.169.254/", opened("169.254.169.254/32")),
        ("https://billing.internal:25/", opened("billing.internal:25")),
        ("https://example.com:25/", opened("*.com:25")),
        ("https://10.1.2.3:25/", opened("10.1.2.0/24@25")),
        ("https://[fd00::1]:80/", opened("fd00::/8@80")),
    ],
)  # fmt: skip
def test_what_an_operator_opens_is_right(url, policy):
    assert check_url(url, NOTHING_SAID) is not None or url.startswith("http:")
    assert check_url(url, policy) is None


@pytest.mark.parametrize(
    ("url", "policy"),
    [
        ("https://example.com:25/", opened("example.com")),
        ("https://example.com:25/", opened("8.8.8.0/24@25")),
        ("https://10.1.2.3:25/", opened("10.0.0.0/8")),
        ("https://10.1.2.3:25/", opened("11.0.0.0/8@25")),
        ("https://[fd00::1]:25/", opened("fd00::/8")),
        ("https://169.254.169.254/", opened("0.0.0.0/1", "128.0.0.0/1")),
        ("https://8.8.8.8/", Policy(allow=(rule("8.8.8.8"),), deny=(rule("8.0.0.0/8"),))),
    ],
)
def test_what_an_operator_s_words_do_not_reach_stays_refused(url, policy):
    assert check_url(url, policy) is not None


OWN = ["h.example", "localhost", "10.1.2.3", "127.0.0.1", "[fd00::1]", "8.8.8.8", "x.internal", "169.254.169.254"]


@given(st.sampled_from(OWN), st.integers(1, 65535))
def test_following_the_remedies_makes_the_url_right_in_at_most_two_steps(host, port):
    url, entries = f"https://{host}:{port}/", []
    for _ in range(3):
        wrong = check_url(url, opened(*entries))
        if wrong is None:
            return
        entry = wrong.split('may add "')[1].split('"')[0]
        entries.append(
            entry if re.search("[g-z]", entry) else "@".join(entry.replace("[", "").rsplit(":", 1)).replace("]", "")
        )
    pytest.fail(f"{url} is still refused: {wrong}")


# --- laws -------------------------------------------------------------------------------------------------------

HOSTS = st.from_regex(r"[0-9a-fxX.:\[\]%@-]{1,20}", fullmatch=True)


@given(st.text(max_size=60) | st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True) | HOSTS.map("https://{}/".format))
def test_a_url_that_is_let_through_means_one_thing_to_everybody(url):
    if check_url(url, HTTP) is None:
        assert re.fullmatch(
            r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?([/?][^#\\\s]*)?", url, re.IGNORECASE
        )
        assert url.isascii()
        assert url.isprintable()
        where = target(url)
        assert f"{where.scheme}://" in url
        last = where.host.rpartition(".")[2]
        if ":" not in where.host and (last.isdigit() or last.startswith("0x")):
            assert where.host == ".".join(str(int(part)) for part in where.host.split("."))
            assert judge_address(where.host, where.port, HTTP).is_allowed


@given(st.text(max_size=60) | st.text(max_size=30).map("https://{}/".format))
def test_no_text_crashes_the_check_and_what_is_wrong_is_one_printable_line(url):
    wrong = check_url(url, NOTHING_SAID)
    assert wrong is None or (wrong.isprintable() and len(wrong) < 400)


@given(HOSTS.map("https://{}/".format))
def test_a_whole_check_is_that_of_the_text_and_that_of_the_host(url):
    if check_text(url, NOTHING_SAID) is None:
        assert (check_url(url, NOTHING_SAID) is None) == judge_host(target(url), NOTHING_SAID).is_allowed


# --- as people paste them ---------------------------------------------------------------------------------------

PASTED = [
    ("HTTPS://hooks.example.com/x", "https://hooks.example.com/x"),
    ("Https://hooks.example.com/X?Y=Z", "https://hooks.example.com/X?Y=Z"),
    ("HTTP://hooks.example.com", "http://hooks.example.com"),
    (" https://hooks.example.com/x", "https://hooks.example.com/x"),
    ("https://hooks.example.com/x \t", "https://hooks.example.com/x"),
    ("https://hooks.example.com/x\r\n", "https://hooks.example.com/x"),
    ("\ufeff\n\u00a0Https://bücher.example/x\u200b\u2028", "https://xn--bcher-kva.example/x"),
]


@pytest.mark.parametrize(("url", "kept"), PASTED)
def test_a_url_is_kept_without_pasted_blanks_and_its_scheme_in_lower_case(url, kept):
    assert as_stored(url) == kept
    assert check_url(as_stored(url), Policy(allow_http=True)) is None


@pytest.mark.parametrize(
    "url", ["https://exa mple.com/", "https://example.com/a b", "https: //example.com/", "HT TP://a"]
)
def test_a_blank_inside_a_url_is_still_refused(url):
    assert check_url(as_stored(url), NOTHING_SAID) is not None


# --- international names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "ascii_url"),
    [
        ("https://bücher.example/x?y=ü", "https://xn--bcher-kva.example/x?y=ü"),
        ("http://Bücher.Example:8080", "http://xn--bcher-kva.Example:8080"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://例え.テスト/", "https://xn--r8jz45g.xn--zckzah/"),
        ("https://a_b.bücher.example#x", "https://a_b.xn--bcher-kva.example#x"),
    ],
)
def test_an_international_name_becomes_ascii_and_all_else_stays(url, ascii_url):
    assert as_stored(url) == ascii_url
    assert as_stored(ascii_url) == ascii_url


NO_NAMES = [
    *("https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://\uff11\uff12\uff17.0.0.1/", "https://BÜCHER.example/"),
    *("https://\u212aelvin.example/", "https://a\u200db.example/", "https://a\u00adb.example/", "https://-ü.example/"),
    *(f"https://{'ü' * 63}.example/", "https://xn--ü.example/", "https://\u202eabc.example/", "https://☃.example/"),
    *("https://a\u0301\u0327.example/", "https://ü\n.a/", "https://ü\u2024a/"),
]


@pytest.mark.parametrize("url", NO_NAMES, ids=range(len(NO_NAMES)))
def test_a_name_that_idna_2008_does_not_know_is_refused_and_not_mapped_to_another(url):
    with pytest.raises(ValueError, match="IDNA 2008") as refusal:
        as_stored(url)
    assert str(refusal.value).isprintable()


NO_HOSTS = [
    *("", "ü", "https://ü:p@h.example/", "https://ü@h.example/", "https://[ü]/", "ftp://ü/", "https://h.example/ü"),
    *("https://h.example\\ü", "https://" + "ü" * 3000),
]


@pytest.mark.parametrize("url", NO_HOSTS, ids=range(len(NO_HOSTS)))
def test_what_has_no_international_host_is_left_to_the_check(url):
    assert as_stored(url) == url
    assert check_url(url, NOTHING_SAID) is not None


@given(st.text(max_size=30).map("https://{}.example/".format) | st.text(max_size=60))
def test_an_ascii_form_is_what_was_there_or_a_host_in_ascii(url):
    try:
        ascii_url = as_stored(url)
    except ValueError:
        return
    assert ascii_url == tidied(url) or re.split(r"[/?#]", ascii_url.partition("://")[2])[0].isascii()
