"""The addresses and names that a delivery may be sent to: every range at its edges, and laws over the whole space."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hookrelay.rules.egress import (
    Policy,
    Ruling,
    Target,
    is_literal,
    judge_address,
    judge_name,
    only_exact,
    target,
    vet,
    written,
)

NOTHING_SAID = Policy()


def rule(text, port=None):
    return ip_network(text), port


def is_allowed(address, policy=NOTHING_SAID, port=443, name=None):
    return judge_address(str(address), port, policy, name).is_allowed


# --- an oracle that knows nothing of the code: THREATS' list as plain numbers -----------------------------------


def v4(text):
    a, b, c, d = map(int, text.split("."))
    return a << 24 | b << 16 | c << 8 | d


BLOCKED_V4 = [
    (0, v4("0.255.255.255")),
    (v4("10.0.0.0"), v4("10.255.255.255")),
    (v4("100.64.0.0"), v4("100.127.255.255")),
    (v4("127.0.0.0"), v4("127.255.255.255")),
    (v4("169.254.0.0"), v4("169.254.255.255")),
    (v4("172.16.0.0"), v4("172.31.255.255")),
    (v4("192.0.0.0"), v4("192.0.0.255")),
    (v4("192.0.2.0"), v4("192.0.2.255")),
    (v4("192.31.196.0"), v4("192.31.196.255")),
    (v4("192.52.193.0"), v4("192.52.193.255")),
    (v4("192.88.99.0"), v4("192.88.99.255")),
    (v4("192.168.0.0"), v4("192.168.255.255")),
    (v4("192.175.48.0"), v4("192.175.48.255")),
    (v4("198.18.0.0"), v4("198.19.255.255")),
    (v4("198.51.100.0"), v4("198.51.100.255")),
    (v4("203.0.113.0"), v4("203.0.113.255")),
    (v4("224.0.0.0"), v4("255.255.255.255")),
    (v4("168.63.129.16"), v4("168.63.129.16")),
]
BLOCKED_V6 = [
    (0x0000 << 112, (0x2000 << 112) - 1),
    (0x2001_0000 << 96, (0x2001_0200 << 96) - 1),
    (0x2001_0DB8 << 96, (0x2001_0DB9 << 96) - 1),
    (0x2002 << 112, (0x2003 << 112) - 1),
    (0x2620_004F_8000 << 80, (0x2620_004F_8001 << 80) - 1),
    (0x3FFF_0 << 108, (0x3FFF_1 << 108) - 1),
    (0x4000 << 112, (1 << 128) - 1),
]


def oracle_v4(number):
    return not any(first <= number <= last for first, last in BLOCKED_V4)


def oracle_v6(number):
    identifier = f"{number:032x}"[16:24]
    return identifier not in ("00005efe", "02005efe") and not any(first <= number <= last for first, last in BLOCKED_V6)


EDGES_V4 = sorted({edge for first, last in BLOCKED_V4 for edge in (first - 1, first, last, last + 1)} - {-1, 1 << 32})
EDGES_V6 = sorted({edge for first, last in BLOCKED_V6 for edge in (first - 1, first, last, last + 1)} - {-1, 1 << 128})


@pytest.mark.parametrize("number", EDGES_V4, ids=lambda number: str(IPv4Address(number)))
def test_every_ipv4_range_is_refused_from_its_first_to_its_last_address_and_no_further(number):
    assert is_allowed(IPv4Address(number)) == oracle_v4(number)


@pytest.mark.parametrize("number", EDGES_V6, ids=lambda number: str(IPv6Address(number)))
def test_every_ipv6_range_is_refused_from_its_first_to_its_last_address_and_no_further(number):
    assert is_allowed(IPv6Address(number)) == oracle_v6(number)


def near(edges, top):
    """Any number of the space, with a liking for the neighbourhood of the edges."""
    beside = st.builds(lambda edge, step: min(max(edge + step, 0), top), st.sampled_from(edges), st.integers(-300, 300))
    return st.integers(0, top) | beside


@given(near(EDGES_V4, (1 << 32) - 1))
def test_ipv4_is_refused_exactly_where_the_oracle_says(number):
    assert is_allowed(IPv4Address(number)) == oracle_v4(number)


@given(near(EDGES_V6, (1 << 128) - 1) | st.integers(1 << 125, (1 << 126) - 1))
@example(0x2A00_0000_0000_0000_0000_5EFE_0A00_0001)
def test_ipv6_is_refused_exactly_where_the_oracle_says(number):
    assert is_allowed(IPv6Address(number)) == oracle_v6(number)


@given(st.integers(1 << 125, (1 << 126) - 1), st.sampled_from([0x0000_5EFE, 0x0200_5EFE]))
def test_every_isatap_identifier_is_refused(number, mark):
    number = number & ~(0xFFFF_FFFF << 32) | mark << 32
    assert not is_allowed(IPv6Address(number))


@pytest.mark.parametrize("mark", [0x0000_5EFD, 0x0000_5EFF, 0x0100_5EFE, 0x0200_5EFD, 0x0200_5EFF])
def test_what_is_beside_an_isatap_identifier_is_public(mark):
    assert is_allowed(IPv6Address(0x2A00_0000_0000_0000_0000_0000_0A00_0001 | mark << 32))


SLIPPERY = """
    ::ffff:100.64.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 ::127.0.0.1 64:ff9b::a9fe:a9fe
    64:ff9b::808:808 64:ff9b:1::a00:1 2002:7f00:1::1 2002:808:808::1 2001:0:a::1 fec0::1 fd00:ec2::254 fd00::1 fe80::1
    ff02::1 ff0e::1 ff3e::1 :: ::1 100::1 5f00::1 2001:20::1 2a00::5efe:a9fe:a9fe 2a00::200:5efe:808:808
    192.0.0.192 192.0.0.9 192.88.99.1 100.100.100.200 168.63.129.16 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
