"""The pages of the example apps, as people meet them: in a browser, with a mouse and a keyboard."""
import json
import signal
import time

import pytest

import browser as browsers
import server as servers
from server import ROOT
from wire import fetch, post

APPS = ROOT / "apps"
PAGES = ["accounts", "chat", "counter", "echo"]


@pytest.fixture(scope="module")
def browser():
    if not browsers.find_chromium():
        pytest.skip("the pages are not tested: chromium is not installed (Debian: apt install chromium)")
    with browsers.Browser() as one:
        yield one


@pytest.fixture
def site(serve):
    """A server with the example apps."""
    return serve(APPS, verb="dev")


@pytest.fixture
def open_tab(browser, site):
    """open_tab(path, ...): a tab on a page of the site. Afterwards: nothing went wrong on any of them."""
    before = set(browser.tabs())

    def start(path, **view):
        return browser.tab(f"http://{site.netloc}{path}", **view)

    yield start
    tabs = [tab for tab in browser.tabs() if tab not in before]
    errors = [error for tab in tabs for error in tab.errors]
    requests = [url for tab in tabs for url in tab.requests]
    for tab in tabs:
        tab.close()
    assert errors == []
    # nothing is asked of anybody but the site itself
    own = (f"http://{site.netloc}/", f"ws://{site.netloc}/")
    assert [url for url in requests if not url.startswith(own)] == []


@pytest.fixture
def chat(open_tab):
    """chat("Ann"): a tab in which Ann has joined the chat."""
    def start(name, room="lobby", **view):
        tab = open_tab("/chat/" + ("" if room == "lobby" else "#" + room), **view)
        tab.fill("#name", name)
        tab.press("Enter")
        tab.wait(f"document.querySelector('#my-name').textContent === {json.dumps(name)}")
        return tab
    return start


def call(method, params):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, ensure_ascii=False)


def say(tab, text):
    """Writes a message and sends it with Enter; returns when the server has it."""
    before = tab.count(".own:not(.pending)")
    tab.fill("#text", text)
    tab.press("Enter")
    tab.wait(f"document.querySelectorAll('.own:not(.pending)').length > {before}")


def hears(tab, text):
    tab.wait_text(".message:not(.own) .bubble", text)


def is_connected(tab, timeout=servers.PATIENCE):
    tab.wait("document.querySelector('#status').dataset.state === 'open'", timeout)


def only_refused(errors):
    """Browsers log each attempt to connect that fails; anything else is a mistake of the page."""
    return all("WebSocket connection to" in error for error in errors)


def assert_fits(tab):
    """Nothing is wider than the window, so that a phone does not scroll sideways."""
    assert tab.eval("document.documentElement.scrollWidth <= innerWidth")
    assert tab.eval("""[...document.querySelectorAll('main *')]
        .filter(e => e.checkVisibility({ visibilityProperty: true }) && !e.closest('pre'))
        .filter(e => { for (; e; e = e.parentElement) if (getComputedStyle(e).clipPath !== 'none') return false; return true; })
        .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < -0.5)
        .map(e => e.outerHTML.slice(0, 100))""") == []


# ---- chat -------------------------------------------------------------------------------------------

def test_two_people_chat(chat):
    ann, bob = chat("Ann"), chat("Bob")
    ann.wait_text(".note", "Bob joined")
    assert ann.texts("#people .person") == ["Ann", "Bob"]
    assert bob.texts("#people .person") == ["Bob", "Ann"]  # oneself comes first
    assert ann.text("#count") == "2"

    say(ann, "Hello Bob!")
    hears(bob, "Hello Bob!")
    say(bob, "Hello Ann!")
    hears(ann, "Hello Ann!")
    say(bob, "How is the weather?")
    hears(ann, "How is the weather?")
    assert ann.texts(".bubble") == bob.texts(".bubble") == ["Hello Bob!", "Hello Ann!", "How is the weather?"]
    assert ann.texts(".own .bubble") == ["Hello Bob!"]
    # what one person says in a row stands together, under one name
    assert ann.texts(".message.first:not(.own) .name") == ["Bob"]

    bob.click("#text")
    bob.type("I was about to")
    ann.wait_text("#typing", "Bob is typing")
    bob.press("Enter")
    hears(ann, "I was about to")
    ann.wait("document.querySelector('#typing').innerText === ''")

    bob.close()
    ann.wait_text(".note", "Bob left")
    assert ann.texts("#people .person") == ["Ann"]


