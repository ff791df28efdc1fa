"""Groups, channels, events and shared values mean the same with one worker, with several, and with
several processes on one Redis: one suite for all."""
import collections
import itertools

import pytest

from cluster import KINDS, started
from server import until
from wire import RpcError

names = (f"group {i}" for i in itertools.count())


@pytest.fixture(scope="module", params=KINDS)
def cluster(request):
    with started(request.param) as one:
        yield one


@pytest.fixture
def group():
    """A group of the test's own."""
    return next(names)


@pytest.fixture
def people(cluster):
    """people(n): connections, spread over all places."""
    made = []

    def connect(n):
        for i in range(n):
            made.append(cluster.connect(i))
            made[-1].channel = made[-1].call("where")
        return made[-n:]

    yield connect
    for one in made:
        one.drop()


def quiet(*all_of_them):
    """Nothing but the answer to a call comes any more; what is on its way would come before it."""
    for one in all_of_them:
        one.call("where")
    for one in all_of_them:
        assert not one.inbox, one.inbox


# ---- groups ---------------------------------------------------------------------------------------

def test_a_publish_reaches_all_members_once(people, group):
    everyone = people(9)
    for one in everyone[:6]:
        assert one.call("join", group) is True
        assert one.call("join", group) is False
    for speaker in (0, 1, 2, 8):  # from each place, by a member or not
        everyone[speaker].call("publish", group, f"by {speaker}")
        for one in everyone[:6]:
            assert one.expect("said") == [f"by {speaker}"]
    quiet(*everyone)


def test_several_groups_reach_a_member_once(people, group):
    ann, bob, kim, zoe = people(4)
    for one, its in ((ann, "ab"), (bob, "b"), (kim, "abc"), (zoe, "d")):
        for suffix in its:
            one.call("join", group + suffix)
    bob.call("publish", [group + suffix for suffix in "abc"], "once")
    for one in (ann, bob, kim):
        assert one.expect("said") == ["once"]
    bob.call("publish", [group + suffix for suffix in "cb"], "twice")
    for one in (ann, bob, kim):
        assert one.expect("said") == ["twice"]
    bob.call("publish", [group + "d", group + "d"], "the same group twice")
    assert zoe.expect("said") == ["the same group twice"]
    quiet(ann, bob, kim, zoe)


def test_who_is_left_out(people, group):
    ann, bob, kim = people(3)
    for one in (ann, bob, kim):
        one.call("join", group)
    ann.call("publish", group, "not me", "me")
    ann.call("publish", group, "not Kim", kim.channel)
    ann.call("publish", group, "not the two", [bob.channel, ann.channel, "0123456789abcdef.0.1", "no channel"])
    ann.call("publish", group, "all")
    for one, texts in ((ann, ["not Kim", "all"]), (bob, ["not me", "not Kim", "all"]),
                       (kim, ["not me", "not the two", "all"])):
        for text in texts:
            assert one.expect("said") == [text]
    quiet(ann, bob, kim)


def test_so_many_groups_at_once(people, group):
    ann, bob = people(2)
    bob.call("join", group)
    ann.call("publish", [group] * 1000, "a thousand")
    assert bob.expect("said") == ["a thousand"]
    ann.call("publish", [], "none")
    for groups in ([group] * 1001, [""], [5], [[group]]):
        with pytest.raises(RpcError):
            ann.call("publish", groups, "too many")
    with pytest.raises(RpcError):
        ann.call("publish", group, "too many", [ann.channel] * 1001)
    quiet(ann, bob)


def test_order_is_kept_per_publisher_and_group(people, group):
    everyone = people(6)
    for one in everyone:
        one.call("join", group)
    n = 300
    ids = [one.send_call("publish_many", group, (k + 1) * 1000, (k + 1) * 1000 + n - 1)
           for k, one in enumerate(everyone[:3])]
    for k, one in enumerate(everyone):
        if k < 3:
            one.answer(ids[k])
        got = collections.defaultdict(list)
        for _ in range(3 * n):
            i = one.expect("said")[0]
            got[i // 1000].append(i)
        for publisher in (1, 2, 3):
            assert got[publisher] == list(range(publisher * 1000, publisher * 1000 + n))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4095, 5000, 65535, 70000, 900_000])
