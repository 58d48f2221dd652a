// The page: what is drawn or brought, and what the network says to it.

const network = JSON.parse(document.getElementById("network").textContent);
const [channels, height, width] = network.input;
const element = (id) => document.getElementById(id);

// What computes: an OnGpu, or an InJavaScript and why.
let compute = null;
let why = "";
// What the network is shown, 0 to 255, and the picture that it comes from, if it was brought.
let pixels = new Uint8ClampedArray(channels * height * width);
let brought = null;

function made(name, properties, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
}

// ---- The answer ----

const bars = network.classes.map((name) => {
    const bar = made("span");
    const share = made("span", { className: "share" });
    const row = made(
        "li",
        {},
        made("span", { className: "name", textContent: name }),
        made("span", { className: "bar", ariaHidden: "true" }, bar),
        share,
    );
    element("bars").append(row);
    return { row, bar, share };
});

// Screen readers say an answer once it has stood for half a second, not every one while a stroke is drawn.
let saying;
function say(text) {
    clearTimeout(saying);
    saying = setTimeout(() => {
        element("said").textContent = text;
    }, 500);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const times = [];

function tell(logits, milliseconds) {
    const shares = softmax(logits);
    const first = shares.indexOf(Math.max(...shares));
    const text = `${network.classes[first]}, ${percent(shares[first])}`;
    element("answer").textContent = text;
    say(text);
    bars.forEach(({ row, bar, share }, at) => {
        row.classList.toggle("first", at === first);
        bar.style.width = `${100 * shares[at]}%`;
        share.textContent = percent(shares[at]);
    });
    times.push(milliseconds);
    times.splice(0, times.length - 21);
    const median = [...times].sort((one, other) => one - other)[times.length >> 1];
    element("time").textContent = `${median.toFixed(median < 10 ? 2 : 0)} ms`;
}

let isAnswering = false;
let isStale = false;

// Answers what is shown; while it is answered, only the newest of what comes is kept.
async function answer() {
    isStale = true;
    if (isAnswering || !compute) {
        return;
    }
    isAnswering = true;
    while (isStale) {
        isStale = false;
        const by = compute;
        const begin = performance.now();
        try {
            tell(await by.logits(imageOf(pixels)), performance.now() - begin);
        } catch (error) {
            if (by instanceof InJavaScript) {
                isAnswering = false;
                throw error;
            }
            await fallBack(error.message);
            isStale = true;
        }
    }
    isAnswering = false;
}

// ---- What is drawn ----

const drawing = element("drawing");
const scale = 280 / Math.max(height, width);
drawing.width = Math.round(scale * width);
drawing.height = Math.round(scale * height);
const context = drawing.getContext("2d", { willReadFrequently: true });
// As the images that the network was trained on: on a dark ground, or on a bright one.
const isDark = network.border === null || network.border < 128;

function colourOf(brightness) {
    const value = Math.round(2.55 * (isDark ? brightness : 100 - brightness));
    return `rgb(${value} ${value} ${value})`;
}

function clear() {
    context.fillStyle = colourOf(0);
    context.fillRect(0, 0, drawing.width, drawing.height);
}

function line(from, to) {
    context.strokeStyle = colourOf(Number(element("ink").value));
    context.lineWidth = scale * Number(element("brush").value);
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
}

function isSeen() {
    show(element("seen"), pixels, network.input);
    answer();
}

function choose(sample) {
    for (const [at, button] of [...element("samples").children].entries()) {
        button.ariaPressed = String(at === sample);
    }
}

// What is on the board is what the network is shown.
function isDrawn() {
    brought = null;
    choose(-1);
    element("message").textContent = "";
    pixels = pixelsOf(context.getImageData(0, 0, drawing.width, drawing.height), network.input, element("invert").checked);
    isSeen();
}

function placeOf(event) {
    const box = drawing.getBoundingClientRect();
    return [
        (event.clientX - box.left) * drawing.width / box.width,
        (event.clientY - box.top) * drawing.height / box.height,
    ];
}

// Where the line ends, and the pointer that draws it: a second finger draws nothing meanwhile.
let last = null;
let drawnBy = null;

drawing.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (last && event.pointerId !== drawnBy)) {
        return;
    }
    drawnBy = event.pointerId;
    // What a program makes up has no pointer to capture.
    if (event.isTrusted) {
        drawing.setPointerCapture(event.pointerId);
    }
    // A picture that was brought is not drawn over.
    if (brought) {
        clear();
    }
    last = placeOf(event);
    line(last, last);
    isDrawn();
});
drawing.addEventListener("pointermove", (event) => {
    if (!last || event.pointerId !== drawnBy) {
        return;
    }
    for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
        const place = placeOf(part);
        line(last, place);
        last = place;
    }
    isDrawn();
});
for (const end of ["pointerup", "pointercancel"]) {
    drawing.addEventListener(end, (event) => {
        if (event.pointerId === drawnBy) {
            last = null;
        }
    });
}

