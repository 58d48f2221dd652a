"""Opens exported pages in a browser and compares what they compute with the program: tests/browser.sh."""

import array
import base64
import json
import os
import pathlib
import struct
import subprocess
import sys
import time
import zlib

from browser import Browser

NETWORKS = ["chain", "convolutions", "dense", "mps", "mps-all", "padded"]
CLOSE = 1e-4
IMAGES, SIZE, CLASSES = 256, 784, 10

chromium, folder = sys.argv[1], pathlib.Path(sys.argv[2])
pictures = os.environ.get("TNET_PICTURES")


def floats(path):
    numbers = array.array("f")
    numbers.frombytes(path.read_bytes())
    return numbers


images = floats(folder / "images.f32")
assert len(images) == IMAGES * SIZE
as_base64 = base64.b64encode(images.tobytes()).decode()

# All images, one after the other, as the page computes what is drawn.
ALL = f"""(async () => {{
    const numbers = new Float32Array(bytesOf({json.dumps(as_base64)}).buffer);
    const all = [];
    for (let at = 0; at < {IMAGES}; at++) {{
        all.push(...await compute.logits(numbers.slice(at * {SIZE}, (at + 1) * {SIZE})));
    }}
    return all;
}})()"""


def apart(one, other):
    return max(abs(first - second) for first, second in zip(one, other, strict=True))


def best(logits, at):
    own = logits[at * CLASSES:(at + 1) * CLASSES]
    return max(range(CLASSES), key=lambda c: own[c])


def check(browser, name, by, half):
    page = f"{name}-half" if half else name
    browser.open(folder / f"{page}.html")
    test, computes = browser.text("self-test"), browser.text("computes")
    assert test.startswith("pass") and test.endswith(f"({by})"), (name, test, computes)
    assert computes.startswith(by), (name, computes)
    # The program's answers, with the same weights.
    expected, found = floats(folder / f"{page}.f32"), browser.run(ALL)
    off = apart(found, expected)
    assert off < CLOSE and all(best(found, at) == best(expected, at) for at in range(IMAGES)), (page, by, off)
    asked, logged, thrown = browser.requests()
    assert len(asked) == 1 and asked[0].startswith("file://"), asked
    refused = [line for line in logged if "Content Security Policy" in line or "Failed to load" in line]
    assert not refused and not thrown, (refused, thrown)
    more = ""
    if half:
        # Weights of 15 binary digits are another network, though not by much: two classes whose logits are as near may change
        # places, in one of these images at most.
        whole = floats(folder / f"{name}.f32")
        changed = apart(found, whole)
        other = sum(best(found, at) != best(whole, at) for at in range(IMAGES))
        assert changed < 1e-3 and other <= 1, (page, changed, other)
        more = f", within {changed:.1e} of those with weights of 32 bits; {other} classes differ"
    print(f"{by}, {page}: logits within {off:.1e} of the program's{more}")


def check_itself(browser, page, by):
    """The largest difference that the page finds, of a page that tests itself."""
    browser.open(page)
    test = browser.text("self-test")
    assert test.startswith("pass") and test.endswith(f"({by})"), (page, test, browser.text("computes"))
    return float(test.split(" are within ")[1].split()[0])


# What makes a launch of each kernel wrong.
WRONG = {
    "activate.wgsl": lambda params: params.update(relu=0),
    "chain_step.wgsl": lambda params: params.update(q_end=params["q_end"] - 1),
    "contract.wgsl": lambda params: params.update(r_end=params["r_end"] - 1),
    "patches.wgsl": lambda params: params["window"].update(padding=params["window"]["padding"] + 1),
    "pool.wgsl": lambda params: params.update(mean=1 - params["mean"]),
}


def changed(page, change):
    """A page beside another, whose network is changed."""
    begin, end = '<script id="network" type="application/json">', "</script>"
    before, rest = page.read_text().split(begin, 1)
    text, after = rest.split(end, 1)
    network = json.loads(text)
    change(network)
    path = folder / "wrong.html"
    path.write_text(before + begin + json.dumps(network).replace("<", "\\u003c") + end + after)
    return path