def test_a_typing_notice_ends_by_itself(chat):
    ann, bob = chat("Ann"), chat("Bob")
    bob.click("#text")
    bob.type("Hm")
    ann.wait_text("#typing", "Bob is typing")
    ann.wait("document.querySelector('#typing').innerText === ''")


def test_latecomers_see_what_was_said(chat):
    ann = chat("Ann")
    say(ann, "first")
    say(ann, "second\nline")
    zoe = chat("Zoë")
    assert zoe.texts(".bubble") == ["first", "second\nline"]
    assert zoe.count(".own") == 0
    zoe.wait_text(".day", "Today")


def test_lines_and_enter(chat):
    ann = chat("Ann")
    ann.click("#text")
    ann.type("one")
    ann.press("Enter", shift=True)
    ann.type("two")
    ann.press("Enter")
    ann.wait("document.querySelectorAll('.own:not(.pending)').length === 1")
    assert ann.texts(".own .bubble") == ["one\ntwo"]
    assert ann.eval("document.activeElement.id") == "text"
    ann.press("Enter")  # nothing to say
    assert ann.count(".own") == 1


def test_names(chat, browser):
    ann = chat("Ann")
    bob = chat("Bob")
    bob.click("#rename")
    bob.fill("#name", "ann")
    bob.press("Enter")
    bob.wait_text("#name-error", "That name is taken")
    bob.fill("#name", "Robert")
    bob.click("#name-ok")
    bob.wait_text("#my-name", "Robert")
    ann.wait_text(".note", "Bob is now Robert")
    assert ann.texts("#people .person") == ["Ann", "Robert"]

    # the name is remembered; a second tab of the same visitor gets a number
    again = browser.tab(ann.eval("location.href"), beside=ann)
    again.wait_text("#my-name", "Ann 2")
    again.wait_text(".note", "“Ann” is taken here, so you are Ann 2")
    ann.wait_text(".note", "Ann 2 joined")
    again.reload()
    again.wait_text("#my-name", "Ann 2")


def test_guests(open_tab):
    tab = open_tab("/chat/")
    tab.wait("document.querySelector('#name-dialog').open")
    tab.fill("#name", "   ")
    tab.press("Enter")
    tab.wait_text("#name-error", "Please write a name.")
    tab.press("Escape")
    tab.wait_text("#my-name", "Guest 1")
    say(tab, "Hello?")


def test_rooms(chat):
    ann, bob = chat("Ann"), chat("Bob")
    say(ann, "in the lobby")
    hears(bob, "in the lobby")
    bob.click("a[href='#tearoom']")
    bob.wait_text("h1", "tearoom")
    bob.wait("!document.querySelector('#empty').hidden")
    ann.wait_text(".note", "Bob left")
    ann.wait("[...document.querySelectorAll('#rooms .badge')].map(e => e.firstChild.data).join() === '1,0,1'")
    say(bob, "tea?")
    say(ann, "still in the lobby")
    assert "tea?" not in ann.text("#messages")
    assert bob.texts(".bubble") == ["tea?"]
    assert bob.text("[aria-current=page] .room-name") == "tearoom"

    bob.eval("history.back()")
    bob.wait_text("h1", "lobby")
    bob.wait_text(".bubble", "still in the lobby")

    bob.eval("location.hash = '#cellar'")
    bob.wait_text("#error", "There is no room called “cellar”.")
    bob.wait("location.hash === '#lobby'")
    bob.wait("document.querySelectorAll('.message').length === 2")
    say(bob, "oh well")
    hears(ann, "oh well")


def test_markup_stays_text(chat):
    name = "<img src=x onerror=a()>"
    evil = chat(name)
    ann = chat("<b>Ann</b>")
    texts = ["<img src=x onerror=alert(1)>", "<script>document.title = 'pwned'</script>", "&lt;b&gt; &amp;",
             "javascript:alert(1) [x](javascript:alert(1))", "</li></ol><h1>Hi</h1>"]
    for text in texts:
        say(evil, text)
        hears(ann, text)
    ann.wait_text(".message .name", name)
    evil.wait_text(".note", "<b>Ann</b> joined")
    evil.click("#rename")
    evil.fill("#name", "<i>x</i>\"'&")
    evil.press("Enter")
    ann.wait_text(".note", f"{name} is now <i>x</i>\"'&")
    evil.click("#text")
    evil.type("x")
    ann.wait_text("#typing", "<i>x</i>\"'& is typing")
    for tab in (ann, evil):
        assert tab.texts(".bubble") == texts
        assert tab.count("#messages :is(img, script, h1, b:not(.name), i), #people :is(img, b, i), #my-name *, #typing b") == 0
        assert tab.count("a[href^=javascript]") == 0