def test_messages_of_any_length(people, group, size):
    everyone = people(3)
    for one in everyone:
        one.call("join", group)
    text = "é" * (size // 2) + "x" * (size % 2)
    everyone[1].call("publish", group, text)
    for one in everyone:
        assert one.expect("said") == [text]
    assert everyone[1].call("whisper", everyone[2].channel, text) is True
    assert everyone[2].expect("said") == [text]


def test_names_of_any_bytes(people):
    ann, bob, kim = people(3)
    for name in ("\1", "a\0b", "ü:*?[", "x" * 200):
        bob.call("join", name, {"who": "Bob"})
        kim.call("join", name)
        ann.call("publish", name, name[:10])
        assert bob.expect("said") == [name[:10]] == kim.expect("said")
        until(lambda: ann.call("count", name) == 2, "both being counted")
        assert {m["channel"] for m in ann.call("members", name)["members"]} == {bob.channel, kim.channel}
    with pytest.raises(RpcError):
        ann.call("join", "x" * 201)


def test_who_has_left_hears_nothing(people, group):
    ann, bob, kim = people(3)
    for one in (ann, bob, kim):
        one.call("join", group)
    assert bob.call("leave", group) is True
    assert bob.call("leave", group) is False
    ann.call("publish", group, "without Bob")
    for one in (ann, kim):
        assert one.expect("said") == ["without Bob"]
    quiet(ann, bob, kim)
    bob.call("join", group)
    ann.call("publish", group, "with Bob")
    assert bob.expect("said") == ["with Bob"]


def test_joining_and_leaving_again_and_again(people, group):
    """A publish that begins after join has answered arrives."""
    ann, bob = people(2)
    for i in range(30):
        bob.call("join", group)
        ann.call("publish", group, i)
        assert bob.expect("said") == [i]
        bob.call("leave", group)
    quiet(ann, bob)


# ---- who is there ---------------------------------------------------------------------------------

def test_counts_go_up_and_down(people, group):
    everyone = people(6)
    assert everyone[0].call("count", group) == 0
    for k, one in enumerate(everyone):
        one.call("join", group)
        for other in everyone:
            until(lambda: other.call("count", group) == k + 1, f"a count of {k + 1}")
    everyone[5].call("leave", group)
    everyone[4].close()
    everyone[3].reset()
    until(lambda: everyone[1].call("count", group) == 3, "a count of 3")
    assert everyone[1].call("groups") == [group]


def test_members_page_by_page(people, group):
    everyone = people(7)
    for k, one in enumerate(everyone):
        if k == 6:
            one.call("join", group)
        else:
            one.call("join", group, {"number": k, "list": [], "text": "é\0"})
    asker = everyone[2]
    until(lambda: asker.call("count", group) == 7, "7 members")
    expected = {one.channel: {"number": k, "list": [], "text": "é\0"} for k, one in enumerate(everyone)}
    expected[everyone[6].channel] = None
    for limit in (1, 2, 3, 7, 100):
        found, cursor = [], None
        while True:
            page = asker.call("members", group, limit, cursor)
            assert len(page["members"]) <= limit
            found += page["members"]
            cursor = page.get("cursor")
            if not cursor:
                break
            assert len(page["members"]) == limit
        assert len(found) == 7
        assert {m["channel"]: m.get("meta") for m in found} == expected
    assert asker.call("members", group + " empty") == {"members": []}


def test_meta_can_be_changed(people, group):
    ann, bob = people(2)
    assert bob.call("join", group, "one") is True
    assert bob.call("join", group, ["two"]) is False
    until(lambda: ann.call("members", group)["members"] == [{"channel": bob.channel, "meta": ["two"]}], "the meta")
    with pytest.raises(RpcError):
        bob.call("join", group, "x" * 5000)
    for options in ((0,), (1001,), (10, "no cursor")):
        with pytest.raises(RpcError):
            ann.call("members", group, *options)


# ---- one connection -------------------------------------------------------------------------------

def test_a_channel_can_be_reached_from_everywhere(people):
    everyone = people(6)
    for one in everyone:
        for other in everyone:
            assert one.call("whisper", other.channel, one.channel) is True
            assert other.expect("said") == [one.channel]
            assert one.call("send", other.channel, one.channel) is True
            assert other.expect("shouted") == [one.channel, other.channel]
    quiet(*everyone)


def test_channels_that_are_gone_or_never_were(people):
    ann, bob, kim = people(3)
    node, worker, conn = kim.channel.split(".")
    kim.close()
    until(lambda: ann.call("whisper", kim.channel, "?") is False, "Kim's being gone")
    for channel in (kim.channel, f"{node}.{worker}.ffffff", f"{node}.63.1000000", "fedcba9876543210.0.1000000",
                    f"{node}.{worker}.0", "", "x", f"{node}.{worker}", f"{node}.064.{conn}", f"{node}.64.{conn}",
                    f"{node}.{worker}.{conn}0", f" {kim.channel}", kim.channel.upper() + "G", "é" * 40):
        for one in (ann, bob):
            assert one.call("whisper", channel, "?") is False, channel
            assert one.call("send", channel, "?") is False, channel


def test_events_reach_the_code_behind_every_member(people, group):
    everyone = people(6)
    for one in everyone[1:]:
        one.call("join", group)
    for speaker in everyone[:3]:
        speaker.call("group_send", group, "hey")
        for one in everyone[1:]:
            assert one.expect("shouted") == ["hey", one.channel]
    everyone[0].call("group_send_bytes", group)  # not only what JSON can hold
    for one in everyone[1:]:
        assert one.expect("heard") == [True, one.channel]
    quiet(*everyone)


# ---- perigee.shared -------------------------------------------------------------------------------

def test_shared_values_are_the_same_everywhere(people, group):
    ann, bob, kim = people(3)
    for value in (1, -5, 2**53 + 1, 0.1, "text", "é\0", True, False, [], {}, [1, [2, None]], {"a": {"b": "c"}}):
        ann.call("shared", "set", group, value)
        for one in (ann, bob, kim):
            assert one.call("shared", "get", group) == value
    assert bob.call("shared", "delete", group) is True
    assert bob.call("shared", "delete", group) is False
    assert kim.call("shared", "get", group) is None
    assert bob.call("shared", "add", group, "first") is True
    assert kim.call("shared", "add", group, "second") is False
    assert ann.call("shared", "get", group) == "first"


def test_sums_lose_nothing(people, group):
    everyone = people(6)
    ids = [one.send_call("incr_many", group, 50) for one in everyone]
    for one, id in zip(everyone, ids):
        assert one.answer(id) >= 50
    assert everyone[0].call("shared", "get", group) == 300
    assert everyone[1].call("shared", "incr", group, -300) == 0
    assert everyone[1].call("shared", "incr", group, 0.5) == 0.5
    assert everyone[2].call("shared", "incr", group) == 1.5
    everyone[0].call("shared", "set", group, 2**63 - 1)
    with pytest.raises(RpcError):
        everyone[0].call("shared", "incr", group)
    assert everyone[0].call("shared", "get", group) == 2**63 - 1
    everyone[0].call("shared", "set", group, "text")
    for by in (1, 0.5):
        with pytest.raises(RpcError) as failed:
            everyone[1].call("shared", "incr", group, by)
        assert failed.value.code == -32603
    assert everyone[1].call("shared", "get", group) == "text"


def test_shared_values_end(people, group):
    ann, bob = people(2)
    ann.call("shared", "set", group, 1, 0.05)
    until(lambda: bob.call("shared", "get", group) is None, "the value's end")
    assert bob.call("shared", "add", group, 2, 0.05) is True
    until(lambda: ann.call("shared", "add", group, 3) is True, "the second value's end")
    assert bob.call("shared", "expire", group, 0.05) is True
    until(lambda: ann.call("shared", "get", group) is None, "the third value's end")
    assert bob.call("shared", "expire", group, 1) is False
    assert ann.call("shared", "incr", group, 5, 0.05) == 5
    until(lambda: bob.call("shared", "get", group) is None, "the sum's end")
    ann.call("shared", "set", group, 1, 0.05)
    ann.call("shared", "set", group, 2)  # forgets the time
    ann.call("shared", "set", group + " clock", 1, 0.2)
    until(lambda: bob.call("shared", "get", group + " clock") is None, "a longer time's end")
    assert ann.call("shared", "get", group) == 2


def test_shared_misuse_is_told(people):
    (ann,) = people(1)
    for words in (("get", ""), ("get", "x" * 513), ("get", 5), ("set", "k", 1, 0), ("set", "k", 1, -1),
                  ("set", "k", 1, "soon"), ("incr", "k", "x"), ("expire", "k", 0)):
        with pytest.raises(RpcError) as failed:
            ann.call("shared", *words)
        assert failed.value.code == -32603, words


# ---- all of it ------------------------------------------------------------------------------------

def test_nothing_was_dropped(cluster):
    for server in cluster.servers:
        counters = server.metrics()
        for name in ("mail_dropped", "layer_dropped", "layer_foreign", "layer_losses"):
            assert counters[name] == 0, name