def without_a_number(network):
    """The first logit is NaN, which must not be lost among the others."""
    weights = bytearray(base64.b64decode(network["weights"]))
    weights[-4 * CLASSES:-4 * CLASSES + 4] = struct.pack("<f", float("nan"))
    network["weights"] = base64.b64encode(weights).decode()


def fails(browser, path, by):
    browser.open(path)
    test, computes = browser.text("self-test"), browser.text("computes")
    assert test.startswith("fail") and test.endswith(f"({by})"), (test, computes)
    # What failed does not answer.
    if by == "webgpu":
        browser.until("compute instanceof InJavaScript")
        computes = browser.text("computes")
        assert computes == "javascript, since WebGPU failed the self-test", computes


def find_what_is_wrong(browser, by):
    """The self-test fails where one launch of any kernel is wrong, or a number is none."""
    found = set()
    for name in ["convolutions", "mps-all"]:
        page = folder / f"{name}.html"
        browser.open(page)
        for file in browser.run("network.kernels.map((kernel) => kernel.file)"):

            def change(network):
                kernel = [kernel["file"] for kernel in network["kernels"]].index(file)
                WRONG[file](next(launch for launch in network["launches"] if launch["kernel"] == kernel)["params"])

            fails(browser, changed(page, change), by)
            found.add(file)
        fails(browser, changed(page, without_a_number), by)
    assert found == set(WRONG), found
    print(f"{by}: a wrong parameter of each of {len(found)} kernels and a NaN are found by the self-test")


def lose_the_gpu(browser):
    """Where the GPU fails, or is lost while it answers, the page goes on in JavaScript and says so."""
    page = folder / "mps-all.html"

    # Nothing is launched, of which JavaScript knows nothing.
    def change(network):
        network["launches"][-1]["workgroups"] = [0, 0]

    fails(browser, changed(page, change), "webgpu")
    settled(browser)
    idle = shares(browser)

    browser.open(page)
    settled(browser)
    assert idle == shares(browser), (idle, shares(browser))
    browser.run("document.querySelectorAll('#samples button')[1].click(); compute.device.destroy()")
    browser.until("compute instanceof InJavaScript")
    settled(browser)
    browser.until("document.getElementById('self-test').textContent.endsWith('(javascript)')")
    assert browser.text("self-test").startswith("pass"), browser.text("self-test")
    assert browser.text("computes").startswith("javascript, since "), browser.text("computes")
    assert browser.text("answer").startswith("Trouser"), browser.text("answer")
    assert not browser.requests()[2], browser.requests()[2]
    print(f"lost: {browser.text('computes')}")


