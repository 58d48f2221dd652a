// What computes the network: its launches on a GPU, through WebGPU, or the same launches in JavaScript.
//
// A launch names a kernel, its parameters and its buffers. `network` is what the page holds: see network() in
// src/export/html/mod.rs.

// The bytes of a base64 text.
function bytesOf(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// What a buffer holds at first: zeros, or a weight. Its numbers have 32 bits each, or are integers of 16 bits in blocks, and
// before each block stands the step that its integers count in.
function contentOf(buffer, block, weights) {
    const numbers = new Float32Array(buffer.numbers);
    if (buffer.begin === undefined) {
        return numbers;
    }
    let at = buffer.begin;
    let step = 1;
    return numbers.map((_, index) => {
        if (!block) {
            return weights.getFloat32(at + 4 * index, true);
        }
        if (index % block === 0) {
            step = weights.getFloat32(at + 2 * index, true);
            at += 4;
        }
        return step * weights.getInt16(at + 2 * index, true);
    });
}

function contentsOf(network) {
    const weights = new DataView(bytesOf(network.weights).buffer);
    return network.buffers.map((buffer) => contentOf(buffer, network.block, weights));
}

// ---- JavaScript ----
//
// Each function computes what the kernel of that name does, in its letters. Sums are taken in 64 bits.

// The offsets of all indices of three modes: in the core, and in the other tensor.
function offsetsOf(modes) {
    const offsets = [];
    for (let first = 0; first < modes.extent_0; first++) {
        for (let second = 0; second < modes.extent_1; second++) {
            for (let third = 0; third < modes.extent_2; third++) {
                offsets.push([
                    first * modes.core_0 + second * modes.core_1 + third * modes.core_2,
                    first * modes.tensor_0 + second * modes.tensor_1 + third * modes.tensor_2,
                ]);
            }
        }
    }
    return offsets;
}

const START_BIAS = 1;
const START_OUTPUT = 2;

function startOf(start, bias, output) {
    return start === START_BIAS ? bias : start === START_OUTPUT ? output : 0;
}

const IN_JAVASCRIPT = {
    // Y[w,v] = Σ_{s,k} G[w,k,s] Σ_r X[s,r] F[r,k,v] + B[w,v]
    "contract.wgsl"(params, [x, f, g, bias, y]) {
        const view = params.view;
        const sums = new Float64Array(view.w);
        for (let sample = 0; sample < params.batch; sample++) {
            const fromX = sample * view.s * view.r;
            const toY = sample * view.w * view.v;
            for (let v = 0; v < view.v; v++) {
                sums.fill(0);
                for (let s = params.s_begin; s < params.s_end; s++) {
                    for (let k = params.k_begin; k < params.k_end; k++) {
                        let u = 0;
                        for (let r = params.r_begin; r < params.r_end; r++) {
                            u += x[fromX + s * view.x_s + r * view.x_r] * f[r * view.f_r + k * view.f_k + v * view.f_v];
                        }
                        for (let w = 0; w < view.w; w++) {
                            sums[w] += u * g[w * view.g_w + k * view.g_k + s * view.g_s];
                        }
                    }
                }
                for (let w = 0; w < view.w; w++) {
                    const at = w * view.y_w + v * view.y_v;
                    y[toY + at] = sums[w] + startOf(params.start, bias[at], y[toY + at]);
                }
            }
        }
    },

    // out[p,s,r] = Σ_q G[s,q] T[p,q,r]
    "chain_step.wgsl"(params, [core, t, bias, out]) {
        const ofS = offsetsOf(params.s);
        const ofQ = offsetsOf(params.q).slice(params.q_begin, params.q_end);
        for (let p = 0; p < params.p; p++) {
            for (let r = 0; r < params.r; r++) {
                const fromT = p * params.p_t + r * params.r_t;
                const toOut = p * params.p_out + r * params.r_out;
                for (const [sInCore, sInOut] of ofS) {
                    let sum = 0;
                    for (const [qInCore, qInT] of ofQ) {
                        sum += core[sInCore + qInCore] * (params.ones ? 1 : t[fromT + qInT]);
                    }
                    const at = toOut + sInOut;
                    out[at] = sum + startOf(params.start, bias[at % params.bias_count], out[at]);
                }
            }
        }
    },

    // patches[position, j, tap] = X[j, under the tap], 0 outside the image
    "patches.wgsl"(params, [x, patches]) {
        const window = params.window;
        let at = 0;
        for (let row = 0; row < window.rows; row++) {
            for (let column = 0; column < window.columns; column++) {
                for (let j = 0; j < window.channels; j++) {
                    for (let tapRow = 0; tapRow < window.kernel_rows; tapRow++) {
                        for (let tapColumn = 0; tapColumn < window.kernel_columns; tapColumn++) {
                            const y = row * window.stride + tapRow - window.padding;
                            const z = column * window.stride + tapColumn - window.padding;
                            const inside = y >= 0 && y < window.height && z >= 0 && z < window.width;
                            patches[at++] = inside ? x[(j * window.height + y) * window.width + z] : 0;
                        }
                    }
                }
            }
        }
    },

    // The largest number under the kernel, or the mean.
    "pool.wgsl"(params, [x, y]) {
        const window = params.window;
        let at = 0;
        for (let channel = 0; channel < window.channels; channel++) {
            for (let row = 0; row < window.rows; row++) {
                for (let column = 0; column < window.columns; column++) {
                    const begin = (channel * window.height + row * window.stride) * window.width + column * window.stride;
                    let sum = 0;
                    let largest = -Infinity;
                    for (let tapRow = 0; tapRow < window.kernel_rows; tapRow++) {
                        for (let tapColumn = 0; tapColumn < window.kernel_columns; tapColumn++) {
                            const number = x[begin + tapRow * window.width + tapColumn];
                            sum += number;
                            largest = Math.max(largest, number);
                        }
                    }
                    y[at++] = params.mean ? sum / (window.kernel_rows * window.kernel_columns) : largest;
                }
            }
        }
    },

    // ReLU: nothing is dropped when a network answers.
    "activate.wgsl"(params, [x]) {
        for (let at = 0; at < params.count; at++) {
            if (params.relu && x[at] <= 0) {
                x[at] = 0;
            }
        }
    },
};

class InJavaScript {
    constructor(network) {
        this.network = network;
        this.buffers = contentsOf(network);
        this.name = "javascript";
        this.adapter = "";
    }

    // The logits of an image, whose numbers lie from 0 to 1.
    async logits(image) {
        this.buffers[0].set(image);
        for (const launch of this.network.launches) {
            const compute = IN_JAVASCRIPT[this.network.kernels[launch.kernel].file];
            compute(launch.params, launch.buffers.map((buffer) => this.buffers[buffer]));
        }
        return this.buffers[this.network.logits].slice(0, this.network.classes.length);
    }
}

// ---- WebGPU ----

// The words of a struct, from its members and their values.
function wordsOf(members, values) {
    const word = new DataView(new ArrayBuffer(4));
    return members.flatMap(([name, type]) => {
        if (Array.isArray(type)) {
            return wordsOf(type, values[name]);
        }
        if (type === "f32") {
            word.setFloat32(0, values[name], true);
        } else {
            word.setUint32(0, values[name], true);
        }
        return [word.getUint32(0, true)];
    });
}

class OnGpu {
    // Opens an adapter and compiles the kernels; fails with the reason why that is not possible.
    static async open(network) {
        if (!navigator.gpu) {
            throw new Error("this browser has no WebGPU");
        }
        const adapter = await navigator.gpu.requestAdapter();
        if (!adapter) {
            throw new Error("WebGPU found no adapter");
        }
        const largest = 4 * Math.max(...network.buffers.map((buffer) => buffer.numbers));
        const requiredLimits = {};
        for (const limit of ["maxBufferSize", "maxStorageBufferBindingSize"]) {
            if (largest > adapter.limits[limit]) {
                throw new Error(`the adapter's ${limit} is ${adapter.limits[limit]}, and ${largest} are needed`);
            }
            requiredLimits[limit] = adapter.limits[limit];
        }
        const device = await adapter.requestDevice({ requiredLimits });
        device.pushErrorScope("validation");
        device.pushErrorScope("out-of-memory");
        // Older browsers tell nothing of the adapter.
        const gpu = new OnGpu(network, device, adapter.info ?? {});
        await gpu.prepare();
        for (const error of [await device.popErrorScope(), await device.popErrorScope()]) {
            if (error) {
                throw new Error(error.message);
            }
        }
        return gpu;
    }

    constructor(network, device, info) {
        const named = [info.vendor, info.architecture, info.description].filter((part) => part);
        this.network = network;
        this.device = device;
        this.name = "webgpu";
        this.adapter = named.join(" ") || "an adapter that does not tell its name";
        // One image after the other: they share the buffers.
        this.last = Promise.resolve();
    }

    async prepare() {
        const { device, network } = this;
        const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
        const filled = (numbers) => {
            const buffer = device.createBuffer({ size: numbers.byteLength, usage });
            device.queue.writeBuffer(buffer, 0, numbers);
            return buffer;
        };
        const buffers = contentsOf(network).map(filled);
        const pipelines = await Promise.all(network.kernels.map(({ file, text }) => {
            const module = device.createShaderModule({ label: file, code: text });
            return device.createComputePipelineAsync({ label: file, layout: "auto", compute: { module, entryPoint: "main" } });
        }));
        this.input = buffers[0];
        this.output = buffers[network.logits];
        this.launches = network.launches.map((launch) => {
            const words = wordsOf(network.kernels[launch.kernel].members, launch.params);
            const bound = [...launch.buffers.map((buffer) => buffers[buffer]), filled(Uint32Array.from(words))];
            const pipeline = pipelines[launch.kernel];
            const entries = bound.map((buffer, binding) => ({ binding, resource: { buffer } }));
            const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
            return { pipeline, group, workgroups: launch.workgroups };
        });
        this.bytes = 4 * network.classes.length;
        this.read = device.createBuffer({ size: this.bytes, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    }

    logits(image) {
        const answer = this.last.then(() => this.compute(image));
        this.last = answer.catch(() => {});
        return answer;
    }

    async compute(image) {
        const { device } = this;
        device.queue.writeBuffer(this.input, 0, image);
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        for (const { pipeline, group, workgroups } of this.launches) {
            pass.setPipeline(pipeline);
            pass.setBindGroup(0, group);
            pass.dispatchWorkgroups(...workgroups);
        }
        pass.end();
        encoder.copyBufferToBuffer(this.output, 0, this.read, 0, this.bytes);
        device.queue.submit([encoder.finish()]);
        await this.read.mapAsync(GPUMapMode.READ);
        const logits = new Float32Array(this.read.getMappedRange().slice(0));
        this.read.unmap();
        return logits;
    }
}

// The shares of logits.
function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
}