// The keyboard's pen, in pixels of the network.
const pen = { at: [width / 2, height / 2], isDown: false };

function showPen() {
    const mark = element("pen");
    const size = Number(element("brush").value) * drawing.clientWidth / width;
    Object.assign(mark.style, {
        left: `${100 * pen.at[0] / width}%`,
        top: `${100 * pen.at[1] / height}%`,
        width: `${size}px`,
        height: `${size}px`,
    });
    mark.classList.toggle("down", pen.isDown);
    mark.hidden = !drawing.matches(":focus-visible");
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

drawing.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    const from = pen.at;
    if (move) {
        pen.at = [
            Math.min(Math.max(from[0] + move[0], 0), width),
            Math.min(Math.max(from[1] + move[1], 0), height),
        ];
    } else if (event.key === " ") {
        pen.isDown = !pen.isDown;
    } else if (event.key === "Delete" || event.key === "Backspace") {
        clear();
        isDrawn();
    } else {
        return;
    }
    event.preventDefault();
    if (pen.isDown) {
        if (brought) {
            clear();
        }
        line(from.map((at) => scale * at), pen.at.map((at) => scale * at));
        isDrawn();
    }
    showPen();
});
drawing.addEventListener("focus", showPen);
drawing.addEventListener("blur", () => {
    pen.isDown = false;
    element("pen").hidden = true;
});

element("clear").addEventListener("click", () => {
    clear();
    isDrawn();
});

// ---- What is brought ----

// Shows a picture on the board, as it is, and to the network, as it takes it.
function isBrought(picture) {
    brought = picture;
    choose(-1);
    element("message").textContent = "";
    clear();
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").putImageData(picture, 0, 0);
    const share = Math.min(drawing.width / picture.width, drawing.height / picture.height);
    const size = [share * picture.width, share * picture.height];
    context.drawImage(canvas, (drawing.width - size[0]) / 2, (drawing.height - size[1]) / 2, ...size);
    look();
}

function look() {
    const isInverted = element("invert").checked;
    pixels = pixelsOf(brought, network.input, isInverted);
    if (network.border !== null) {
        const own = borderOf(pixels, network.input);
        // As predict: nearer to that of the training images by a quarter of the whole range.
        if (Math.abs(own - network.border) > Math.abs(255 - own - network.border) + 64) {
            const remedy = isInverted ? "untick Invert" : "try Invert";
            element("message").textContent = `It looks inverted beside the training images, dark for bright: ${remedy}.`;
        }
    }
    isSeen();
}

// Most pixels of a picture, as of `tnet-gpu predict`.
const MOST_PIXELS = 2 ** 26;

async function take(file) {
    const name = file.name || "what was pasted";
    try {
        const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
        const bitmap = await createImageBitmap(file, options);
        if (bitmap.width * bitmap.height > MOST_PIXELS) {
            throw new Error("it has too many pixels");
        }
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        const own = canvas.getContext("2d");
        own.drawImage(bitmap, 0, 0);
        isBrought(own.getImageData(0, 0, bitmap.width, bitmap.height));
    } catch {
        element("message").textContent = `${name}: expected a picture that this browser can read, as PNG or JPEG`;
    }
}

function takeFirst(files) {
    if (files.length > 0) {
        take(files[0]);
    } else {
        element("message").textContent = "There was no file in it: expected a picture, as PNG or JPEG";
    }
}

element("file").addEventListener("change", (event) => {
    takeFirst(event.target.files);
    // So that the same file may be opened again.
    event.target.value = "";
});
document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    takeFirst(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => takeFirst(event.clipboardData.files));
element("invert").addEventListener("change", () => {
    element("message").textContent = "";
    if (brought) {
        look();
    } else {
        isDrawn();
    }
});

// ---- The test images ----