def png(pixels, height, width):
    """A grey PNG file."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(pixels[row * width:(row + 1) * width]) for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def predicted(model, path):
    """The probabilities that `predict` prints."""
    program = [*os.environ.get("CARGO", "cargo").split(), "run", "-q", "--release", "--locked", "--"]
    line = subprocess.run([*program, "predict", model, path, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(line)["probabilities"]


def shares(browser):
    return [float(text.split()[0]) for text in browser.run("[...document.querySelectorAll('#bars .share')].map((s) => s.textContent)")]


def settled(browser):
    browser.until("!isAnswering && !isStale")


DROP = "new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })"
PASTE = "new ClipboardEvent('paste', { clipboardData: data, bubbles: true })"


def drop(browser, name, content, kind, event=DROP):
    """Drops a file on the page, or pastes it."""
    data = base64.b64encode(content).decode()
    browser.run(f"""(() => {{
        window.before = document.getElementById('answer').textContent;
        const data = new DataTransfer();
        data.items.add(new File([bytesOf({json.dumps(data)})], {json.dumps(name)}, {{ type: {json.dumps(kind)} }}));
        brought = null;
        document.getElementById('message').textContent = '';
        document.body.dispatchEvent({event});
    }})()""")
    browser.until("brought !== null || document.getElementById('message').textContent !== ''")
    settled(browser)
    return browser.text("message")


def use(browser):
    """Draws, drops and types."""
    name = "mps-all"
    browser.look(1280)
    browser.open(folder / f"{name}.html")
    settled(browser)

    # A filled shirt: body and sleeves, by a thick brush.
    browser.run("document.getElementById('clear').click()")
    settled(browser)
    empty = shares(browser)
    browser.run("document.getElementById('brush').value = 4")
    box = browser.run("(({left, top, width, height}) => [left, top, width, height])(drawing.getBoundingClientRect())")

    def stroke(*places):
        for at, (x, y) in enumerate(places):
            kind = "mousePressed" if at == 0 else "mouseMoved"
            place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
            browser.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **place)
        browser.call("Input.dispatchMouseEvent", type="mouseReleased", button="left", clickCount=1, **place)
        settled(browser)
        return shares(browser)

    # The bars follow every stroke.
    told = [empty]
    for column in range(7):
        x = 0.32 + 0.06 * column
        told.append(stroke((x, 0.15), (x, 0.9)))
    told.append(stroke((0.3, 0.17), (0.12, 0.5)))
    told.append(stroke((0.7, 0.17), (0.88, 0.5)))
    assert all(before != after for before, after in zip(told, told[1:])), told
    print(f"drawn, a shirt: {browser.text('answer')}")
    assert browser.text("answer").split(",")[0] in ["Shirt", "T-shirt/top", "Pullover", "Coat", "Dress"], browser.text("answer")
    # What a screen reader says, once the strokes are done.
    browser.until("element('said').textContent === element('answer').textContent")
    if pictures:
        browser.picture(os.path.join(pictures, "drawn.png"))

    # A second finger draws nothing while the first one does.
    def pointer(kind, finger, x, y):
        place = f"clientX: {box[0] + x * box[2]}, clientY: {box[1] + y * box[3]}"
        browser.run(f"drawing.dispatchEvent(new PointerEvent('{kind}', {{ pointerId: {finger}, {place} }})), 1")
        settled(browser)
        return browser.run("[...pixels]")

    before = pointer("pointerdown", 7, 0.1, 0.1)
    assert pointer("pointerdown", 8, 0.9, 0.9) == before
    assert pointer("pointermove", 8, 0.5, 0.9) == before
    pointer("pointerup", 8, 0.5, 0.9)
    assert pointer("pointermove", 7, 0.1, 0.9) != before
    pointer("pointerup", 7, 0.1, 0.9)
    assert browser.run("last") is None

    # By the keyboard alone.
    browser.run("document.getElementById('clear').click(); drawing.focus()")
    settled(browser)
    for key, code in [(" ", "Space"), *[("ArrowDown", "ArrowDown")] * 10]:
        text = {"text": key} if key == " " else {}
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, **text)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)
    settled(browser)
    assert shares(browser) != empty and max(browser.run("[...pixels]")) > 200

    # A picture in the network's size, one in another, and what predict says to the same files. A canvas keeps grey as it
    # is; sums in another order may round a level otherwise.
    levels = [round(255 * number) for number in images[5 * SIZE:6 * SIZE]]
    larger = [levels[row * 28 // 90 * 28 + column * 28 // 70] for row in range(90) for column in range(70)]
    for file, content in [("small.png", png(levels, 28, 28)), ("large.png", png(larger, 90, 70))]:
        path = folder / file
        path.write_bytes(content)
        assert drop(browser, file, content, "image/png") == ""
        expected = [100 * share for share in predicted(folder / f"{name}.cores", path)]
        off = max(abs(one - other) for one, other in zip(shares(browser), expected, strict=True))
        assert off <= 0.06 if file == "small.png" else off < 2, (file, off)
        print(f"dropped, {file}: {browser.text('answer')}, within {off:.2f} % of predict")

    # A JPEG file, which the browser itself makes.
    jpeg = browser.run("""(async () => {
        const canvas = new OffscreenCanvas(60, 60);
        canvas.getContext('2d').drawImage(document.getElementById('seen'), 0, 0, 60, 60);
        const blob = await canvas.convertToBlob({ type: 'image/jpeg' });
        return btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())));
    })()""")
    assert drop(browser, "photo.jpg", base64.b64decode(jpeg), "image/jpeg") == ""
    print(f"dropped, photo.jpg: {browser.text('answer')}")

    answer = browser.text("answer")
    message = drop(browser, "notes.txt", b"no picture", "text/plain")
    assert message.startswith("notes.txt: expected a picture"), message
    assert browser.text("answer") == answer
    print(f"dropped, notes.txt: {message}")

    # Dark ink on bright paper is noticed, and turned by the box.
    bright = png([255 - level for level in levels], 28, 28)
    assert "try Invert" in drop(browser, "bright.png", bright, "image/png")
    browser.run("document.getElementById('invert').click()")
    settled(browser)
    assert browser.run("[...pixels]") == levels and browser.text("message") == ""

    # The same pasted.
    browser.run("document.getElementById('invert').click(); document.getElementById('clear').click()")
    settled(browser)
    assert drop(browser, "pasted.png", png(levels, 28, 28), "image/png", PASTE) == ""
    assert browser.run("[...pixels]") == levels

    # A test image, by its button.
    browser.run("document.querySelectorAll('#samples button')[1].click()")
    settled(browser)
    assert browser.run("[...pixels]") == browser.run("[...samples[1].pixels]")
    assert browser.text("answer").startswith("Trouser"), browser.text("answer")


def look(browser):
    """Nothing is wider than the screen, and every control has a name."""
    for width, height in [(1280, 900), (390, 844)]:
        for dark in [False, True]:
            browser.look(width, height, dark)
            browser.open(folder / "mps-all.html")
            settled(browser)
            wide = browser.run("""[...document.querySelectorAll('main, section, header, #bars li, button, canvas, label, dd, p, h1, h2, table, .scroll')]
                .filter((e) => e.getBoundingClientRect().width > 0)
                .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1)
                .map((e) => e.outerHTML.slice(0, 80))""")
            assert not wide, (width, wide)
            # On a small screen too, what is drawn and the bars of what it may be are seen together.
            seen = browser.run("""[drawing, ...document.querySelectorAll('#answer, #bars li:nth-child(-n+5)')]
                .map((e) => e.getBoundingClientRect()).every((box) => box.top >= 0 && box.bottom <= innerHeight)""")
            assert seen, width
            if pictures:
                scheme = "dark" if dark else "light"
                browser.picture(os.path.join(pictures, f"page-{width}-{scheme}.png"))
    nameless = browser.run("""[...document.querySelectorAll('button, input, canvas[tabindex]')]
        .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()))
        .map((e) => e.outerHTML.slice(0, 80))""")
    assert not nameless, nameless


begin = time.monotonic()
for webgpu, by in [(True, "webgpu"), (False, "javascript")]:
    with Browser(chromium, webgpu) as browser:
        for half in [False, True]:
            for name in NETWORKS:
                check(browser, name, by, half)
        own = [check_itself(browser, page, by) for page in sorted(folder.glob("any-*.html"))]
        assert len(own) == 24, own
        print(f"{by}, {len(own)} networks drawn at random: logits within {max(own):.1e} of the program's")
        check_itself(browser, pathlib.Path(__file__).parent.parent / "docs/demo/index.html", by)
        find_what_is_wrong(browser, by)
        use(browser)
        if webgpu:
            lose_the_gpu(browser)
            look(browser)
print(f"pages: all as they should be, in {time.monotonic() - begin:.0f} s")