def test_addresses_become_links(chat):
    ann = chat("Ann")
    say(ann, "see https://example.org/a?b=c&d. And (http://example.org/x), not ftp://example.org")
    assert ann.eval("[...document.querySelectorAll('.bubble a')].map(a => [a.href, a.rel, a.target])") == [
        ["https://example.org/a?b=c&d", "noopener noreferrer nofollow", "_blank"],
        ["http://example.org/x", "noopener noreferrer nofollow", "_blank"]]


def test_errors_of_the_server_are_shown(chat):
    ann = chat("Ann")
    ann.fill("#text", "x" * 2001)
    ann.wait_text("#left", "-1")
    assert ann.eval("document.querySelector('#send').disabled")
    ann.eval("""(() => {
        const box = document.querySelector('#text');
        for (let i = 1; i <= 12; i++) {
            box.value = `message ${i}`;
            document.querySelector('#composer').requestSubmit();
        }
    })()""")
    ann.wait_text("#error", "Not so fast, please")
    ann.wait("document.querySelectorAll('.pending').length === 0")
    refused = ann.eval("document.querySelector('#text').value")
    assert refused in ("message 10", "message 11")  # it is not lost
    assert ann.texts(".own .bubble")[-1] == f"message {int(refused.split()[1]) - 1}"


def test_reconnect(browser, serve):
    first = serve(APPS)  # in dev the page would load itself anew
    url = f"http://{first.netloc}/chat/#tearoom"
    tabs = [browser.tab(url), browser.tab(url)]
    ann, bob = tabs
    for tab, name in zip(tabs, ("Ann", "Bob")):
        tab.fill("#name", name)
        tab.press("Enter")
        tab.wait_text("#people", name)
    say(ann, "before")
    hears(bob, "before")
    assert [tab.errors for tab in tabs] == [[], []]

    first.stop()
    for tab in tabs:
        tab.wait("!document.querySelector('#offline').hidden")
        tab.wait_text("#status", "Offline")
        tab.wait_text(".bubble", "before")  # still to be read
    ann.fill("#text", "while offline")
    ann.press("Enter")
    ann.wait_text("#error", "There is no connection")
    assert ann.eval("document.querySelector('#text').value") == "while offline"

    serve(APPS, listen=first.netloc)
    bob.click("#retry", servers.PATIENCE)
    for tab in tabs:
        is_connected(tab)  # Ann's comes back by itself
        tab.wait("document.querySelector('#offline').hidden")
        tab.wait_text("h1", "tearoom")
    ann.wait("document.querySelectorAll('#people .person').length === 2")
    say(bob, "after")
    hears(ann, "after")
    assert ann.texts(".bubble") == ["after"]  # the server's memory is new
    assert ann.text("#my-name") == "Ann"
    for tab in tabs:
        assert only_refused(tab.errors)
        tab.close()


def test_a_message_that_may_be_lost_stays(browser):
    server = servers.Server(APPS, verb="dev")
    try:
        tab = browser.tab(f"http://{server.netloc}/chat/")
        tab.press("Escape")
        tab.wait_text("#my-name", "Guest")
        server.signal(signal.SIGSTOP)
        tab.fill("#text", "Are you there?")
        tab.press("Enter")
        tab.wait("document.querySelectorAll('.own.pending').length === 1")
    finally:
        server.kill()
    tab.wait_text("#error", "Your message may not have arrived")
    assert tab.eval("document.querySelector('#text').value") == "Are you there?"
    assert tab.count(".own") == 0
    assert only_refused(tab.errors)
    tab.close()


