// Pictures as the numbers that the network takes, as `tnet-gpu predict` makes them (src/data/picture.rs): put on a background
// where they are transparent, made grey where the network has one channel, resized, and inverted where that is asked for.

// Rec. 709, in ten thousandths, as the program has it.
function luma(red, green, blue) {
    return Math.floor((2126 * red + 7152 * green + 722 * blue) / 10000);
}

// For each place of a smaller or larger row, what of the row is summed, by a triangle as wide as a step on either side.
function trianglesOf(from, to) {
    const ratio = from / to;
    const scale = Math.max(ratio, 1);
    return Array.from({ length: to }, (_, at) => {
        const middle = (at + 0.5) * ratio;
        const begin = Math.min(Math.max(Math.floor(middle - scale), 0), from - 1);
        const end = Math.min(Math.max(Math.ceil(middle + scale), begin + 1), from);
        const shares = [];
        for (let place = begin; place < end; place++) {
            shares.push(Math.max(1 - Math.abs((place + 0.5 - middle) / scale), 0));
        }
        const sum = shares.reduce((total, share) => total + share, 0);
        return { begin, shares: shares.map((share) => share / sum) };
    });
}

// A plane of brightness in another size: first its columns, then its rows, rounded once in the end.
function resized(plane, [height, width], [toHeight, toWidth]) {
    if (height === toHeight && width === toWidth) {
        return Uint8ClampedArray.from(plane);
    }
    const between = new Float32Array(toHeight * width);
    trianglesOf(height, toHeight).forEach(({ begin, shares }, row) => {
        shares.forEach((share, at) => {
            for (let column = 0; column < width; column++) {
                between[row * width + column] += share * plane[(begin + at) * width + column];
            }
        });
    });
    const out = new Uint8ClampedArray(toHeight * toWidth);
    trianglesOf(width, toWidth).forEach(({ begin, shares }, column) => {
        for (let row = 0; row < toHeight; row++) {
            let sum = 0;
            shares.forEach((share, at) => {
                sum += share * between[row * width + begin + at];
            });
            out[row * toWidth + column] = Math.round(sum);
        }
    });
    return out;
}

// Brightness from 0 to 255, [channels, height, width], from what a canvas holds.
function pixelsOf({ data, width, height }, [channels, toHeight, toWidth], invert) {
    const background = invert ? 255 : 0;
    const planes = Array.from({ length: channels }, () => new Uint8ClampedArray(width * height));
    for (let at = 0; at < width * height; at++) {
        const opacity = data[4 * at + 3];
        const on = (value) => Math.floor((value * opacity + background * (255 - opacity) + 127) / 255);
        const colours = [on(data[4 * at]), on(data[4 * at + 1]), on(data[4 * at + 2])];
        if (channels === 1) {
            planes[0][at] = luma(...colours);
        } else {
            colours.forEach((value, channel) => {
                planes[channel][at] = value;
            });
        }
    }
    const pixels = new Uint8ClampedArray(channels * toHeight * toWidth);
    planes.forEach((plane, channel) => {
        pixels.set(resized(plane, [height, width], [toHeight, toWidth]), channel * toHeight * toWidth);
    });
    return invert ? pixels.map((value) => 255 - value) : pixels;
}

// The mean brightness of the outermost pixels.
function borderOf(pixels, [channels, height, width]) {
    let sum = 0;
    let count = 0;
    for (let at = 0; at < channels * height * width; at++) {
        const row = Math.floor(at / width) % height;
        const column = at % width;
        if (row === 0 || row === height - 1 || column === 0 || column === width - 1) {
            sum += pixels[at];
            count += 1;
        }
    }
    return sum / count;
}

// What the network takes.
function imageOf(pixels) {
    return Float32Array.from(pixels, (value) => value / 255);
}

// Shows pixels in a canvas of their size.
function show(canvas, pixels, [channels, height, width]) {
    canvas.width = width;
    canvas.height = height;
    const image = new ImageData(width, height);
    for (let at = 0; at < width * height; at++) {
        for (let colour = 0; colour < 3; colour++) {
            image.data[4 * at + colour] = pixels[(channels === 1 ? 0 : colour) * width * height + at];
        }
        image.data[4 * at + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
}