"""


@pytest.mark.parametrize("address", SLIPPERY.split())
def test_what_other_lists_let_through_is_refused(address):
    assert not is_allowed(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2a00:1450:4001:82a::200e", "2606:4700::1111", "1.0.0.0", "223.255.255.255"]
)
def test_public_addresses_are_allowed_and_nobody_had_to_open_them(address):
    assert judge_address(address, 443, NOTHING_SAID) == Ruling(True, "public", "", False)


@pytest.mark.parametrize(
    "address", ["fe80::1%eth0", "2a00::1%1", "", "example.com", "127.1", "0177.0.0.1", "::1]", "1.2.3.4 "]
)
def test_a_zone_id_and_what_is_no_address_are_refused_and_nothing_opens_them(address):
    policy = Policy((rule("::/1"), rule("0.0.0.0/1"), rule("2a00::1/128"), rule("fe80::1/128"), "example.com"))
    ruling = judge_address(address, 443, policy, "example.com")
    assert (ruling.is_allowed, ruling.is_opened) == (False, False)
    assert ruling.remedy == "no rule of egress.allow can open it"


# --- the words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "port", "said", "remedy"),
    [
        ("10.1.2.3", 443, "built-in: 10.0.0.0/8 (private, RFC 1918)", 'may add "10.1.2.3/32:443" to egress.allow'),
        ("127.0.0.1", 8080, "built-in: 127.0.0.0/8 (loopback, RFC 1122)", '"127.0.0.1/32:8080" to egress.allow'),
        ("::1", 443, "built-in: ::1/128 (loopback, RFC 4291)", 'an operator may add "[::1/128]:443" to egress.allow'),
        ("fd12::1", 443, "built-in: fc00::/7 (unique local, RFC 4193)", '"[fd12::1/128]:443" to egress.allow'),
        ("5f00::1", 443, "built-in: outside of 2000::/3, the only public part of IPv6 (RFC 4291)", '"[5f00::1/128]'),
        ("2a00::5efe:1.2.3.4", 443, "built-in: ISATAP, which leads to an IPv4 address (RFC 5214)", "egress.allow"),
        ("::ffff:10.0.0.1", 443, "built-in: ::ffff:0:0/96 (IPv4-mapped, RFC 4291)", "egress.allow"),
        ("169.254.169.254", 80, "built-in: 169.254.169.254/32 (cloud metadata)", "and only as this one address"),
        ("169.254.1.1", 80, "built-in: 169.254.0.0/16 (link-local, RFC 3927)", "and only as this one address"),
        ("255.255.255.255", 80, "built-in: 255.255.255.255/32 (broadcast, RFC 919)", "and only as this one address"),
        ("0.1.2.3", 80, "built-in: 0.0.0.0/8 (this host, RFC 1122)", '"0.1.2.3/32:80" to egress.allow, and only'),
        ("fe80::1", 80, "built-in: fe80::/10 (link-local, RFC 4291)", '"[fe80::1/128]:80" to egress.allow, and only'),
    ],
)  # fmt: skip
def test_a_refusal_names_the_rule_and_the_entry_that_would_allow_it(address, port, said, remedy):
    ruling = judge_address(address, port, NOTHING_SAID)
    assert (ruling.is_allowed, ruling.rule, ruling.is_opened) == (False, said, False)
    assert remedy in ruling.remedy


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("::ffff:0:8.8.8.8", "IPv4-translated"), ("::8.8.8.8", "IPv4-compatible"), ("64:ff9b::808:808", "NAT64"),
        ("64:ff9b:1::1", "NAT64"), ("100::1", "discarded"), ("fec0::1", "site-local"), ("2002:808:808::1", "6to4"),
    ],
)  # fmt: skip
def test_what_lies_outside_of_the_public_part_of_ipv6_is_called_by_its_name(address, kind):
    assert kind in judge_address(address, 443, NOTHING_SAID).rule


BLOCKED_ANYWHERE = st.sampled_from([IPv4Address(number) for number in EDGES_V4 if not oracle_v4(number)]) | (
    st.sampled_from([IPv6Address(number) for number in EDGES_V6 if not oracle_v6(number)])
)


@given(BLOCKED_ANYWHERE, st.integers(1, 65535))
def test_the_remedy_s_entry_allows_the_address_at_that_port_and_at_no_other(ip, port):
    entry = judge_address(str(ip), port, NOTHING_SAID).remedy.split('"')[1]
    assert entry == written(rule(f"{ip}/{ip.max_prefixlen}", port))
    opened = Policy((rule(f"{ip}/{ip.max_prefixlen}", port),))
    assert judge_address(str(ip), port, opened) == Ruling(True, f"egress.allow: {entry}", "", True)
    assert not is_allowed(ip, opened, port=port % 65535 + 1)


# --- what an operator says --------------------------------------------------------------------------------------


def test_deny_comes_before_allow_and_both_before_the_built_in_list():
    policy = Policy(allow=(rule("10.0.0.0/8"), rule("8.8.8.8/32")), deny=(rule("10.1.0.0/16"), rule("8.8.4.0/24")))
    assert judge_address("10.2.0.1", 443, policy) == Ruling(True, "egress.allow: 10.0.0.0/8", "", True)
    assert judge_address("8.8.8.8", 443, policy) == Ruling(True, "egress.allow: 8.8.8.8/32", "", True)
    assert judge_address("9.9.9.9", 443, policy).rule == "public"
    assert judge_address("10.1.2.3", 443, policy) == Ruling(
        False, "egress.deny: 10.1.0.0/16", 'an operator may take "10.1.0.0/16" out of egress.deny', False
    )
    assert not is_allowed("8.8.4.4", policy)


def test_a_rule_with_a_port_is_about_that_port_alone():
    policy = Policy(allow=(rule("127.0.0.1/32", 8080),), deny=(rule("8.8.8.8/32", 53), rule("2a00::/16", 443)))
    assert is_allowed("127.0.0.1", policy, port=8080)
    assert not is_allowed("127.0.0.1", policy, port=8081)
    assert is_allowed("8.8.8.8", policy, port=443)
    assert not is_allowed("8.8.8.8", policy, port=53)
    assert not is_allowed("2a00::1", policy, port=443)


def test_the_narrowest_rule_is_the_one_named():
    policy = Policy((rule("10.0.0.0/8"), rule("10.1.2.0/24", 443), rule("10.1.2.3/32", 80)))
    assert judge_address("10.1.2.3", 443, policy).rule == "egress.allow: 10.1.2.0/24:443"
    assert judge_address("10.1.2.3", 80, policy).rule == "egress.allow: 10.1.2.3/32:80"
    assert judge_address("10.1.2.3", 81, policy).rule == "egress.allow: 10.0.0.0/8"


ONLY_EXACT = """
    0.0.0.0 0.1.2.3 169.254.0.0 169.254.169.254 169.254.255.255 168.63.129.16 100.100.100.200 192.0.0.192 224.0.0.1
    239.255.255.255 255.255.255.255 :: fe80::1 febf::1 ff02::1 ffff::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254
    fd00:42::42 ::ffff:169.254.169.254 ::ffff:0.0.0.0 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe 2002:a9fe:a9fe::1
    ::ffff:0:169.254.169.254 2a00::5efe:a9fe:a9fe ::ffff:224.0.0.1 ::ffff:168.63.129.16 ::169.254.169.254