def test_reading_further_up(chat):
    ann, bob = chat("Ann", height=500), chat("Bob")
    for i in range(9):
        say(bob, f"line {i}\n\n\n")
        say(ann, f"answer {i}\n\n\n")
    at_end = "(box => box.scrollHeight - box.scrollTop - box.clientHeight < 2)(document.querySelector('#log'))"
    ann.wait(at_end)
    ann.eval("document.querySelector('#log').scrollTop = 0")
    ann.eval("new Promise(requestAnimationFrame)")
    time.sleep(1)  # for the flood limit
    say(bob, "one more")
    ann.wait_text("#latest", "1 new message")
    assert ann.eval("document.querySelector('#log').scrollTop") == 0
    assert ann.eval("document.title").startswith("(1) lobby")
    ann.click("#latest")
    ann.wait(at_end)
    ann.wait("document.querySelector('#latest').hidden && document.title.startsWith('lobby')")


def test_a_long_talk_stays_small(chat):
    ann = chat("Ann")
    ann.eval("""import('/chat/messages.js').then(({ MessageList }) => {
        const list = window.list = new MessageList(document.querySelector('#log'), document.querySelector('#messages'));
        const message = (i) => ({ id: i, from: i % 7 < 3 ? 'Bob' : 'Kim', text: `message ${i}`, time: 1.7e9 + i * 60 });
        list.reset(Array.from({ length: 10_000 }, (_, i) => message(i)), 'Ann');
        window.after = document.querySelectorAll('#messages li').length;
        for (let i = 10_000; i < 12_000; i++) list.add(message(i));
        for (let i = 0; i < 1_000; i++) list.note(`Guest ${i} joined`);
    })""")
    assert 390 <= ann.eval("after") <= 410
    assert ann.eval("document.querySelectorAll('#messages li').length") == 400
    assert ann.text("#messages li.message:nth-last-child(2) .bubble") == "message 11999"
    assert ann.text(".note") == "… 997 more · Guest 997 joined · Guest 998 joined · Guest 999 joined"
    assert ann.eval("document.querySelector('#messages .message').classList.contains('first')")


def test_chat_on_a_phone(chat):
    ann = chat("W" * 24, width=320, height=568, phone=True)
    bob = chat("Bob")
    say(ann, "W" * 400)
    say(ann, "https://example.org/" + "a" * 300)
    say(bob, "ordinary words, and then " + "m" * 200)
    hears(ann, "ordinary words")
    assert_fits(ann)

    assert not ann.is_visible("#side")
    ann.click("#menu")
    ann.wait("document.querySelector('#menu').getAttribute('aria-expanded') === 'true'")
    assert ann.is_visible("#side")
    assert ann.eval("document.activeElement.closest('#rooms') !== null")
    assert_fits(ann)
    ann.press("Escape")
    ann.wait("document.activeElement.id === 'menu'")
    assert not ann.is_visible("#side")
    ann.click("#menu")
    ann.click("#rooms a[href='#workshop']")
    ann.wait_text("h1", "workshop")
    assert not ann.is_visible("#side")
    ann.click("#menu")
    ann.click("#rename")
    ann.wait("document.querySelector('#name-dialog').open")
    assert ann.eval("document.querySelector('#name-dialog').getBoundingClientRect().right <= innerWidth")


# ---- all pages --------------------------------------------------------------------------------------

@pytest.mark.parametrize("app", PAGES)
@pytest.mark.parametrize("width", [320, 768, 1280])
def test_pages_fit(open_tab, app, width):
    tab = open_tab(f"/{app}/", width=width, height=568, phone=width < 1000)
    tab.wait("document.readyState === 'complete'")
    assert_fits(tab)
    tab.view(width=width, height=568, dark=True)
    assert_fits(tab)


@pytest.mark.parametrize("app", PAGES)
def test_everything_has_a_name(open_tab, app):
    """What can be used has a name for those who do not see it."""
    tab = open_tab(f"/{app}/")
    if app == "chat":
        tab.press("Escape")
        tab.wait_text("#my-name", "Guest")
    assert tab.eval("""[...document.querySelectorAll('button, a, input, textarea, [role=log], [role=group]')]
        .filter(e => e.checkVisibility({ visibilityProperty: true }))
        .filter(e => !(e.ariaLabel || e.ariaLabelledByElements?.length || e.labels?.length || e.textContent.trim()))
        .map(e => e.outerHTML.slice(0, 100))""") == []
    assert tab.eval("document.documentElement.lang && document.title && document.querySelector('h1') !== null")
    assert tab.eval("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
                    " === document.querySelectorAll('[id]').length")