const size = channels * height * width;
const sampled = bytesOf(network.samples.pixels);
const samples = network.samples.labels.map((label, at) => ({
    name: network.classes[label],
    pixels: new Uint8ClampedArray(sampled.buffer, at * size, size),
    logits: network.samples.logits[at],
}));

samples.forEach((sample, at) => {
    const canvas = made("canvas");
    show(canvas, sample.pixels, network.input);
    const name = `Test image ${at + 1}: ${sample.name}`;
    const button = made("button", { type: "button", title: sample.name, ariaLabel: name, ariaPressed: "false" }, canvas);
    button.addEventListener("click", () => chooseSample(at));
    element("samples").append(button);
});

function chooseSample(at) {
    const sample = samples[at];
    element("invert").checked = false;
    // As the board shows it; what the network is shown are the pixels themselves.
    const canvas = new OffscreenCanvas(width, height);
    show(canvas, sample.pixels, network.input);
    isBrought(canvas.getContext("2d").getImageData(0, 0, width, height));
    choose(at);
}

// ---- What computes ----

// Within what the logits must be those that the program has computed: of the largest of them, 32-bit sums in another order
// differ by some millionths.
const CLOSE = 1e-4;

async function selfTest() {
    const by = compute;
    let difference = 0;
    let largest = 1;
    try {
        for (const { pixels, logits } of samples) {
            const own = await by.logits(imageOf(pixels));
            logits.forEach((logit, at) => {
                // Of a number and NaN, NaN.
                difference = Math.max(difference, Math.abs(own[at] - logit));
                largest = Math.max(largest, Math.abs(logit));
            });
        }
    } catch (error) {
        if (by instanceof InJavaScript) {
            throw error;
        }
        await fallBack(error.message);
        return;
    }
    const isPassed = difference <= CLOSE * largest;
    const result = element("self-test");
    result.className = isPassed ? "pass" : "fail";
    result.textContent = `${isPassed ? "pass" : "fail"}: the logits of ${samples.length} test images `
        + `${isPassed ? "are within" : "differ by"} ${difference.toExponential(1)} ${isPassed ? "of" : "from"} those at `
        + `export (${by.name})`;
    // What failed stays to be read, but does not answer.
    if (!isPassed && by instanceof OnGpu) {
        useJavaScript("WebGPU failed the self-test");
    }
}

function showComputes() {
    const by = compute.adapter ? `${compute.name}: ${compute.adapter}` : compute.name;
    element("computes").textContent = why ? `${by}, since ${why}` : by;
    times.length = 0;
}

function useJavaScript(reason) {
    why = reason;
    compute = new InJavaScript(network);
    showComputes();
}

// From now on in JavaScript, if that is not so yet: a GPU that is lost is told of, and fails at its image too.
async function fallBack(reason) {
    if (compute instanceof OnGpu) {
        useJavaScript(reason);
        await selfTest();
    }
}

// An arrow does not stand at the beginning of a line.
const withArrows = (text) => text.replaceAll(" -> ", "\u00a0→ ");

// The GPU, tried twice: a browser may just be starting the process that has it.
async function gpu() {
    try {
        return await OnGpu.open(network);
    } catch (error) {
        if (!navigator.gpu) {
            throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, 250));
        return OnGpu.open(network);
    }
}

async function start() {
    const title = withArrows(network.title);
    const share = (100 * network.parameters / network.dense_parameters).toFixed(1);
    const count = (number) => number.toLocaleString("en");
    element("about").textContent = network.parameters === network.dense_parameters
        ? `${title}. ${count(network.parameters)} parameters.`
        : `${title}. ${count(network.parameters)} parameters, ${share} % of the ${count(network.dense_parameters)} `
            + "of the same network with dense layers.";
    element("seen-size").textContent = ` (${height}\u00a0x\u00a0${width})`;
    for (const { name, summary, parameters, dense } of network.layers) {
        const cells = [
            made("th", { scope: "row", textContent: name }),
            made("td", { className: "words", textContent: withArrows(summary) }),
            made("td", { textContent: parameters }),
            made("td", { textContent: dense }),
        ];
        element("layers").append(made("tr", {}, ...cells));
    }
    clear();
    try {
        compute = await gpu();
        showComputes();
        compute.device.lost.then(({ message }) => fallBack(message || "the GPU was lost"));
    } catch (error) {
        useJavaScript(error.message);
    }
    await selfTest();
    if (samples.length > 0) {
        chooseSample(0);
    } else {
        isDrawn();
    }
}

start();
