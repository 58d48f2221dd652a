// What contract.wgsl and grad_core.wgsl share: an invocation computes TILE_W outputs along w from one number
// U[s,k,v], which never leaves a register.

const TILE_W: u32 = 16u;

// The part of U[s,k,v] = Σ_r X[s,r] F[r,k,v] that the range r_begin to r_end makes.
fn partial_u(sample: u32, s: u32, k: u32, v: u32) -> f32 {
    var at_x = sample * params.view.s * params.view.r + s * params.view.x_s
        + params.r_begin * params.view.x_r;
    var at_f = params.r_begin * params.view.f_r + k * params.view.f_k + v * params.view.f_v;
    var u = 0.0;
    for (var r = params.r_begin; r < params.r_end; r++) {
        u += x[at_x] * f[at_f];
        at_x += params.view.x_r;
        at_f += params.view.f_r;
    }
    return u;
}

// Offsets of four rows from w on; rows past the end are clamped, computed and not stored.
fn four_rows(w: u32, stride: u32) -> vec4<u32> {
    let rows = vec4<u32>(w, w + 1u, w + 2u, w + 3u);
    return min(rows, vec4<u32>(params.view.w - 1u)) * stride;
}