def contrasts(tab):
    """Texts whose contrast to what is behind them is below 4.5 (WCAG AA)."""
    return tab.eval("""(() => {
        const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const rgba = (color) => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => {
            for (; e; e = e.parentElement) {
                const style = getComputedStyle(e);
                const stops = style.backgroundImage.match(/rgba?\\([^)]*\\)/g);
                if (stops) return stops.map(rgba);
                if (rgba(style.backgroundColor)[3] === 255) return [rgba(style.backgroundColor)];
            }
            return [[255, 255, 255]];
        };
        const bad = [];
        for (const e of document.querySelectorAll('body *')) {
            const says = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
            if (!says || e.disabled || e.closest('[hidden], noscript') || !e.checkVisibility({ visibilityProperty: true })) continue;
            const ink = light(rgba(getComputedStyle(e).color));
            for (const ground of behind(e).map(light)) {
                const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
                if (ratio < 4.5) bad.push(`${ratio.toFixed(2)}: ${e.outerHTML.slice(0, 120)}`);
            }
        }
        return bad;
    })()""")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read(chat, open_tab, dark):
    ann = chat("Ann", dark=dark)
    for name in ("Bob", "Zoë", "李雷", "Mira"):
        say(chat(name), "hello")
    say(ann, "see https://example.org/")
    ann.wait("document.querySelectorAll('.message').length === 5")
    assert contrasts(ann) == []
    ann.eval("document.querySelector('#offline').hidden = document.querySelector('#error').hidden = false")
    ann.eval("document.querySelector('#error').textContent = 'error'")
    ann.click("#rename")
    ann.fill("#name", "bob")
    ann.press("Enter")
    ann.wait_text("#name-error", "taken")
    assert contrasts(ann) == []
    counter = open_tab("/counter/", dark=dark)
    is_connected(counter)
    assert contrasts(counter) == []
    accounts = open_tab("/accounts/", dark=dark)
    is_connected(accounts)
    assert contrasts(accounts) == []
    enter(accounts, "Ann", "#sign-up")
    accounts.eval("document.querySelector('#error').textContent = 'error'")
    assert contrasts(accounts) == []
    echo = open_tab("/echo/", dark=dark)
    echo.click("#send")
    echo.wait_text("#traffic", "Hello!")
    assert contrasts(echo) == []


# ---- accounts ---------------------------------------------------------------------------------------

def enter(tab, name, button="#sign-in", password="correct horse"):
    """Fills the form and sends it."""
    tab.fill("[name=name]", name)
    tab.fill("[name=password]", password)
    tab.click(button)
    if password == "correct horse":
        tab.wait_text("#me", name)
        is_connected(tab)


def are_in(tab, *people):
    tab.wait("[...document.querySelectorAll('#people li')].map(e => e.innerText.replace(/\\s+/g, ' ')).join() === "
             + json.dumps(",".join(people)))


def test_accounts(open_tab, browser):
    ann = open_tab("/accounts/")
    is_connected(ann)
    ann.wait_text("#nobody", "Nobody")
    enter(ann, "Ann", "#sign-up")
    are_in(ann, "Ann 1 tab")
    assert not ann.is_visible("#close-others")

    two = browser.tab(ann.eval("location.href"), beside=ann)  # the same cookies
    two.wait_text("#me", "Ann")
    are_in(ann, "Ann 2 tabs")
    bob = open_tab("/accounts/")  # another browser
    enter(bob, "Bob", "#sign-up")
    for tab in (ann, two, bob):
        are_in(tab, "Ann 2 tabs", "Bob 1 tab")
    ann.wait_text("#tabs", "You are signed in on 2 tabs.")

    ann.click("#close-others")
    two.wait("!document.querySelector('#away').hidden")
    for tab in (ann, bob):
        are_in(tab, "Ann 1 tab", "Bob 1 tab")
    two.click("#back")
    two.wait_text("#me", "Ann")
    for tab in (ann, bob):  # Ann's has another button then, so the mouse must not be on its way
        are_in(tab, "Ann 2 tabs", "Bob 1 tab")

    ann.click("#sign-out")
    for tab in (ann, two):  # signing out in one tab is signing out in all
        tab.wait("!document.querySelector('#door').hidden")
        are_in(tab, "Bob 1 tab")
    ann.reload()
    ann.wait("!document.querySelector('#door').hidden")

    enter(ann, "Ann", password="battery staple")
    ann.wait_text("#error", "Wrong name or password")
    enter(ann, "ann", "#sign-up", password="battery staple")
    ann.wait_text("#error", "That name is taken")
    enter(ann, "Ann")
    ann.reload()
    ann.wait_text("#me", "Ann")