"""


@pytest.mark.parametrize("address", ONLY_EXACT.split())
def test_what_is_too_dangerous_to_open_in_passing_is_opened_by_a_rule_about_it_alone(address):
    ip = ipaddress.ip_address(address)
    wide = [(ip_network(f"{ip}/{length}", strict=False), None) for length in range(ip.max_prefixlen)]
    policy = Policy((*wide, "meta.example", "*.example", "meta.example:443"))
    assert not is_allowed(address, policy, name="meta.example")
    assert "only as this one address" in judge_address(address, 443, policy).remedy
    assert is_allowed(address, Policy((*policy.allow, rule(address))), name="meta.example")


@pytest.mark.parametrize(
    "address", ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2a00::5efe:a00:1", "::10.0.0.1"]
)
def test_deny_reaches_the_ipv4_address_inside_an_ipv6_one(address):
    opened = Policy((rule(address),))
    assert is_allowed(address, opened)
    denied = judge_address(address, 443, Policy(opened.allow, deny=(rule("10.0.0.0/24"),)))
    assert (denied.is_allowed, denied.rule) == (False, "egress.deny: 10.0.0.0/24")


def test_neither_this_host_nor_loopback_carries_an_ipv4_address_inside():
    assert is_allowed("::1", Policy((rule("::/64"),), deny=(rule("0.0.0.0/8"),)))
    assert judge_address("::", 443, Policy(deny=(rule("0.0.0.0/8"),))).rule.startswith("built-in: ::/128")


RULES = st.lists(
    st.builds(
        lambda number, length, port: (ip_network((number, length), strict=False), port),
        st.sampled_from([v4("10.0.0.0"), v4("10.0.0.3"), v4("169.254.169.254"), v4("8.8.8.8"), v4("255.255.255.255")]),
        st.integers(1, 32),
        st.sampled_from([None, 443, 80]),
    ),
    max_size=6,
).map(tuple)


@given(
    near(EDGES_V4, (1 << 32) - 1) | st.sampled_from([v4("10.0.0.2"), v4("169.254.169.254"), v4("8.8.8.8")]),
    RULES,
    RULES,
)
def test_any_rules_judge_as_a_look_at_each_of_them_would(number, allow, deny):
    def hits(rules, exact=False):
        return any(
            int(network.network_address) <= number <= int(network.broadcast_address)
            and port in (None, 443)
            and (network.prefixlen == 32 or not exact)
            for network, port in rules
        )

    hard = any(
        first <= number <= last
        for first, last in [
            (0, v4("0.255.255.255")),
            (v4("169.254.0.0"), v4("169.254.255.255")),
            (v4("168.63.129.16"), v4("168.63.129.16")),
            (v4("100.100.100.200"), v4("100.100.100.200")),
            (v4("192.0.0.192"), v4("192.0.0.192")),
            (v4("224.0.0.0"), v4("239.255.255.255")),
            (v4("255.255.255.255"), v4("255.255.255.255")),
        ]
    )
    expected = not hits(deny) and (hits(allow, exact=hard) or oracle_v4(number))
    ruling = judge_address(str(IPv4Address(number)), 443, Policy(allow, deny))
    assert ruling.is_allowed == expected
    assert ruling.is_opened == (expected and hits(allow, exact=hard))
    assert (ruling.remedy == "") == ruling.is_allowed


@pytest.mark.parametrize(
    ("network", "is_refused"),
    [
        ("169.254.0.0/16", True), ("169.254.169.254/31", True), ("169.254.169.254/32", False),
        ("169.254.0.0/15", False), ("240.0.0.0/4", False),
        ("0.0.0.0/8", True), ("0.0.0.0/7", False), ("224.0.0.0/4", True), ("224.0.0.0/3", False),
        ("255.255.255.254/31", False), ("10.0.0.0/8", False), ("168.63.129.16/32", False), ("168.63.129.16/31", False),
        ("fe80::/10", True), ("fe80::/9", False), ("fe80::/64", True), ("fe80::1/128", False), ("ff02::/16", True),
        ("fd00:ec2::/64", True), ("fd00:ec2::254/127", True), ("fd00::/8", False), ("fd00:ec2::254/128", False),
    ],
)  # fmt: skip
def test_a_network_of_nothing_but_what_is_opened_one_by_one_is_known(network, is_refused):
    assert (only_exact(ip_network(network, strict=False)) is not None) == is_refused


def test_a_thousand_rules_are_found_in_a_step_for_each_length_of_prefix():
    networks = tuple((ip_network((10 << 24 | number << 8, 24)), 443) for number in range(1000))
    policy = Policy(networks, networks)
    assert [len(steps) for steps in policy.allowed._steps.values()] == [1, 0]
    assert policy.allowed.find(IPv4Address("10.3.231.7"), 443) == networks[999]
    assert policy.allowed.find(IPv4Address("10.3.232.7"), 443) is None


def test_policies_that_say_the_same_are_equal_whatever_has_been_asked_of_them():
    one, two = Policy((rule("10.0.0.0/8"),)), Policy((rule("10.0.0.0/8"),))
    assert is_allowed("10.0.0.1", one)
    assert one == two
    assert hash(one) == hash(two)


# --- names ------------------------------------------------------------------------------------------------------

OWN_NAMES = {
    "localhost": "built-in: localhost (RFC 6761)",
    "app.localhost": "built-in: *.localhost (RFC 6761)",
    "billing.internal": "built-in: *.internal (",
    "metadata.google.internal": "built-in: *.internal (",
    "internal": "built-in: internal (",
    "printer.local": "built-in: *.local (multicast DNS",
    "host.localdomain": "built-in: *.localdomain (",
    "nas.home.arpa": "built-in: *.home.arpa (home networks",
    "intranet": "built-in: names without a dot are those of a private network",
    "com": "built-in: names without a dot are those of a private network",
}


@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_name_of_the_operator_s_own_network_is_refused_with_rule_and_remedy(name):
    ruling = judge_name(name, 8443, NOTHING_SAID)
    assert not ruling.is_allowed
    assert ruling.rule.startswith(OWN_NAMES[name])
    assert ruling.remedy == f'an operator may add "{name}:8443" to egress.allow'
    assert judge_name(name, 8443, Policy((f"{name}:8443",))).is_opened


PUBLIC = "example.com internal.example localhost.example notlocalhost.com a.my-internal xlocal.de a.xlocal x.arpa"


@pytest.mark.parametrize("name", PUBLIC.split())
def test_other_names_are_public(name):
    assert judge_name(name, 443, NOTHING_SAID) == Ruling(True, "public")


@pytest.mark.parametrize(
    ("entry", "name", "port", "covers"),
    [
        ("billing.internal", "billing.internal", 443, True),
        ("billing.internal", "billing.internal", 8080, True),
        ("billing.internal", "x.billing.internal", 443, False),
        ("billing.internal:8080", "billing.internal", 8080, True),
        ("billing.internal:8080", "billing.internal", 443, False),
        ("*.internal", "billing.internal", 443, True),
        ("*.internal", "a.b.internal", 443, True),
        ("*.internal", "internal", 443, False),
        ("*.internal:80", "billing.internal", 443, False),
        ("*.internal:80", "billing.internal", 80, True),
        ("*.ing.internal", "billing.internal", 443, False),
        ("localhost:8080", "localhost", 8080, True),
        ("localhost:8080", "a.localhost", 8080, False),
        ("intranet", "intranet", 443, True),
        (rule("127.0.0.1/32", 8080), "localhost", 8080, True),
        (rule("127.0.0.1/32", 8080), "localhost", 8081, False),
        (rule("::1/128"), "a.localhost", 8081, True),
        (rule("127.0.0.2/32"), "localhost", 443, False),
        (rule("10.0.0.0/8"), "localhost", 443, False),
        (rule("10.0.0.0/8"), "billing.internal", 443, True),
        (rule("10.0.0.0/8", 8080), "intranet", 8080, True),
        (rule("10.0.0.0/8", 8080), "intranet", 443, False),
    ],
)  # fmt: skip
def test_a_rule_that_covers_a_name_or_may_well_cover_its_addresses_opens_it(entry, name, port, covers):
    ruling = judge_name(name, port, Policy((entry,)))
    assert (ruling.is_allowed, ruling.is_opened) == (covers, covers)
    assert ruling.rule.startswith("egress.allow") == covers


def test_a_name_rule_opens_that_name_s_addresses_and_no_other_s():
    policy = Policy(("billing.internal:443",), deny=(rule("10.9.0.0/16"),))
    assert judge_address("10.1.2.3", 443, policy, "billing.internal") == (
        True,
        "egress.allow: billing.internal:443",
        "",
        True,
    )
    assert not is_allowed("10.1.2.3", policy, name="evil.internal")
    assert not is_allowed("10.1.2.3", policy)
    assert not is_allowed("10.1.2.3", policy, port=80, name="billing.internal")
    assert not is_allowed("10.9.2.3", policy, name="billing.internal")
    assert not is_allowed("169.254.169.254", policy, name="billing.internal")


# --- all the addresses of a name --------------------------------------------------------------------------------


def test_one_refused_address_refuses_all_and_is_named():
    vetted = vet("evil.example", 443, ["8.8.8.8", "10.1.2.3", "2a00::1"], NOTHING_SAID)
    assert vetted.opened == frozenset()
    assert vetted.refusal == "evil.example leads to an address that is not public"
    assert vetted.reason == (
        "evil.example leads to 10.1.2.3, which is refused by built-in: 10.0.0.0/8 (private, RFC 1918); "
        'an operator may add "10.1.2.3/32:443" to egress.allow'
    )


@given(st.lists(st.sampled_from(["8.8.8.8", "2a00::1", "10.0.0.1", "127.0.0.1", "fd00::1"]), min_size=1))
def test_addresses_are_let_through_together_or_not_at_all(addresses):
    policy = Policy((rule("10.0.0.0/8"),))
    vetted = vet("a.example", 443, addresses, policy)
    assert (vetted.refusal is None) == all(is_allowed(address, policy) for address in addresses)
    if vetted.refusal is None:
        assert vetted.opened == frozenset(addresses) & {"10.0.0.1"}


def test_addresses_that_a_name_rule_opens_are_told():
    vetted = vet("billing.internal", 443, ["10.1.2.3", "fd00::1"], Policy(("*.internal",)))
    assert vetted == (None, frozenset({"10.1.2.3", "fd00::1"}), "")


def test_an_address_that_stands_in_the_url_is_vetted_as_itself():
    assert vet("8.8.8.8", 443, ["8.8.8.8"], NOTHING_SAID) == (None, frozenset(), "")
    refusal = vet("10.1.2.3", 443, ["10.1.2.3"], NOTHING_SAID)
    assert refusal.refusal == "10.1.2.3 leads to an address that is not public"
    assert refusal.reason.startswith("10.1.2.3 is refused by built-in: 10.0.0.0/8")


def test_a_host_is_an_address_or_a_name():
    assert [is_literal(host) for host in ("1.2.3.4", "::1", "a.example", "127.1", "fe80::1%eth0")] == [
        *(True, True, False, False, False),
    ]


@given(st.ip_addresses().map(str) | st.text(st.sampled_from("0123456789abcdef.:%x²٣[]"), max_size=20))
def test_an_address_is_what_python_takes_for_one(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert not is_literal(text)
    else:
        assert is_literal(text) or "%" in text


# --- what a URL names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://A.example", Target("https", "a.example", 443, "/")),
        ("http://a.example:8080?x=1", Target("http", "a.example", 8080, "/?x=1")),
        ("http://127.0.0.1/a/b?c", Target("http", "127.0.0.1", 80, "/a/b?c")),
        ("https://[2A00::1]:8443/@:", Target("https", "2a00::1", 8443, "/@:")),
    ],
)
def test_a_url_is_taken_apart(url, expected):
    assert target(url) == expected


def test_an_ipv4_address_within_an_ipv6_one_is_seen_through_in_its_compatible_form_too():
    opened = Policy((rule("::/96"),), deny=(rule("10.9.0.0/16"),))
    assert not is_allowed("::10.9.1.2", opened)
    assert is_allowed("::1", Policy((rule("::1/128"),)))