def test_accounts_by_plain_forms(open_tab):
    tab = open_tab("/accounts/")
    is_connected(tab)
    tab.fill("[name=name]", "Zoe")
    tab.fill("[name=password]", "correct horse")
    send = "Object.assign(document.querySelector('#door'), { action: '/accounts/%s' }).submit()"  # past the script
    tab.eval(send % "sign_up")
    tab.wait_text("#me", "Zoe")
    tab.eval("document.querySelector('#inside').submit()")
    tab.wait("!document.querySelector('#door').hidden && document.querySelector('#inside').hidden")
    is_connected(tab)
    tab.fill("[name=name]", "Zoe")
    tab.fill("[name=password]", "a wrong one")
    tab.eval(send % "sign_in")
    tab.wait_text("#error", "Wrong name or password")


# ---- counter ----------------------------------------------------------------------------------------

def test_counter(open_tab, site):
    one, two = open_tab("/counter/"), open_tab("/counter/")
    is_connected(one)
    one.wait_text("#watching", "2 are watching")
    one.click("#increment")
    two.wait_text("#value", "1")
    two.click("[value='100']")
    two.click("#decrement")
    for tab in (one, two):
        tab.wait("document.querySelector('#value').innerText === '−99'")
    assert fetch(site, post("/counter", call("increment", {"by": 1000}))).json()["result"] == 901
    for tab in (one, two):
        tab.wait("document.title === '901 · Perigee counter'")
    one.click("#reset")
    two.wait("document.querySelector('#value').innerText === '0'")
    two.close()
    one.wait_text("#watching", "Only you are watching")
    assert site.netloc in one.text("#curl")


def test_counter_reconnects(browser, serve):
    first = serve(APPS)  # in dev the page would load itself anew
    tab = browser.tab(f"http://{first.netloc}/counter/")
    tab.click("#increment")
    tab.wait_text("#value", "1")
    first.stop()
    tab.wait("document.querySelector('#increment').disabled")
    tab.wait_text("#status", "Offline")
    second = serve(APPS, listen=first.netloc)
    is_connected(tab)
    tab.wait("document.querySelector('#value').innerText === '0'")
    fetch(second, post("/counter", call("increment", [])))
    tab.wait("document.querySelector('#value').innerText === '1'")
    assert only_refused(tab.errors)
    tab.close()


# ---- echo -------------------------------------------------------------------------------------------

def test_echo(open_tab):
    tab = open_tab("/echo/")

    def sends(text, way, *answers):
        before = tab.count("#traffic .in")
        tab.click(f"[value={way}]")
        tab.fill("#text", text)
        tab.click("#send")
        tab.wait(f"document.querySelectorAll('#traffic .in').length === {before + len(answers)}")
        assert tab.texts("#traffic .in pre")[:len(answers)] == list(answers)

    for way in ("socket", "post"):
        sends(call("echo", ["Hello!"]), way, '{"jsonrpc":"2.0","result":"Hello!","id":1}')
        sends(call("reverse", {"text": "<b>日本"}), way, '{"jsonrpc":"2.0","result":"本日>b<","id":1}')
        sends(call("later", ["x"]), way, '{"jsonrpc":"2.0","result":"x","id":1}')
    for text in ("hello", "<img src=x>", call("echo", [1])):
        sends(text, "raw", text)
    assert tab.count("#traffic img") == 0
    assert tab.text("#traffic .in p") == "from /echo/raw"


def test_echo_examples(open_tab):
    tab = open_tab("/echo/")
    tab.click("[value=post]")
    expected = {"echo": "Hello!", "reverse": "🚀 本日 ,olleH", "two at once": "owt", "a mistake": -32601, "no JSON": -32700}
    for name, what in expected.items():
        before = tab.count("#traffic .in")
        tab.eval(f"[...document.querySelectorAll('.examples button')].find(b => b.innerText === {json.dumps(name)}).click()")
        tab.click("#send")
        tab.wait(f"document.querySelectorAll('#traffic .in').length > {before}")
        answer = json.loads(tab.text("#traffic .in pre"))
        if isinstance(answer, list):
            assert [one["result"] for one in answer] == [1, what]
        else:
            assert answer.get("result", answer.get("error", {}).get("code")) == what
